"""`status`: show the state of the repository on one screen."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.selection import SHORT_ID
from drtool.cli.core.text import Document, count, document_of, duration, local, size
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view
from drtool.config.schema import Redundancy

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.manifest.records import Policy
    from drtool.operations.status import Remark
    from drtool.plans.evidence.proofs import Proof
    from drtool.repository import Repository

_SHOWN = 20
_NAMES_SHOWN = 5
_OF_SOURCE = re.compile(r"source (?P<name>\S+) of (?P<host>\S+): (?P<words>.+)", re.DOTALL)


def status(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Show the state of the repository on one screen.

    The screen shows sites, quorum, copies, the newest snapshot of each source, problems and notices. Exit 7 if there
    is a problem: a missed objective, too few copies, damage, or a target or voter that cannot be used. Exit 6 if
    there is no quorum. A notice needs no action and changes no exit code. The configuration's `objectives:` set the
    requirements for this host's sources. Without them, ages are shown but not judged.

    Examples:
        drtool status
        drtool -q status > trouble.txt || mail -s 'backup trouble' root < trouble.txt
    """
    call: Call = context.obj
    call.begin("status")
    with call.open_for_report(sites(manifest_from)) as repository:
        examined = examine(call, repository)
    call.show(examined.document, status_view(examined.document, examined.promised), exit_code=examined.exit_code)


@dataclass(frozen=True)
class Examined:
    """The findings of `status`, for its own screen and for the page of `report`."""

    document: Document
    exit_code: int
    promised: int


def examine(call: "Call", repository: "Repository") -> Examined:
    """Examine the repository, and the plans that must pass."""
    import time

    from drtool.operations.status import status as run_status
    from drtool.plans.evidence.proofs import proofs

    now_ns = time.time_ns()
    result = run_status(repository, call.emit, call.settings.config.objectives)
    configured, broken = _configured_plans(call)
    rows = proofs(repository.view.state.runs, configured, now_ns)
    policy = repository.view.state.policy
    result = result.judged([*_about_plans(rows, now_ns), *broken, *_about_redundancy(call, policy)])
    uncertain = repository.uncertain
    return Examined(
        document=document_of(result) | {"plans": document_of(rows)},
        exit_code=uncertain.exit_code if uncertain else result.exit_code,
        promised=repository.view.state.policy.copies,
    )


def _about_redundancy(call: "Call", policy: "Policy") -> "Iterable[Remark]":
    """Return a notice for each number of the configuration's `redundancy` that the repository does not use."""
    from drtool.operations.status import notice

    wanted = call.settings.config.redundancy
    minimum = wanted.minimum if wanted != Redundancy() else None
    for key, value, used in (("copies", wanted.copies, policy.copies), ("minimum", minimum, policy.minimum)):
        if value is not None and value != used:
            yield notice(
                f"redundancy.{key} is {value} in the configuration, but the repository uses {used}, as chosen at init: "
                "only a new repository takes the number from the configuration"
            )


def _about_plans(rows: "Iterable[Proof]", now_ns: int) -> "Iterable[Remark]":
    """Return a problem for each plan that did not pass in time."""
    from drtool.operations.status import problem
    from drtool.plans.evidence.proofs import told

    return [problem(told(row, now_ns)) for row in rows if row.met is False]


def _configured_plans(call: "Call") -> "tuple[dict[str, float | None], list[Remark]]":
    """Return how often each plan of this host must pass, by id, and the unreadable plans.

    Without plans nothing is imported.
    """
    from drtool.cli.core.plan_files import plans_directory
    from drtool.operations.status import problem

    directory = plans_directory(call)
    if directory is None:
        return {}, []
    if not directory.is_dir():
        return {}, [problem(f"the directory {directory} is missing, so the plans that must pass are unknown")]
    from drtool.plans.library import list_plans

    listed = list_plans(directory, call.settings.trust)
    plans = [row.plan for row in listed if row.plan is not None]
    broken = [
        problem(f"{row.file} is not a valid plan: drtool plan check {row.file}") for row in listed if row.plan is None
    ]
    return {plan.id: plan.schedule.must_pass_every_s if plan.schedule else None for plan in plans}, broken


def _too_few(row: Document, promised: int) -> bool:
    return row["copies"] is not None and row["copies"] < promised


