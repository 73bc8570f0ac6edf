"""Recognition of targets whose marker is missing or damaged by their contents. They are used, and get a new marker.

A marker is 300 bytes. The place holds much more that only this repository's key could have written there.

Invariants
    A place is recognised by evidence, never by its URL: an empty disk, or one of another repository, stays offline.
    The evidence is a record of that very voter's register, in its present incarnation. Without a register, it is that
    all objects in a sample of those written to this target are there, and that one can be read.
    An authentic marker is always believed: if it names another target, nothing else is inspected.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from drtool.crypto import Keyring, object_name
from drtool.errors import FormatError, StoreError
from drtool.events import Emit, Warned
from drtool.manifest.acceptor import MAC_PURPOSE
from drtool.manifest.finding import config_of
from drtool.manifest.names import ACCEPTORS, RECORD_READ_BYTES, life_of, sealed_name
from drtool.manifest.records import Target, Voter
from drtool.model import RepositoryId, SiteName, TargetName, pack_object, segment_object, site_of
from drtool.paxos import Record, decode_record
from drtool.repository.marker import FORMAT_VERSION, MARKER_BYTES_MAX, MARKER_OBJECT, Marker
from drtool.repository.registers import register_at
from drtool.repository.slots import slot_repositories
from drtool.repository.targets import Suspect, Targets
from drtool.stores import Store

if TYPE_CHECKING:
    from drtool.repository.repository import Repository

UNKNOWN = TargetName("unknown/unknown")
"""The name of a target that is known only by its URL, until its register identifies it."""
RECORDS_READ = 64
SAMPLE = 4


class Found(Struct, frozen=True):
    """The identity of a place. `site`: the owner of its register. `voter`: the same, if its record shows it fully."""

    another: bool = False
    site: SiteName | None = None
    voter: Voter | None = None


def repository_of(targets: Targets) -> RepositoryId | None:
    """Return the repository of most key slots, over every place that answered. None if there are none, or a tie."""
    found: Counter[RepositoryId] = Counter()
    stores = [*(targets.store(name) for name in targets.online()), *(row.objects for row in targets.suspects.values())]
    for store in stores:
        found.update(set(slot_repositories(store)))
    ranked = found.most_common(2)
    is_tie = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
    return ranked[0][0] if ranked and not is_tie else None


def take_in_all(targets: Targets, repository: RepositoryId) -> None:
    """Take in every suspect, only for its key slots. `set_aside_all` must follow before anything else is read there."""
    for name, suspect in list(targets.suspects.items()):
        targets.take_in(suspect, name, _unsigned(repository, name))


def set_aside_all(targets: Targets) -> None:
    """Make suspects of all targets that were taken in without a valid marker."""
    for name, reason in list(targets.unmarked.items()):
        targets.set_aside(name, reason)


def recognise(targets: Targets, keyring: Keyring) -> None:
    """Take in the suspects that their own register proves."""
    for name, suspect in list(targets.suspects.items()):
        voter = look_at(suspect.objects, keyring, name).voter
        if voter is not None and name in (voter.target, UNKNOWN) and not targets.reachable(voter.target):
            targets.take_in(suspect, voter.target, _unsigned(keyring.repository, voter.target))


def keep_recognised(targets: Targets, keyring: Keyring) -> None:
    """Keep only targets that their marker proves, or their register if the marker is invalid."""
    targets.keep_only(lambda marker: marker.authentic(keyring))
    recognise(targets, keyring)


def confirm(repository: "Repository", emit: Emit) -> None:
    """Check against the catalogue the targets that `recognise` took in, and take in those that only it can prove."""
    targets = repository.targets
    before = set(targets.unmarked)
    set_aside_all(targets)
    for name, suspect in list(targets.suspects.items()):
        row = repository.target_rows().get(name)
        if row is None or row.state == "lost" or not _is_proved(repository, suspect, row):
            continue
        targets.take_in(suspect, name, _unsigned(repository.id, name))
    targets.close_suspects()
    for site in {site_of(name) for name in before ^ targets.unmarked.keys()}:
        repository.manifest.add_site(site, register_at(targets, site))
    for name, reason in sorted(targets.unmarked.items()):
        emit(Warned(message=f"target {name} is recognised by its contents, but {reason}: drtool repair corrects it"))


def mend_markers(repository: "Repository") -> Iterator[str]:
    """Write the marker of each target that was recognised without one. Yield what was done, in sentences."""
    targets, rows = repository.targets, repository.target_rows()
    for name, reason in sorted(targets.unmarked.items()):
        marker = _signed(repository, name, rows.get(name))
        try:
            targets.store(name).put(MARKER_OBJECT, marker.encode())
        except StoreError as error:
            yield f"the {MARKER_OBJECT} of {name} could not be written again: {error.message}"
            continue
        targets.is_marked(name, marker)
        yield f"wrote {MARKER_OBJECT} at {name} again (found: {reason})"


def look_at(store: Store, keyring: Keyring, name: TargetName) -> Found:
    """Return the identity of a place by its marker and register. An unreadable place has none."""
    with suppress(StoreError):
        if _says_another(store, keyring, name):
            return Found(another=True)
        record = _newest_record(store, keyring)
        if record is not None:
            return Found(site=SiteName(record.chain.site), voter=_voter_of(keyring, record))
    return Found()


def _voter_of(keyring: Keyring, record: Record) -> Voter | None:
    config, chain = config_of(keyring, record), record.chain
    voters = config.voters if config is not None else ()
    return next((row for row in voters if (row.site, row.incarnation) == (chain.site, chain.incarnation)), None)


def _says_another(store: Store, keyring: Keyring, name: TargetName) -> bool:
    """Return whether an authentic marker names another target, or a newer program wrote it."""
    try:
        marker = msgspec.json.decode(store.get(MARKER_OBJECT, 0, MARKER_BYTES_MAX + 1), type=Marker)
    except (StoreError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
    if marker.format > FORMAT_VERSION:
        return not replace(marker, format=FORMAT_VERSION).authentic(keyring)
    return marker.authentic(keyring) and marker.target != name


def _newest_record(store: Store, keyring: Keyring) -> Record | None:
    """Return the newest record of any register at a place that this repository's key made."""
    names = [info.name for info in store.list(ACCEPTORS)]
    newest_first = sorted(
        (life, name) for name in names if (life := life_of(name)) and name != sealed_name(life.prefix)
    )
    for _, name in islice(reversed(newest_first), RECORDS_READ):
        with suppress(FormatError):
            record = decode_record(
                store.get(name, 0, RECORD_READ_BYTES), lambda body, tag: keyring.mac_matches(MAC_PURPOSE, body, tag)
            )
            if record.chain.repository == keyring.repository:
                return record
    return None


