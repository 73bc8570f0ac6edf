"""A mirror: a sealed copy of the newest head for a target without a register, under a name that includes its version.

Invariants
    A mirror holds a head that was chosen, since only a writer that saw the choice seals one. It is not a register: it
    counts towards no quorum, and no linearizable read uses it.
    It counts as a copy only if its bytes match its name, this repository's key sealed them, and the head inside has the
    generation, configuration and change in the name.
    Of two mirrors, or of a mirror and a register's record, the one with the later configuration and ballot is newer.
    A place is asked for a bounded number of mirrors, regardless of how many names it lists.
"""

from collections.abc import Iterable, Sequence

import msgspec

from drtool.crypto import SealKind, object_name
from drtool.errors import DrtoolError, FormatError
from drtool.manifest.finding import Sighting, age_of, config_in
from drtool.manifest.head import Head, open_head, open_row, seal_row
from drtool.manifest.library import Learned, Library
from drtool.manifest.names import MIRRORS, MirrorName, mirror_name_of
from drtool.manifest.ports import Failed, Gather, Keys, List, Read, Talk, never
from drtool.manifest.records import Config, Row
from drtool.model import SiteName, TargetName, site_of
from drtool.paxos import Ballot, Chain, found

KEPT = 2
"""How many mirrors stay at a place: the newest, and the one before it."""
READS_LIMIT = 8
_NO_ID = bytes(16)


class Mirror(Row, frozen=True):
    """A chosen head, the configuration and ballot under which it was chosen, and the author and time of the copy."""

    repository: bytes
    generation: int
    number: int
    recovery: bytes
    accepted: Ballot
    value: bytes
    time_ns: int = 0
    host: str = ""


class Held(msgspec.Struct, frozen=True):
    """A valid mirror at a place."""

    name: MirrorName
    mirror: Mirror
    head: Head
    config: Config


class MirrorFault(msgspec.Struct, frozen=True):
    """A mirror that is invalid or cannot be read."""

    name: str
    reason: str


class MirrorView(msgspec.Struct, frozen=True):
    """The mirrors at a place. `held`: the newest valid ones, newest first. `faults`: newer ones that are invalid."""

    held: tuple[Held, ...] = ()
    faults: tuple[MirrorFault, ...] = ()


def seal_mirror(
    keys: Keys, config: Config, accepted: Ballot, learned: Learned, time_ns: int, host: str
) -> tuple[MirrorName, bytes]:
    """Return the name and the bytes of a mirror of a head that was chosen in `config` under the ballot `accepted`."""
    row = Mirror(
        keys.repository, config.generation, config.number, config.recovery, accepted, learned.value, time_ns, host
    )
    sealed = seal_row(keys, SealKind.MIRROR, row, learned.state.keys)
    return MirrorName(config.generation, config.number, learned.head.sequence, object_name(sealed)), sealed


def open_mirror(keys: Keys, name: MirrorName, sealed: bytes) -> Held:
    """Return the mirror in `sealed`. `FormatError` or `SealBroken` if it does not match its name."""
    if object_name(sealed) != name.hash:
        raise FormatError("its content does not match its name")
    row = open_row(keys, SealKind.MIRROR, sealed, Mirror)
    head = open_head(keys, row.value)
    config = config_in(head, (row.generation, row.number))
    if (row.repository, row.generation, row.number, head.sequence) != (keys.repository, *name.version):
        raise FormatError("it is a mirror of another repository or another change")
    if config is None or config.recovery != row.recovery:
        raise FormatError("the head in it is of another configuration")
    return Held(name, row, head, config)


def mirror_names(listed: Iterable[str]) -> list[MirrorName]:
    """Return the mirrors among these names, oldest first."""
    return sorted(name for key in listed if (name := mirror_name_of(key)) is not None)


def look_at_mirrors(place: SiteName, keys: Keys, wanted: int = 1) -> Talk[MirrorView | Failed]:
    """Read the newest `wanted` valid mirrors at a place."""
    listed = yield List(place, MIRRORS)
    if isinstance(listed, Failed):
        return listed
    held: list[Held] = []
    faults: list[MirrorFault] = []
    for name in mirror_names(listed)[::-1][:READS_LIMIT]:
        sealed = yield Read(place, name.key)
        if not isinstance(sealed, bytes):
            faults.append(MirrorFault(name.key, sealed.reason if isinstance(sealed, Failed) else "it is gone"))
            continue
        try:
            held.append(open_mirror(keys, name, sealed))
        except DrtoolError as error:
            faults.append(MirrorFault(name.key, error.message))
        if len(held) == wanted:
            break
    return MirrorView(tuple(held), tuple(faults))


def sighting_of(site: SiteName, held: Held) -> Sighting:
    """Return a mirror as a sighting: a head without a register."""
    row = held.mirror
    chain = Chain(site, _NO_ID, row.repository, row.generation, row.number)
    return Sighting(site, found(chain, row.accepted, row.value, _NO_ID), held.config, (), ())


def newest_in_mirrors(library: Library) -> Talk[dict[SiteName, Sighting]]:
    """Return the newest mirror at each site, from the targets that this run reached."""
    places = library.mirrors()
    views = yield Gather({place: look_at_mirrors(place, library.keys) for place in places}, never)
    found: dict[SiteName, Sighting] = {}
    for place, view in views.items():
        for held in view.held if isinstance(view, MirrorView) else ():
            seen = sighting_of(site_of(TargetName(place)), held)
            found[seen.site] = max(found.get(seen.site, seen), seen, key=age_of)
    return found


def outdated(names: Sequence[MirrorName], newest: MirrorName) -> list[MirrorName]:
    """Return the mirrors of older versions than `newest` that a place need not keep, oldest first."""
    older = sorted(name for name in names if name.version < newest.version)
    return older[: 1 - KEPT]


def key_of(target: TargetName) -> SiteName:
    """Return the name under which a target's store is asked for mirrors. No site has such a name."""
    return SiteName(target)