def status_view(document: Document, promised: int) -> View:
    healthy = Cell("healthy", "good") if document["healthy"] else Cell("needs attention", "bad")
    parts: list[Line] = [line(Cell("repository ", "dim"), healthy)]
    quorum = document["quorum"]
    enough = quorum["reachable"] >= quorum["needed"]
    text = f"{count(quorum['reachable'], 'voter')} reachable, {quorum['needed']} needed"
    parts.append(line(Cell("quorum     ", "dim"), Cell(text, "good" if enough else "bad")))
    parts.append(line(Cell("catalogue  ", "dim"), f"change {document['sequence']}"))
    sources = [_source_row(row, promised) for row in document["sources"]]
    table_of_sources: list[Line | Table] = []
    if sources:
        table_of_sources = [line(""), table("SOURCE HOST NEWEST AGE> RPO> COPIES> VERIFIED OBJECTIVE", sources)]
    if document["plans"]:
        rows = [_plan_row(row) for row in document["plans"]]
        table_of_sources += [line(""), table("PLAN PASSED> MUST-EVERY> NEWEST", rows)]
    remarks = [line(Cell("! ", "bad"), text) for text in grouped(document["problems"])]
    remarks += [line(Cell("- ", "dim"), text) for text in grouped(document["notices"])]
    return view(*parts, line(""), _sites_table(document), *table_of_sources, *([line("")] if remarks else []), *remarks)


def grouped(texts: Sequence[str]) -> list[str]:
    """Return the remarks. One that is the same for several sources of a host is said once, with their names."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for text in texts:
        found = _OF_SOURCE.fullmatch(text)
        names = groups.setdefault(found.group("host", "words") if found else (text,), [])
        names += [found["name"]] if found else []
    return [_said_once(key, names) for key, names in groups.items()]


def _said_once(key: tuple[str, ...], names: Sequence[str]) -> str:
    if len(key) == 1:
        return key[0]
    host, words = key
    if len(names) == 1:
        return f"source {names[0]} of {host}: {words}"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} sources of {host}: {words}: {', '.join(names[:_NAMES_SHOWN])}{more}"


def _sites_table(document: Document) -> Table:
    rows: list[tuple[Cell | str, ...]] = []
    for site in document["sites"]:
        for target in site["targets"]:
            head = (Cell(target["name"], "strong"), _standing(target), _vote(site, target))
            figures = (
                size(target["bytes"]),
                _size(target["free_bytes"]),
                Cell(_size(target["last_backup_bytes"]), "dim"),
            )
            rows.append((*head, f"{target['objects']:,}", *figures))
    return table("TARGET STATE VOTES OBJECTS> HOLDS> FREE> LAST-BACKUP>", rows)


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else size(size_bytes)


def _vote(site: Document, target: Document) -> Cell:
    if not site["votes"]:
        return Cell("no")
    if site["voter_problem"]:
        return Cell("cannot", "bad")
    return Cell("only" if target["state"] == "arbiter" else "yes")


def _standing(target: Document) -> Cell:
    if target["state"] == "lost":
        return Cell("lost", "bad")
    if target["reachable"] and target["writable"] is False:
        return Cell("refuses writes", "bad")
    return Cell("online", "good") if target["reachable"] else Cell("offline", "bad")


def _source_row(row: Document, promised: int) -> tuple[Cell | str, ...]:
    copies = "-" if row["copies"] is None else str(row["copies"])
    verified = local(row["last_verified"]) if row.get("last_verified") else "not proven"
    return (
        Cell(row["name"] or "-", "strong"),
        row["host"],
        (row["newest_snapshot"] or "none")[:SHORT_ID],
        _age(row),
        Cell("-" if row["rpo_seconds"] is None else duration(row["rpo_seconds"]), "dim"),
        Cell(copies, "bad" if _too_few(row, promised) else ""),
        Cell(verified, "dim"),
        Cell("-", "dim") if row["met"] is None else Cell("met", "good") if row["met"] else Cell("missed", "bad"),
    )


def _age(row: Document) -> Cell:
    age_s, rpo_s = row["age_seconds"], row["rpo_seconds"]
    if age_s is None:
        return Cell("-", "bad")
    return Cell(duration(age_s), "bad" if rpo_s is not None and age_s > rpo_s else "")


def _plan_row(row: Document) -> tuple[Cell | str, ...]:
    wanted = row["must_pass_every_seconds"]
    return (
        Cell(row["id"], "strong"),
        Cell(local(row["last_passed"]) if row.get("last_passed") else "never", "bad" if row["met"] is False else ""),
        "-" if wanted is None else duration(wanted),
        row["verdict"] or "-",
    )
