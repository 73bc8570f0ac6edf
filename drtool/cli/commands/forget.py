"""`forget`: select the snapshots to keep by the rules of retention, and remove the others from the list."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import asdict

from drtool.cli.commands.prune import ending, prune_view
from drtool.cli.core.options import DryRun, Hosts, Sources, Tags, narrowing
from drtool.cli.core.text import Document, count, document_of, local
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view
from drtool.config import Retention, nearest
from drtool.config.units import keep_count, span
from drtool.errors import DrtoolError, Refused, UsageError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.forget import ForgetRequest
    from drtool.operations.retention import Rules
    from drtool.operations.retention.groups import Grouping
    from drtool.repository import Repository

SHORT_ID = 8
_COUNT = "N|unlimited"
_SPAN = "1y2m3d4h"
Names = Annotated[
    list[str] | None,
    typer.Option(metavar="SNAPSHOT", help="Forget exactly this snapshot: a prefix of its id, or latest."),
]
Last = Annotated[str | None, typer.Option(metavar=_COUNT, help="Keep the newest N snapshots.")]
Hourly = Annotated[
    str | None, typer.Option(metavar=_COUNT, help="Keep the newest of each of the last N hours that have one.")
]
Daily = Annotated[
    str | None, typer.Option(metavar=_COUNT, help="Keep the newest of each of the last N days that have one.")
]
Weekly = Annotated[
    str | None, typer.Option(metavar=_COUNT, help="Keep the newest of each of the last N ISO weeks that have one.")
]
Monthly = Annotated[
    str | None, typer.Option(metavar=_COUNT, help="Keep the newest of each of the last N months that have one.")
]
Yearly = Annotated[
    str | None, typer.Option(metavar=_COUNT, help="Keep the newest of each of the last N years that have one.")
]
Within = Annotated[
    str | None, typer.Option(metavar=_SPAN, help="Keep all snapshots of this time span before the newest.")
]
WithinHourly = Annotated[
    str | None, typer.Option(metavar=_SPAN, help="Within this time span, keep the newest of each hour.")
]
WithinDaily = Annotated[
    str | None, typer.Option(metavar=_SPAN, help="Within this time span, keep the newest of each day.")
]
WithinWeekly = Annotated[
    str | None, typer.Option(metavar=_SPAN, help="Within this time span, keep the newest of each ISO week.")
]
WithinMonthly = Annotated[
    str | None, typer.Option(metavar=_SPAN, help="Within this time span, keep the newest of each month.")
]
WithinYearly = Annotated[
    str | None, typer.Option(metavar=_SPAN, help="Within this time span, keep the newest of each year.")
]
KeepTags = Annotated[
    list[str] | None, typer.Option("--keep-tag", metavar="TAG", help="Keep all snapshots with this tag.")
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        metavar="WORDS",
        help="Group snapshots by any of host,source,paths,tags; '' makes one group (default host,source).",
    ),
]


def forget(
    context: typer.Context,
    snapshot: Names = None,
    keep_last: Last = None,
    keep_hourly: Hourly = None,
    keep_daily: Daily = None,
    keep_weekly: Weekly = None,
    keep_monthly: Monthly = None,
    keep_yearly: Yearly = None,
    keep_within: Within = None,
    keep_within_hourly: WithinHourly = None,
    keep_within_daily: WithinDaily = None,
    keep_within_weekly: WithinWeekly = None,
    keep_within_monthly: WithinMonthly = None,
    keep_within_yearly: WithinYearly = None,
    keep_tag: KeepTags = None,
    group_by: GroupBy = None,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Forget even the last snapshot of a host's source.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Forget even if the dates or the number of new snapshots look wrong.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Run prune afterwards to free the space.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Forget snapshots that the rules do not keep.

    Without options, the configuration's `retention` applies. A snapshot stays if any rule keeps it. Each host and
    source is judged separately. Hours, days, weeks, months and years are those of the repository's time zone. A
    snapshot dated in the future stays and is not counted.

    The data of forgotten snapshots stays stored until prune removes it. On this host, that is the next prune. On
    other hosts, it is 7 days after they first saw that the snapshots were forgotten.

    Exit 11, with nothing forgotten, in two cases: a host's source would be left without any snapshot, or other
    snapshots would go because of new ones that are dated long before them or are unusually many. New ones are those
    added since the last run on this host.

    Examples:
        drtool forget --dry-run
        drtool forget --prune
        drtool forget --keep-last 3 --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --keep-yearly unlimited
        drtool forget --host web1 --source home --keep-within 14d --keep-within-monthly 1y --keep-tag keep
        drtool forget --snapshot 3f2a1b2c
    """
    call: Call = context.obj
    given = options(
        {"last": keep_last, "hourly": keep_hourly, "daily": keep_daily, "weekly": keep_weekly}
        | {"monthly": keep_monthly, "yearly": keep_yearly},
        {"within": keep_within, "within_hourly": keep_within_hourly, "within_daily": keep_within_daily}
        | {"within_weekly": keep_within_weekly, "within_monthly": keep_within_monthly}
        | {"within_yearly": keep_within_yearly},
        keep_tag,
    )
    from drtool.operations.forget import ForgetRequest
    from drtool.operations.forget import forget as run_forget

    request = ForgetRequest(
        now_ns=time.time_ns(),
        rules=chosen_rules(call, given) if snapshot is None else None,
        snapshots=named(snapshot, given),
        narrowing=narrowing(host, tag, source),
        by=grouping(group_by),
        allow_empty=allow_empty,
        yes=yes,
        dry_run=dry_run,
        go_on_as_if=prune,
    )
    if prune:
        call.begin("prune", dry_run=dry_run)
    with call.open_repository() as repository:
        _tell_zone(call, repository.view.state.policy.timezone)
        document = document_of(run_forget(repository, request, call.emit))
        objections = document[
            "objections"
        ]  # a real run with any objection was refused, and a dry run shows what would be removed
        failure = _prune(call, repository, request, document) if prune and not objections else None
    if objections:
        document["error"] = {"kind": Refused("").kind, **objections[0]}
    if failure is not None:  # the snapshots are forgotten already, and the result shows it
        document["error"] = {"kind": failure.kind, "message": failure.message, "hint": failure.hint}
    code = Refused.exit_code if objections else failure.exit_code if failure is not None else 0
    if "prune" in document:
        code = code or ending(document["prune"])
    call.show(document, forget_view(document), exit_code=code)
    if failure is not None:
        call.screen.fail(failure)


