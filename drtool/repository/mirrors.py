"""Sentences about the copies of the catalogue at targets without a register: the age and the fault of each."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from drtool.errors import NoQuorum
from drtool.manifest.facade import View
from drtool.manifest.mirroring import MirrorStatus

if TYPE_CHECKING:
    from drtool.repository.repository import Repository

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def age_words(made_ns: int, now_ns: int) -> str:
    """Return an age such as `3 hours ago`."""
    seconds = (now_ns - made_ns) // 10**9
    if seconds < 0:
        return "in the future, by this host's clock"
    for unit_s, unit in _UNITS:
        if seconds >= unit_s:
            count = seconds // unit_s
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def source_words(view: View) -> str:
    """Return the age of a tentative view that was read from a copy, not from a register, or else an empty string."""
    if view.mirror is None:
        return ""
    made_ns = max((change.time_ns for change in view.learned.head.recent), default=0)
    return (
        f"; it is read from the copy of the catalogue at {view.mirror}, whose newest change was made"
        f" {age_words(made_ns, time.time_ns())}"
    )


def faults_of(copies: Iterable[MirrorStatus]) -> Iterator[str]:
    """Yield a sentence for each copy that is damaged, or newer than those of all voters."""
    for row in copies:
        if row.ahead:
            yield (
                f"the copy of the catalogue at {row.target} has change {row.sequence}, which is newer than those of all"
                " voters: they went back in time, or the catalogue was recovered elsewhere (see drtool manifest check)"
            )
        elif row.reachable and (row.problem or row.missing):
            pages = "1 page is missing" if row.missing == 1 else f"{row.missing} pages are missing"
            yield f"the copy of the catalogue at {row.target} is damaged ({row.problem or pages}): drtool repair replaces it"


def lags_of(copies: Iterable[MirrorStatus], now_ns: int) -> Iterator[str]:
    """Yield a sentence for each copy that is sound but not current."""
    for row in copies:
        if not row.reachable or row.ahead or row.problem or row.missing or row.is_current:
            continue
        if row.sequence is None:
            yield f"{row.target} has no copy of the catalogue yet: the next backup, or drtool repair, puts one there"
            continue
        behind = (
            "of an abandoned history" if row.lag is None else f"{row.lag} change{'' if row.lag == 1 else 's'} behind"
        )
        yield (
            f"the copy of the catalogue at {row.target} is {behind}, its newest change was made"
            f" {age_words(row.time_ns or 0, now_ns)}; the next backup, or drtool repair, brings it up to date"
        )


def look_at_copies(repository: "Repository") -> list[MirrorStatus]:
    """Return the state of each copy of the catalogue. If one seems newer, the voters are read again first."""
    copies = repository.manifest.mirrors(repository.view)
    if any(row.ahead for row in copies) and not repository.view.tentative:
        with suppress(NoQuorum):  # then the copies are compared with the known view
            repository.adopt(repository.manifest.read())
        copies = repository.manifest.mirrors(repository.view)
    return copies
