"""Read-only reports on the manifest: the state of each acceptor, and the log of changes.

Invariants
    Nothing is written, and no quorum is needed. A site that was away lags, which is not a fault.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from drtool.errors import DrtoolError
from drtool.manifest.acceptor import Place, Reading, SiteView, Trouble, offer_again, read_site
from drtool.manifest.context import Context
from drtool.manifest.head import Head, open_head
from drtool.manifest.library import Learned, Library
from drtool.manifest.pages import LogRow, log_rows
from drtool.manifest.ports import Failed, Gather, Keys, Talk, never
from drtool.model import SiteName


class AcceptorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One voter. `lag`: changes behind the newest head, or None if the acceptor cannot be read.

    `refusal`: why it refuses to write its own record once more, so that it cannot vote. Empty if that was not tried.
    """

    site: SiteName
    reachable: bool
    promised: str | None = None
    accepted: str | None = None
    version: int | None = None
    lag: int | None = None
    problem: str | None = None
    refusal: str = ""


class QuorumStatus(msgspec.Struct, frozen=True):
    needed: int
    reachable: int


class ManifestStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest status`. Sequence and digest are of the newest head. `agreed`: a quorum reports that head."""

    generation: int
    config: int
    sequence: int
    digest: str
    agreed: bool
    acceptors: tuple[AcceptorStatus, ...]
    quorum: QuorumStatus
    problem: str | None = None


class LogEntry(msgspec.Struct, frozen=True):
    """One line of `manifest log`."""

    sequence: int
    time: str
    host: str
    kind: str
    summary: str
    digest: str


def status_of(context: Context, *, tried: bool = False) -> Talk[ManifestStatus]:
    """Return what every voter reports. `tried`: also test whether it writes its own record once more."""
    found = yield Gather({site: _look(place, tried=tried) for site, place in context.places.items()}, never)
    readings = {site: row if isinstance(row, Failed) else row[0] for site, row in found.items()}
    refusals = {site: "" if isinstance(row, Failed) else row[1] for site, row in found.items()}
    heads = {site: _head_of(context.library.keys, reading) for site, reading in readings.items()}
    sound = [row for row in readings.values() if isinstance(row, SiteView) and not row.rolled_back]
    able = [site for site, row in readings.items() if isinstance(row, SiteView) and not row.rolled_back]
    able = [site for site in able if not refusals[site]]
    known = {site: head for site, head in heads.items() if isinstance(head, Head)}
    newest = max(known.values(), key=lambda head: head.sequence, default=None)
    counts = Counter(view.record.accepted for view in sound)
    rows = tuple(
        msgspec.structs.replace(_acceptor(site, readings[site], heads[site], newest), refusal=refusals[site])
        for site in context.places
    )
    return ManifestStatus(
        generation=context.config.generation,
        config=context.config.number,
        sequence=newest.sequence if newest else 0,
        digest=newest.digest.hex() if newest else "",
        agreed=max(counts.values(), default=0) >= context.quorum,
        acceptors=rows,
        quorum=QuorumStatus(context.quorum, len(able)),
    )


def _look(place: Place, *, tried: bool) -> Talk[tuple[Reading, str]]:
    """Return the reading, and why the acceptor cannot be written."""
    reading = yield from read_site(place)
    if not tried or not isinstance(reading, SiteView) or reading.rolled_back:
        return reading, ""
    return reading, (yield from offer_again(place, reading))


def entries(
    library: Library, sites: Sequence[SiteName], learned: Learned, limit: int | None = None
) -> Talk[list[LogEntry]]:
    """Return the newest `limit` changes up to a head, newest first, or all with None."""
    rows = log_rows(learned.head)[::-1]
    for page in reversed(learned.checkpoint.log_pages if learned.checkpoint else ()):
        if limit is not None and len(rows) >= limit:
            break
        pages = yield from library.log_pages(sites, [page.reference])
        rows += pages[page.reference.name].rows[::-1]
    return [_entry(row) for row in rows[:limit]]


def _head_of(keys: Keys, reading: object) -> Head | DrtoolError | None:
    if not isinstance(reading, SiteView):
        return None
    try:
        return open_head(keys, reading.record.value)
    except DrtoolError as error:
        return error


def _acceptor(
    site: SiteName, reading: Reading | Failed, head: Head | DrtoolError | None, newest: Head | None
) -> AcceptorStatus:
    if isinstance(reading, Failed):
        return AcceptorStatus(site=site, reachable=False, problem=reading.reason)
    if isinstance(reading, Trouble):
        reachable = reading.kind != "unreachable"
        return AcceptorStatus(site=site, reachable=reachable, problem=f"{reading.kind}: {reading.reason}")
    problem = "it went back in time: this host saw a newer record there" if reading.rolled_back else None
    if isinstance(head, DrtoolError):
        problem = head.message
    return AcceptorStatus(
        site=site,
        reachable=True,
        promised=str(reading.record.promised),
        accepted=str(reading.record.accepted),
        version=reading.record.version,
        lag=newest.sequence - head.sequence if newest and isinstance(head, Head) else None,
        problem=problem,
    )


def _entry(row: LogRow) -> LogEntry:
    return LogEntry(row.sequence, _time(row.time_ns), row.host, row.kind, row.summary, row.digest.hex())


def _time(time_ns: int) -> str:
    """Return the time as RFC 3339 in UTC with nine digits, or as `@seconds` outside the calendar's range."""
    seconds, nanoseconds = divmod(time_ns, 10**9)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return f"@{seconds}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