def _prune(call: "Call", repository: "Repository", request: "ForgetRequest", document: Document) -> DrtoolError | None:
    """Prune after forgetting, and store the result under `prune`. Return the failure, if any."""
    from drtool.model import SnapshotId
    from drtool.operations.prune import PruneRequest
    from drtool.operations.prune import prune as run_prune

    asked = PruneRequest(
        now_ns=request.now_ns,
        yes=request.yes,
        dry_run=request.dry_run,
        names_items=call.name_items(dry_run=request.dry_run),
        as_if_forgotten=frozenset(
            SnapshotId(bytes.fromhex(row["id"])) for row in document["remove"] if request.dry_run
        ),
    )
    try:
        document["prune"] = document_of(run_prune(repository, asked, call.emit)) | {"changes": call.changes()}
    except DrtoolError as error:
        return error
    return None


def options(
    counts: Mapping[str, str | None], spans: Mapping[str, str | None], tags: Sequence[str] | None
) -> dict[str, Any]:
    """Return the rules that the command line gives, empty if there are none. Raise UsageError."""
    given: dict[str, Any] = {}
    for words, read in ((counts, keep_count), (spans, span)):
        given |= {name: _read(name, word, read) for name, word in words.items() if word is not None}
    if tags is not None:
        if "" in tags:
            raise UsageError("--keep-tag is empty", hint="leave it out, or name a tag")
        given["tags"] = tuple(tags)
    return given


def _read(name: str, word: str, read: Callable[[object], Any]) -> Any:  # noqa: ANN401 - a number or a span
    try:
        return read(word)
    except ValueError as error:
        raise UsageError(f"--keep-{name.replace('_', '-')}: {error}") from None


def chosen_rules(call: "Call", given: Mapping[str, Any]) -> "Rules":
    """Return the command line's rules, or else the configuration's. Raise UsageError if they would keep nothing."""
    from drtool.operations.retention import Rules

    rules = Rules(**given) if given else configured_rules(call.settings.config.retention)
    if not rules.empty:
        return rules
    if given:
        raise UsageError(
            "these rules keep no snapshot", hint="raise one of them above 0; to forget a single snapshot: --snapshot ID"
        )
    raise UsageError(
        "no rules: no --keep option is given, and the configuration's `retention` keeps nothing",
        hint="for example: drtool forget --keep-last 3 --keep-daily 7 --keep-weekly 5 --keep-monthly 12",
    )


