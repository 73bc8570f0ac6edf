"""The independent oracle: which snapshots can be restored, and from which sites, by nothing but the bytes that lie there.

It shares no code with drtool. The second reader (tests/golden) opens packs, index segments and sealed values; truth_catalogue.py
reads registers and pages. Objects are immutable, so the oracle remembers what it has once seen whole: it still knows what a
snapshot is made of when every copy of that is destroyed.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote

import second_reader
from blake3 import blake3
from truth_catalogue import (
    MARKER,
    MIRRORS,
    Catalogue,
    Keys,
    Life,
    Register,
    Shelf,
    Unreadable,
    is_addressed,
    is_marker,
    is_whole,
    keys_from,
    lives_at,
    mirror_at,
    open_catalogue,
    register_of,
    site_in_record,
)

Copy = tuple[str, str]
"""An object at a target: `(site/target, name)`."""

Way = tuple[str, str]
"""Where a chunk can be had: `(name of an index segment, name of the pack that it says)`."""

Loss = frozenset[str]
"""Targets that are imagined to be gone."""

_DIRECTORY = 4
_FILE = 8


@dataclass(frozen=True)
class Made:
    """What a snapshot is made of: for each of its chunks the ways to it, and the hash of each file by path."""

    needs: frozenset[frozenset[Way]]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Voter:
    """A voter whose register can be read: the newest change that it has, and the objects that its head needs."""

    target: str
    sequence: int
    objects: frozenset[str]
    snapshots: frozenset[str]


@dataclass(frozen=True)
class Stock:
    """Which copies count: as targets by object. Either by listings alone, or by what the bytes really are."""

    at: Mapping[str, frozenset[str]]
    voters: tuple[Voter, ...]
    opens: frozenset[str]
    """Targets with a key slot."""
    mirrors: tuple[Voter, ...] = ()
    """Targets without a register whose copy of the catalogue can be read."""

    def holders(self, name: str, loss: Loss = frozenset()) -> frozenset[str]:
        return self.at.get(name, frozenset()) - loss


@dataclass(frozen=True)
class Truth:
    """The state of a repository, as the oracle found it."""

    catalogue: Catalogue
    made: Mapping[str, Made]
    """By snapshot; only those of the catalogue."""
    unknown: frozenset[str]
    """Snapshots of which nobody has ever seen all parts whole."""
    usable: frozenset[str]
    """Targets that are there and prove by their marker, or else by their register, who they are."""
    unclear: frozenset[str]
    """Targets that are there and prove it by neither; drtool may recognise them by the objects that they hold."""
    unwritable: frozenset[str]
    damaged: frozenset[Copy]
    """Copies that are there and are not what they should be."""
    rotten: frozenset[Copy]
    """Every object whose bytes are not those that its name promises, needed or not."""
    missing: frozenset[Copy]
    """Parts of the catalogue and key slots that are not where they belong."""
    stray: frozenset[Copy]
    """Key slots that the catalogue does not list."""
    thin: frozenset[str]
    """Packs and index segments on fewer sites than promised, though what they hold may be elsewhere as well."""
    gaps: frozenset[Copy]
    """Packs and index segments that a target held when they were written, and does not hold now."""
    good: Stock
    listed: Stock

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that store copies."""
        return tuple(sorted({row.site for row in self.catalogue.targets.values() if row.stores}))

    def targets_of(self, sites: Collection[str]) -> Loss:
        return frozenset(name for name, row in self.catalogue.targets.items() if row.site in sites)

    def restorable(self, stock: Stock, loss: Loss = frozenset()) -> frozenset[str]:
        """The snapshots that can be restored when `loss` is gone besides what is not usable already."""
        known = _known_after(stock, loss) if stock.opens - loss else frozenset()
        return frozenset(
            name
            for name, made in self.made.items()
            if name in known and all(_is_met(stock, need, loss) for need in made.needs)
        )

    def copies(self, stock: Stock, snapshot: str) -> int:
        """On how many sites the rarest part of a snapshot is."""
        if snapshot not in self.made:
            return 0
        return min(
            (
                len({_site(target) for _, pack in need for target in stock.holders(pack)})
                for need in self.made[snapshot].needs
            ),
            default=0,
        )

    def promised_losses(self) -> Iterator[tuple[str, ...]]:
        """Every set of sites that may be lost without losing anything."""
        for count in range(1, self.catalogue.copies):
            yield from combinations(self.sites, count)

    def survives_promise(self, stock: Stock) -> bool:
        """Whether every snapshot outlives every loss that the promised copies cover."""
        every = frozenset(self.catalogue.snapshots)
        return all(self.restorable(stock, self.targets_of(sites)) == every for sites in self.promised_losses())

    @property
    def away(self) -> tuple[str, ...]:
        """Targets that belong to the repository and cannot be used."""
        rows = self.catalogue.targets.values()
        return tuple(sorted(row.name for row in rows if row.state != "lost" and row.name not in self.usable))

    @property
    def can_commit(self) -> bool:
        """Whether a quorum of voters can be read and written, and a password opens anything."""
        voters = [row for row in self.good.voters if row.target not in self.unwritable]
        return len(voters) >= self.catalogue.quorum and bool(self.good.opens)

    @property
    def whole(self) -> bool:
        """Whether every site is there and writable, nothing is damaged, and all copies that are promised exist."""
        return (
            not (self.damaged or self.missing or self.unwritable or self.away)
            and all(self.copies(self.good, name) >= self.catalogue.copies for name in self.catalogue.snapshots)
            and len(self.good.voters) == len(self.catalogue.voters)
            and self.survives_promise(self.good)
        )

    @property
    def all_well(self) -> bool:
        """Whether nothing at all is wrong: then every alarm is a false one."""
        rows = self.catalogue.targets.values()
        return (
            self.whole
            and not (self.gaps or self.thin or self.rotten or self.stray)
            and all(row.state != "draining" for row in rows)
            and all(voter.sequence == self.catalogue.sequence for voter in self.good.voters)
        )


