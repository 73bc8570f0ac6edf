"""The consistency check of the manifest: every record, ballot, digest, page and witness, at every site.

Invariants
    Nothing is written. A fault is returned, never raised, and the check continues.
    There is no alarm without a fault: a site that was away lags, a proposal that lost is no fork, and a proposer that
    died left no damage.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from drtool.crypto import object_name
from drtool.errors import DrtoolError, Forked, FormatError
from drtool.manifest.acceptor import Place, Reading, SiteView, Trouble, read_site, unreachable
from drtool.manifest.context import Context
from drtool.manifest.descent import digest_at, problem_of_descent
from drtool.manifest.head import open_head
from drtool.manifest.library import Learned, object_names
from drtool.manifest.names import name_in, object_key, state_name, version_name, version_of
from drtool.manifest.ports import Failed, Gather, List, Missing, Read, Sleep, Talk, never
from drtool.model import SiteName
from drtool.paxos import Record, highest_accepted
from drtool.paxos.record import record_hash

CHECK_TRIES = 4
LOOK_AGAIN_S = (0.1, 0.6)
PASSING = frozenset({"absent", "broken", "content", "missing-object", "no-quorum", "sealed"})
"""Problems that concurrent activity can cause for a step-by-step reader: a fold, a change of voters, a collection."""

Newest = Callable[[], Talk[tuple[Context, Forked | None]]]
"""Finds the current configuration, and the fork if there is one."""


class Problem(msgspec.Struct, frozen=True):
    """A fault that `manifest check` found. `site` is empty if it concerns all of them."""

    site: str
    kind: str
    message: str


class _Audit(msgspec.Struct):
    """Everything that one site holds. `newest`: its acceptor's state, if it counts."""

    records: list[Record]
    objects: frozenset[bytes]
    problems: list[Problem]
    newest: Record | None = None


def check_manifest(newest: Newest) -> Talk[list[Problem]]:
    """Return the problems in the current configuration.

    Possibly passing ones count only if they persist a little later.
    """
    problems = yield from _look(newest)
    for pause_s in LOOK_AGAIN_S:
        if not any(problem.kind in PASSING for problem in problems):
            break
        yield Sleep(pause_s)
        again = yield from _look(newest)
        problems = [problem for problem in again if problem.kind not in PASSING or problem in problems]
    return problems


def _look(newest: Newest) -> Talk[list[Problem]]:
    context, fork = yield from newest()
    problems = yield from check_sites(context)
    return [*problems, Problem("", "fork", fork.message)] if fork else problems


def check_sites(context: Context) -> Talk[list[Problem]]:
    """Check every chain, MAC, digest, page and witness at every site that answers."""
    audits, silent = yield from _audit_all(context)
    for _ in range(CHECK_TRIES):
        if _newest_chosen(audits, context.quorum) is not None or len(audits) < context.quorum:
            break
        yield Sleep(0.2)  # the sites were read one by one, so a write may be in progress
        audits, silent = yield from _audit_all(context)
    problems = [problem for audit in audits.values() for problem in audit.problems] + silent
    # not the newest provably chosen one: the proof of a newer one may be at an unreachable site
    newest = _newest_accepted(audits, context.quorum) or _newest_chosen(audits, context.quorum)
    if newest is None:
        return [*problems, Problem("", "no-quorum", _no_quorum(context, audits))]
    try:
        problems += yield from _check_content(context, audits, newest)
    except DrtoolError as error:
        problems.append(Problem("", "content", error.message))
    return problems


def _audit_all(context: Context) -> Talk[tuple[dict[SiteName, _Audit], list[Problem]]]:
    """Return the contents of the sites, and a problem for each that did not answer."""
    replies = yield Gather({site: _audit(place) for site, place in context.places.items()}, never)
    audits = {site: reply for site, reply in replies.items() if isinstance(reply, _Audit)}
    return audits, [_silent(site, reply) for site, reply in replies.items() if site not in audits]