def configured_rules(retention: Retention) -> "Rules":
    from drtool.operations.retention import Rules

    keys = asdict(retention).items()
    keeps = {key.removeprefix("keep_"): value for key, value in keys if key.startswith("keep_")}
    tags = keeps.pop("tag")
    return Rules(**keeps, tags=tags)


def named(snapshots: Sequence[str] | None, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the named snapshots. Raise UsageError if rules are given too, because the intent is then unclear."""
    if snapshots is not None and given:
        raise UsageError("--snapshot forgets exactly one snapshot and cannot be combined with --keep options")
    if "" in (snapshots or ()):
        raise UsageError("--snapshot is empty", hint="write latest, or the beginning of an id")
    return tuple(snapshots or ())


def grouping(words: str | None) -> "tuple[Grouping, ...]":
    """Parse `host,source`. An empty string makes one group of everything. Raise UsageError."""
    from drtool.operations.retention import DEFAULT_GROUPING, GROUPINGS

    if words is None:
        return DEFAULT_GROUPING
    wanted = [word.strip() for word in words.split(",")] if words.strip() else []
    for word in wanted:
        if word not in GROUPINGS:
            raise UsageError(f"--group-by {words!r}: unknown word {word!r}{nearest(word, GROUPINGS)}")
    return tuple(word for word in GROUPINGS if word in wanted)


def _tell_zone(call: "Call", zone: str) -> None:
    configured = call.settings.config.retention.timezone
    if configured not in {None, zone}:
        call.emit(
            Warned(
                message=f"the configuration's retention.timezone is {configured}, but the repository recorded {zone} when "
                f"it was created; {zone} is used"
            )
        )


def forget_view(document: Document) -> View:
    """Show a table for each group. In one line: the numbers of kept and removed snapshots."""
    names = sorted({row["group"] for row in (*document["keep"], *document["remove"])})
    parts: list[Line | Table] = [_head(document)] if document["policy"] else []
    for name in names:
        parts += _group(document, name)
    parts += [line(Cell("would be refused: ", "bad"), row["message"]) for row in document["objections"]]
    parts += [line(Cell("hint: ", "dim"), row["hint"]) for row in document["objections"]]
    parts.append(line(_outcome(document)))
    pruned = prune_view(document["prune"]).parts if "prune" in document else ()
    words = [_outcome(document), *(part.text for part in pruned if isinstance(part, Line))]
    return view(*parts, *pruned, summary=None if document["dry_run"] else "; ".join(words))


def _head(document: Document) -> Line:
    return line(Cell("keep ", "dim"), f"{document['policy']}", Cell(f"  ({document['timezone']})", "dim"))


def _group(document: Document, name: str) -> list[Line | Table]:
    rows = [(row, Cell("keep", "good"), _reasons(row)) for row in document["keep"] if row["group"] == name]
    rows += [(row, Cell("remove", "warn"), "") for row in document["remove"] if row["group"] == name]
    rows.sort(key=lambda row: row[0]["time"])
    cells = [
        (action, Cell(row["id"][:SHORT_ID], "strong"), local(row["time"]), reasons, Cell(",".join(row["tags"]), "dim"))
        for row, action, reasons in rows
    ]
    return [line(""), line(Cell(name, "strong")), table("ACTION ID TIME REASONS TAGS", cells)]


def _reasons(row: Document) -> str:
    if row["future"]:
        return "dated in the future"
    return " ".join(f"{word} (oldest)" if word in row["as_oldest"] else word for word in row["reasons"])


def _outcome(document: Document) -> str:
    going, staying = count(len(document["remove"]), "snapshot"), f"{len(document['keep']):,} stay"
    if not document["remove"]:
        return f"nothing to forget: {staying}"
    verb = "would forget" if document["dry_run"] else "forgot"
    stay = f", {staying}" if document["policy"] else ""
    return f"{verb} {going}{stay}; prune on other hosts keeps the data until {local(document['grace_until'])}"