def _site(target: str) -> str:
    return target.partition("/")[0]


def _known_after(stock: Stock, loss: Loss) -> frozenset[str]:
    """The snapshots of the newest head that the sites left have together with all that it needs."""
    left = sorted(
        (row for row in (*stock.voters, *stock.mirrors) if row.target not in loss), key=lambda row: row.sequence
    )
    at = {row.target for row in left}
    whole = [row for row in left if all(stock.holders(name) & at for name in row.objects)]
    return whole[-1].snapshots if whole else frozenset()


def _is_met(stock: Stock, need: frozenset[Way], loss: Loss) -> bool:
    return any(stock.holders(segment, loss) and stock.holders(pack, loss) for segment, pack in need)


@dataclass
class Oracle:
    """Looks at the targets again and again; `passwords` are all that were ever in use."""

    passwords: list[bytes]
    seen: dict[str, bytes] = field(default_factory=dict)
    """Every content-addressed object that was ever found whole, by name."""
    _packs: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    _segments: dict[str, second_reader.Segment] = field(default_factory=dict)
    _keys: Keys = field(default_factory=lambda: Keys({}))

    def look(self, places: Mapping[str, Path], is_writable: Callable[[Path], bool]) -> Truth:
        """The truth about the repository whose targets, by name, may lie at `places`."""
        shelves = {name: Shelf(path) for name, path in places.items()}
        self._remember(shelves.values())
        self._keys = Keys({**self._keys.masters, **keys_from(shelves.values(), self.passwords).masters})
        unmarked = {name for name, shelf in shelves.items() if not is_marker(self._keys, name, shelf.read(MARKER))}
        registers = self._registers(shelves)
        proved = {name for name in unmarked if name in registers and self._proves(shelves[name], registers[name], name)}
        unclear = {name for name in unmarked - proved if shelves[name].present}
        shelves = {name: shelf for name, shelf in shelves.items() if name not in unmarked - proved}
        registers = {name: row for name, row in registers.items() if name in shelves}
        newest = max(registers.values(), key=lambda row: row.accepted, default=Register())
        if not newest.sound:
            raise Unreadable("no register is sound")
        catalogue = open_catalogue(self._keys, newest.value, self.seen.get)
        return _Look(self, catalogue, shelves, registers, is_writable, places, frozenset(unmarked), unclear).truth()

    def _proves(self, shelf: Shelf, register: Register, target: str) -> bool:
        """Whether a record of the newest configuration shows which target this is, where the marker does not."""
        return any(site_in_record(self._keys, shelf.read(name)) == _site(target) for name in register.names)

    @property
    def keys(self) -> Keys:
        return self._keys

    def open(self, value: bytes) -> Catalogue:
        return open_catalogue(self._keys, value, self.seen.get)

    def _remember(self, shelves: Iterable[Shelf]) -> None:
        for shelf in shelves:
            for name in shelf.names():
                if is_addressed(name) and name not in self.seen:
                    data = shelf.read(name)
                    if data is not None and is_whole(name, data):
                        self.seen[name] = data

    def _registers(self, shelves: Mapping[str, Shelf]) -> dict[str, Register]:
        """The registers of the newest configuration that any target has, by target."""
        lives = {name: lives_at(shelf) for name, shelf in shelves.items()}
        newest = max((life for rows in lives.values() for life in rows), default=Life(0, 0))
        return {
            name: register_of(shelves[name], self._keys, rows[newest]) for name, rows in lives.items() if newest in rows
        }

    def segment(self, name: str) -> second_reader.Segment | None:
        if name not in self._segments and name in self.seen:
            self._segments[name] = second_reader.Segment(self._keys.masters, self.seen[name])
        return self._segments.get(name)

    def chunk(self, chunk: bytes, ways: Collection[Way]) -> bytes:
        """A chunk's text from any pack that was ever whole; its id is checked. `Unreadable` if there is none."""
        for _, pack in ways:
            if pack not in self._packs and pack in self.seen:
                self._packs[pack] = second_reader.read_pack(self._keys.masters, self.seen[pack])[1]
            text = self._packs.get(pack, {}).get(chunk)
            if text is not None and chunk in {
                second_reader.chunk_id(self._keys.masters, kind, text) for kind in ("data", "tree", "list")
            }:
                return text
        raise Unreadable(chunk.hex())


