"""The product, broken on purpose: each way must be caught by the judgement, or the judgement proves nothing.

A variant is a context manager that the process of the commands enters. test_truth.py says which history shows it and which
rule speaks.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

VARIANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {}


def variant(function: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
    VARIANTS[function.__name__.replace("_", "-")] = contextmanager(function)
    return function


@variant
def verify_believes_names() -> Iterator[None]:
    """A copy that is listed with its size counts as read."""
    from drtool.operations.verify import reading

    with patch.object(reading, "problem_with", lambda *_: ""):
        yield


@variant
def survive_counts_damaged_copies() -> Iterator[None]:
    """What verify found is no reason to count a copy out."""
    from drtool.operations.survive import run
    from drtool.operations.survive.needs import Needs

    def hopeful(repository: Any, inventory: Any, bits: Any, lost: int, _: Any) -> Needs:
        return Needs(repository, inventory, bits, lost, frozenset())

    with patch.object(run, "Needs", hopeful):
        yield


@variant
def prune_overlooks_a_snapshot() -> Iterator[None]:
    """What only the newest snapshot needs counts as garbage."""
    from drtool.repository.marking import Marks

    mark_trees = Marks.mark_trees

    def all_but_one(self: Any, roots: Iterable[bytes], *rest: Any) -> Any:
        return mark_trees(self, list(roots)[1:], *rest)

    with patch.object(Marks, "mark_trees", all_but_one):
        yield


@variant
def repair_only_says_so() -> Iterator[None]:
    """What should be copied counts as copied."""
    from drtool.operations.repair import run
    from drtool.repository.moving import Mover

    with patch.object(Mover, "carry_out", lambda _, jobs: run._imagined(jobs)):
        yield


@variant
def backup_counts_promised_copies() -> Iterator[None]:
    """A snapshot has as many copies as were promised, whatever lies at the sites."""
    from drtool.operations.backup import run

    with patch.object(run.BackupRun, "_copies", lambda self, _: self._repository.view.state.policy.copies):
        yield


@variant
def status_never_looks_at_pages() -> Iterator[None]:
    """The catalogue counts as whole while its registers answer."""
    from drtool.operations.status import remarks

    with patch.object(remarks, "problems_with_pages", lambda *_: ()):
        yield


@variant
def verify_reads_pages_through_the_cache() -> Iterator[None]:
    """A page that this host has read before counts as whole at every site."""
    from drtool.repository.catalogue import audit

    with patch.object(audit, "why_bad", lambda *_: ""):
        yield


@variant
def survive_counts_rotten_pages() -> Iterator[None]:
    """A page that is listed counts as held."""
    from drtool.operations.survive import run

    with patch.object(run, "read_pages", lambda _, names: names):
        yield


@variant
def damage_of_the_catalogue_stays_on_this_host() -> Iterator[None]:
    """Only packs and index segments are recorded for other hosts, as in early versions."""
    from drtool.repository import findings

    rows_of = findings._rows_of

    def of_packs(copies: Iterable[Any]) -> Any:
        return rows_of(copy for copy in copies if copy[1].startswith(("packs/", "index/")))

    with patch.object(findings, "_rows_of", of_packs):
        yield


@variant
def connect_writes_down_places_that_lead_nowhere() -> Iterator[None]:
    """The configuration of a new host names directories that are not there."""
    from drtool.cli.commands import connect

    write = connect._write

    def misled(call: Any, path: Any, *rest: Any) -> bool:
        written = write(call, path, *rest)
        path.write_text(path.read_text().replace("file://", "file:///nowhere"))
        return written

    with patch.object(connect, "_write", misled):
        yield