def _check_content(context: Context, audits: Mapping[SiteName, _Audit], newest: Record) -> Talk[list[Problem]]:
    library, sites = context.library, list(audits)
    learned = yield from library.learn(sites, newest.value)
    problems = list(_forked_ballots(audits))
    chosen = _chosen(audits, context.quorum)
    for record in chosen:
        head = open_head(library.keys, record.value)
        ahead = head.sequence > learned.head.sequence
        digest = b"" if ahead else (yield from digest_at(library, sites, learned, head.sequence))
        if ahead or not head.digest.startswith(digest):
            problems.append(Problem("", "fork", f"two heads at change {head.sequence} were both chosen"))
    problem = yield from problem_of_descent(library, sites, context.witness, learned)
    problems += [Problem("", "witness", problem)] if problem else []
    problems += yield from _check_objects(context, audits, learned)
    log_pages = learned.checkpoint.log_pages if learned.checkpoint else ()
    yield from library.log_pages(sites, [page.reference for page in log_pages])
    return problems


def _check_objects(context: Context, audits: Mapping[SiteName, _Audit], learned: Learned) -> Talk[list[Problem]]:
    """Check that every object of the head is whole wherever it exists, and exists on a quorum."""
    needed = object_names(learned)
    replies = yield Gather({site: _damaged(site, needed & audit.objects) for site, audit in audits.items()}, never)
    problems: list[Problem] = []
    holders: Counter[bytes] = Counter()
    for site, damaged in replies.items():
        bad = damaged if isinstance(damaged, list) else []
        problems += [Problem(site, "damaged-object", f"{object_key(name)} is not what its name says") for name in bad]
        holders.update(needed & audits[site].objects - set(bad))
    away = len(context.places) - len(audits)
    for name in sorted(needed):
        if holders[name] + away < context.quorum:
            problems.append(Problem("", "missing-object", f"{object_key(name)} is on {holders[name]} sites only"))
    return problems


def _audit(place: Place) -> Talk[_Audit | Trouble]:
    names = yield List(place.site, place.prefix)
    objects = yield List(place.site, object_key(b""))
    if isinstance(names, Failed) or isinstance(objects, Failed):
        return unreachable(names if isinstance(names, Failed) else objects)
    audit = _Audit([], frozenset(_object_names(objects)), list(_strays(place, names)))
    if place.mode == "chain":
        yield from _audit_chain(place, sorted(_versions(place, names)), audit)
    reading: Reading = yield from read_site(place)
    if isinstance(reading, SiteView):
        _audit_newest(place, reading, audit)
    else:
        audit.records.clear()  # it is not an acceptor now, so its records (late puts, for example) were never effective
        if reading.kind != "unknown":
            audit.problems.append(Problem(place.site, reading.kind, reading.reason))
    return audit


def _versions(place: Place, names: Iterable[str]) -> Iterator[int]:
    return (version for name in names if (version := version_of(place.prefix, name)) is not None)


def _strays(place: Place, names: Iterable[str]) -> Iterator[Problem]:
    """Yield records of the other update mode. They are never read, and no writer of this register creates them."""
    state = state_name(place.prefix)
    if place.mode == "chain" and state in names:
        yield Problem(place.site, "stray", f"{state} lies beside the versions of a register that is a chain")
    versions = sorted(_versions(place, names)) if place.mode == "cas" else []
    if versions:
        first = version_name(place.prefix, versions[0])
        count = f"{first} and {len(versions) - 1} more lie" if versions[1:] else f"{first} lies"
        yield Problem(place.site, "stray", f"{count} beside the state of a register that is swapped")


def _audit_newest(place: Place, view: SiteView, audit: _Audit) -> None:
    """Check the acceptor's present record, which is all that a register in swap mode has."""
    record, seen = view.record, place.seen
    if place.mode == "cas":
        try:
            open_head(place.keys, record.value)
        except DrtoolError as error:
            audit.problems.append(Problem(place.site, "broken", f"version {record.version}: {error.message}"))
            return
        audit.records.append(record)
        audit.problems += _claimed_twice(place, record.version, view.record_hash)
    if seen is not None and record.version == seen.version + 1 and seen.record_hash not in {b"", record.prev}:
        message = f"version {record.version} was built on another version {seen.version} than this host saw here"
        audit.problems.append(Problem(place.site, "two-records", message))
    if not view.rolled_back:
        audit.newest = record
    elif seen is not None and record.version < seen.version:
        audit.problems.append(Problem(place.site, "rolled-back", _went_back(place, view)))