@dataclass
class _Look:
    """One look: everything is as it was at one moment."""

    oracle: Oracle
    catalogue: Catalogue
    shelves: Mapping[str, Shelf]
    registers: Mapping[str, Register]
    is_writable: Callable[[Path], bool]
    places: Mapping[str, Path]
    unmarked: Collection[str]
    unclear: Collection[str]
    ways: dict[bytes, frozenset[Way]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Of packs and index segments."""
    page_sizes: dict[str, int] = field(default_factory=dict)
    """Of the objects that any voter's head needs."""
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The targets that held an object when it was written."""

    def truth(self) -> Truth:
        self._read_segments()
        made, unknown = {}, set()
        for name, row in self.catalogue.snapshots.items():
            try:
                made[name] = self._made(row.root)
            except Unreadable:
                unknown.add(name)
        damaged, missing = self._damage()
        good = self._stock(lambda shelf, name: is_whole(name, shelf.read(name)), by_hash=True)
        return Truth(
            catalogue=self.catalogue,
            made=made,
            unknown=frozenset(unknown),
            usable=frozenset(self.shelves),
            unclear=frozenset(self.unclear),
            unwritable=frozenset(name for name, shelf in self.shelves.items() if not self.is_writable(shelf.root)),
            damaged=frozenset(damaged),
            rotten=frozenset(
                (target, name)
                for target, shelf in self.shelves.items()
                for name in shelf.names()
                if is_addressed(name) and not is_whole(name, shelf.read(name))
            ),
            missing=frozenset(missing),
            stray=frozenset(
                (target, name)
                for target, shelf in self.shelves.items()
                for name in shelf.names("keys")
                if name not in self.catalogue.slots
            ),
            thin=frozenset(
                name for name in self.sizes if len(set(map(_site, good.holders(name)))) < self.catalogue.copies
            ),
            gaps=frozenset(
                (target, name)
                for name, targets in self.written.items()
                for target in targets
                if target in self.shelves and target not in good.holders(name)
            ),
            good=good,
            listed=self._stock(self._is_listed, by_hash=False),
        )

    def _read_segments(self) -> None:
        self.sizes |= {name: size for name, (size, _) in self.catalogue.segments.items()}
        self.written |= {name: targets for name, (_, targets) in self.catalogue.segments.items()}
        ways: dict[bytes, set[Way]] = {}
        for name in self.catalogue.segments:
            segment = self.oracle.segment(name)
            if segment is None:
                continue
            packs = [f"packs/{row[0].hex()[:2]}/{row[0].hex()}" for row in segment.packs]
            self.sizes |= {pack: row[1] for pack, row in zip(packs, segment.packs, strict=True)}
            self.written |= {pack: tuple(row[3]) for pack, row in zip(packs, segment.packs, strict=True)}
            for row in segment.rows:
                ways.setdefault(row[:32], set()).add((name, packs[second_reader.u(row[32:36])]))
        self.ways = {chunk: frozenset(found) for chunk, found in ways.items()}

    def _made(self, root: bytes) -> Made:
        needs: set[frozenset[Way]] = set()
        files: dict[str, str] = {}
        stack = [("", root)]
        while stack:
            above, tree = stack.pop()
            for entry in self._entries(tree, needs):
                path = f"{above}/{entry['name'].decode()}"
                if entry["type"] == _DIRECTORY and entry["subtree"]:
                    stack.append((path, entry["subtree"]))
                elif entry["type"] == _FILE:
                    files[path] = blake3(b"".join(self._content(entry, needs))).hexdigest()
        return Made(frozenset(needs), files)

    def _text(self, chunk: bytes, needs: set[frozenset[Way]]) -> bytes:
        ways = self.ways.get(chunk, frozenset())
        needs.add(ways)
        return self.oracle.chunk(chunk, ways)

    def _entries(self, tree: bytes, needs: set[frozenset[Way]]) -> Iterator[dict]:
        text = self._text(tree, needs)
        if text[:1] == b"P":
            yield from second_reader.read_page(text)
        else:
            for below in second_reader.read_list(text)[1]:
                yield from self._entries(below, needs)

    def _content(self, entry: dict, needs: set[frozenset[Way]]) -> Iterator[bytes]:
        ids = [entry["content"][at : at + 32] for at in range(0, len(entry["content"]), 32)]
        for _ in range(entry["content_depth"]):
            ids = [below for chunk in ids for below in second_reader.read_list(self._text(chunk, needs))[1]]
        for chunk in ids:
            yield self._text(chunk, needs)

    def _damage(self) -> tuple[set[Copy], set[Copy]]:
        """(copies that are not what they should be, parts of the catalogue and key slots that are not where they belong)."""
        damaged: set[Copy] = set()
        missing: set[Copy] = set()
        for target, shelf in self.shelves.items():
            for name in self._expected_at(target):
                data = shelf.read(name)
                if data is None:
                    if not name.startswith(("packs/", "index/")):
                        missing.add((target, name))
                elif not self._is_sound(name, data):
                    damaged.add((target, name))
            register = self.registers.get(target)
            if target in self.catalogue.voters.values() and (register is None or not register.sound):
                (damaged if register else missing).add((target, "register"))
        for name, row in self.catalogue.targets.items():
            if name in self.unmarked and row.state != "lost" and self.places[name].is_dir():
                damaged.add((name, MARKER))
        return damaged, missing

    def _expected_at(self, target: str) -> Iterator[str]:
        row = self.catalogue.targets.get(target)
        if row is not None and row.stores:
            yield from self.sizes
        if row is not None and row.state != "lost" and row.keys:
            yield from self.catalogue.slots
        mirror = self._mirrors().get(target)
        is_current = mirror is not None and mirror.sequence == self.catalogue.sequence
        if target in self.catalogue.voters.values() or is_current:
            yield from self.catalogue.objects
        if row is not None and row.stores and target not in self.catalogue.voters.values():
            yield from self.shelves[target].names(MIRRORS)

    def _is_sound(self, name: str, data: bytes) -> bool:
        return blake3(data).digest() == self.catalogue.slots[name] if name.startswith("keys/") else is_whole(name, data)

    def _is_listed(self, shelf: Shelf, name: str) -> bool:
        path = shelf.root / name
        return path.is_file() and path.stat().st_size == (self.sizes | self.page_sizes)[name]

    def _stock(self, counts: Callable[[Shelf, str], bool], *, by_hash: bool) -> Stock:
        rows = self.catalogue.targets
        voters = {name: self.oracle.open(self.registers[name].value) for name in self._sound_voters()}
        mirrors = self._mirrors()
        for row in (*voters.values(), *mirrors.values(), self.catalogue):
            self.page_sizes |= row.objects
        at = {
            name: frozenset(
                t for t, s in self.shelves.items() if t in rows and rows[t].state != "lost" and counts(s, name)
            )
            for name in {*self.sizes, *self.page_sizes}
        }
        opens = {
            target
            for target, shelf in self.shelves.items()
            for name in self.catalogue.slots
            if (data := shelf.read(name)) and (not by_hash or self._is_sound(name, data))
        }
        found, copies = (
            tuple(
                Voter(name, row.sequence, frozenset(row.pages), frozenset(row.snapshots))
                for name, row in sorted(rows.items())
            )
            for rows in (voters, mirrors)
        )
        return Stock(at, found, frozenset(opens), copies)

    def _mirrors(self) -> dict[str, Catalogue]:
        """What the copies of the catalogue say, of the generation in force, at targets that store and hold no register."""
        found: dict[str, Catalogue] = {}
        for target, shelf in self.shelves.items():
            row = self.catalogue.targets.get(target)
            if row is None or not row.stores or target in self.catalogue.voters.values():
                continue
            mirror = mirror_at(shelf, self.oracle.keys)
            with suppress(Unreadable):
                catalogue = self.oracle.open(mirror.value) if mirror.sound else None
                if catalogue is not None and catalogue.life.generation == self.catalogue.life.generation:
                    found[target] = catalogue
        return found

    def _sound_voters(self) -> list[str]:
        return [name for name in self.catalogue.voters.values() if self.registers.get(name, Register()).sound]


def place_of(url: str) -> Path:
    """The directory behind a target's URL."""
    return Path(unquote(url.removeprefix("file://")))