def _is_proved(repository: "Repository", suspect: Suspect, row: Target) -> bool:
    """Return whether a place is this target: by its register in the present configuration, or by its objects."""
    found = look_at(suspect.objects, repository.keyring, row.name)
    if found.another or found.site not in (None, site_of(row.name)):
        return False
    if found.voter is not None:
        known = {(voter.target, voter.incarnation) for voter in repository.view.config.voters}
        if (row.name, found.voter.incarnation) in known and found.voter.target == row.name:
            return True
        if row.id:  # perhaps the disk that this target replaced
            return False
    return _is_proved_by_objects(repository, suspect.objects, row.name)


def _is_proved_by_objects(repository: "Repository", store: Store, target: TargetName) -> bool:
    """Return whether all objects in a sample of those written to the target are listed, and one can be read whole."""
    sample = _sample(repository, target)
    with suppress(StoreError):
        listed = all(_size_at(store, name) == size_bytes for name, size_bytes in sample.items())
        return bool(sample) and listed and _is_whole(store, min(sample, key=lambda name: sample[name]))
    return False


def _sample(repository: "Repository", target: TargetName) -> dict[str, int]:
    """Return objects written to the target, with their sizes: the newest segments, and packs at the fewest targets."""
    segments = [row for row in repository.view.state.segments if target in row.targets]
    packs = [row for row in repository.index.packs() if target in row.targets]
    packs.sort(key=lambda row: len(row.targets))
    sample = {segment_object(row.id): row.size_bytes for row in segments[-SAMPLE:]}
    return sample | {pack_object(row.pack): row.size_bytes for row in packs[:SAMPLE]}


def _size_at(store: Store, name: str) -> int | None:
    return next((info.size_bytes for info in store.list(name) if info.name == name), None)


def _is_whole(store: Store, name: str) -> bool:
    return object_name(store.get(name)).hex() == name.rpartition("/")[2]


def _unsigned(repository: RepositoryId, name: TargetName) -> Marker:
    """Return a stand-in for the marker that a target should have."""
    return Marker(repository=repository.hex(), site=site_of(name), target=name, target_id="", average_chunk_bytes=0)


def _signed(repository: "Repository", name: TargetName, row: Target | None) -> Marker:
    return Marker(
        repository=repository.id.hex(),
        site=site_of(name),
        target=name,
        target_id=(row.id if row is not None else "") or os.urandom(16).hex(),
        average_chunk_bytes=repository.view.state.policy.chunk_average_bytes,
    ).signed(repository.keyring)