def _claimed_twice(place: Place, version: int, own_hash: bytes) -> list[Problem]:
    """Return a problem if this host saw another record of that version: a store's fault, or a restored site that was
    written to.
    """
    seen = place.seen
    if seen is None or seen.version != version or seen.record_hash in {b"", own_hash}:
        return []
    message = f"two records claim version {version}: this host saw another one here"
    return [Problem(place.site, "two-records", message)]


def _audit_chain(place: Place, versions: Sequence[int], audit: _Audit) -> Talk[None]:
    """Read every remaining version, newest first, as far as each was built on the previous one.

    Below the first gap, a late put may have left a record in a hole of collection, which is void and not a fault. Bytes
    not made with this repository's key are a fault anywhere.
    """
    after: Record | None = None
    linked = True
    for version in reversed(versions):
        data = yield Read(place.site, version_name(place.prefix, version))
        if not isinstance(data, bytes):
            continue  # collected meanwhile, or the site went away: read_site decides
        own_hash = record_hash(data)
        try:
            record = _audit_record(place, version, data)
        except DrtoolError as error:
            audit.problems.append(Problem(place.site, "broken", f"version {version}: {error.message}"))
            continue
        linked = linked and (after is None or (after.version - 1, after.prev) == (version, own_hash))
        if linked:
            audit.problems += _claimed_twice(place, version, own_hash)
            audit.records.append(record)
        after = record


def _audit_record(place: Place, version: int, data: bytes) -> Record:
    record = place.decode(data)
    open_head(place.keys, record.value)
    if record.version != version:
        raise FormatError(f"it holds version {record.version}")
    return record


def _damaged(site: SiteName, names: Iterable[bytes]) -> Talk[list[bytes]]:
    bad: list[bytes] = []
    for name in sorted(names):
        data = yield Read(site, object_key(name))
        if isinstance(data, Missing) or (isinstance(data, bytes) and object_name(data) != name):
            bad.append(name)
    return bad


def _object_names(keys: Iterable[str]) -> Iterator[bytes]:
    for key in keys:
        name = name_in(key)
        if name is not None:
            yield name


def _chosen(audits: Mapping[SiteName, _Audit], quorum: int) -> list[Record]:
    """Return one record for each ballot that a quorum of the sites accepted, as far as the old records show."""
    by_ballot: dict[tuple[int, bytes], tuple[Record, set[SiteName]]] = {}
    for site, audit in audits.items():
        for record in audit.records:
            key = (record.accepted.round, record.accepted.proposer)
            by_ballot.setdefault(key, (record, set()))[1].add(site)
    return [record for record, sites in by_ballot.values() if len(sites) >= quorum]


def _newest_chosen(audits: Mapping[SiteName, _Audit], quorum: int) -> Record | None:
    return max(_chosen(audits, quorum), key=lambda record: record.accepted, default=None)


def _newest_accepted(audits: Mapping[SiteName, _Audit], quorum: int) -> Record | None:
    """Return the record that the next proposer would build on. Every head that was ever chosen is in its past.

    A register in swap mode does not show what was chosen before, and a proposer that died may have left no quorum of
    equals.
    """
    sound = [audit.newest for audit in audits.values() if audit.newest is not None]
    return highest_accepted(sound) if len(sound) >= quorum else None


def _no_quorum(context: Context, audits: Mapping[SiteName, _Audit]) -> str:
    sound = [site for site, audit in audits.items() if audit.newest is not None]
    reached = f"{len(sound)} of {len(context.places)} acceptors are sound ({', '.join(sound) or 'none'})"
    return f"{reached} and {context.quorum} are needed"


def _forked_ballots(audits: Mapping[SiteName, _Audit]) -> Iterator[Problem]:
    values: dict[tuple[int, bytes], bytes] = {}
    for site, audit in audits.items():
        for record in audit.records:
            key = (record.accepted.round, record.accepted.proposer)
            if values.setdefault(key, record.value) != record.value:
                why = "a machine ran twice, as a copy or restored, in the middle of a change"
                yield Problem(site, "two-values", f"ballot {record.accepted} carries two values: {why}")


def _went_back(place: Place, view: SiteView) -> str:
    seen = place.seen.version if place.seen else 0
    return f"its newest record is version {view.record.version}, and this host saw version {seen} there"


def _silent(site: SiteName, reply: object) -> Problem:
    reason = reply.reason if isinstance(reply, Trouble | Failed) else "no answer"
    return Problem(site, "unreachable", reason)
