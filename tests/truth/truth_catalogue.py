"""The oracle's reader of the catalogue, written from docs/manifest.md and docs/format.md; it imports nothing of drtool.

A target is read as the directory that it is. What a register, a head or a page says counts only if its MAC, its seal or its
name proves it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import second_reader
import zstandard
from blake3 import blake3

Fetch = Callable[[str], bytes | None]
"""The bytes of a content-addressed object by its name below a target, or None."""

MARKER = "drtool.json"
MIRRORS = "manifest/mirror/"
_MAC_BYTES = 32
_REGISTER = re.compile(r"manifest/acc/g(\d{4})(?:-([0-9a-f]{32}))?/c(\d{6})/v-(\d{12})")
_HARMLESS_OPS = frozenset(
    (
        "open-session",
        "close-session",
        "expire-session",
        "mark-snapshots",
        "record",
        "record-run",
        "compact",
        "set-voters",
        "recover",
    )
)


class Unreadable(Exception):
    """An object that a head names is nowhere whole."""


@dataclass(frozen=True)
class Shelf:
    """One target's directory, as it lies there now."""

    root: Path

    @property
    def present(self) -> bool:
        return self.root.is_dir()

    def names(self, below: str = "") -> list[str]:
        """The objects below a prefix, sorted, without unfinished ones."""
        top = self.root / below
        files = (path for path in top.rglob("*") if path.is_file() and not path.name.startswith(".tmp-"))
        return sorted(path.relative_to(self.root).as_posix() for path in files)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except OSError:
            return None


def is_addressed(name: str) -> bool:
    """Whether the name of an object is the hash of its bytes."""
    return name.startswith(("packs/", "index/", "manifest/obj/", MIRRORS))


def is_whole(name: str, data: bytes | None) -> bool:
    """Whether a content-addressed object's bytes are those that its name promises."""
    return data is not None and blake3(data).hexdigest() == name[-64:]


@dataclass(frozen=True)
class Keys:
    """The master keys by generation."""

    masters: Mapping[int, bytes]

    def mac(self, purpose: str, text: bytes) -> bytes:
        return blake3(text, key=second_reader.derive(self.masters[1], bytes(32), f"mac/{purpose}")).digest()

    def row(self, sealed: bytes) -> list[Any]:
        """The MessagePack row in a sealed, compressed value of the manifest."""
        packed = second_reader.open_value(self.masters, sealed)
        return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(packed, max_output_size=1 << 28))


@cache
def _masters_in(document: bytes, password: bytes) -> Mapping[int, bytes] | None:
    try:
        return second_reader.open_slot(document, password)
    except Exception:  # noqa: BLE001 - a damaged slot may fail in any way
        return None


def keys_from(shelves: Iterable[Shelf], passwords: Iterable[bytes]) -> Keys:
    """All master keys that the passwords open at any target."""
    masters: dict[int, bytes] = {}
    for shelf in shelves:
        for name in shelf.names("keys"):
            document = shelf.read(name)
            for password in passwords:
                masters |= _masters_in(document, password) or {} if document else {}
    return Keys(masters)


def is_marker(keys: Keys, target: str, data: bytes | None) -> bool:
    """Whether these bytes are the authentic marker of `target`."""
    try:
        fields = json.loads(data or b"")
        tag = bytes.fromhex(fields["mac"])
        text = json.dumps({**fields, "mac": ""}, separators=(",", ":"), ensure_ascii=False).encode()
        return fields["target"] == target and keys.mac("marker", text) == tag
    except (ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True, order=True)
class Life:
    """One configuration, as the names at a target tell it."""

    generation: int
    number: int
    recovery: str = ""


@dataclass(frozen=True)
class Register:
    """The newest record of one acceptor: the ballot that it accepted last and the sealed head. Empty: it is not sound."""

    accepted: tuple[int, bytes] = (0, b"")
    value: bytes = b""
    names: tuple[str, ...] = ()
    """Its records, oldest first."""

    @property
    def sound(self) -> bool:
        return bool(self.value)


def lives_at(shelf: Shelf) -> dict[Life, list[str]]:
    """The names of the records at a target, by configuration, oldest first."""
    lives: dict[Life, list[str]] = {}
    for name in shelf.names("manifest/acc"):
        if match := _REGISTER.fullmatch(name):
            lives.setdefault(Life(int(match[1]), int(match[3]), match[2] or ""), []).append(name)
    return lives


def register_of(shelf: Shelf, keys: Keys, names: list[str]) -> Register:
    """The register whose records are `names`: the newest must be authentic, and its predecessor the one that it names."""
    newest, before = names[-1], names[-2] if len(names) > 1 else ""
    record = _record(keys, shelf.read(newest))
    if record is None or record[0] != int(newest[-12:]):
        return Register(names=tuple(names))
    if record[0] > 1 and (not before or blake3(shelf.read(before) or b"").digest() != record[1]):
        return Register(names=tuple(names))
    return Register(tuple(record[4]), record[5], tuple(names))


def _record(keys: Keys, data: bytes | None) -> list[Any] | None:
    if not data or data[:4] != b"drA1" or keys.mac("acceptor", data[:-_MAC_BYTES]) != data[-_MAC_BYTES:]:
        return None
    return msgspec.msgpack.decode(data[4:-_MAC_BYTES])


def mirror_at(shelf: Shelf, keys: Keys) -> Register:
    """The newest mirror at a target that counts, as what it says was accepted."""
    for name in reversed(shelf.names(MIRRORS)):
        data = shelf.read(name)
        if is_whole(name, data):
            row = keys.row(data or b"")
            return Register(tuple(row[4]), row[5], (name,))
    return Register()


def site_in_record(keys: Keys, data: bytes | None) -> str | None:
    """The site whose register an authentic record belongs to."""
    record = _record(keys, data)
    return None if record is None else record[2][0]


@dataclass(frozen=True)
class Target:
    """A row of the catalogue's targets."""

    name: str
    state: str
    url: str
    votes_only: bool
    keys: bool

    @property
    def site(self) -> str:
        return self.name.partition("/")[0]

    @property
    def stores(self) -> bool:
        """Whether copies at it count."""
        return not self.votes_only and self.state != "lost"


@dataclass(frozen=True)
class Snapshot:
    id: str
    source: str
    root: bytes
    sequence: int


@dataclass
class Catalogue:
    """What one head says; `open_catalogue` fills it."""

    sequence: int
    keys: Keys
    fetch: Fetch
    copies: int = 1
    life: Life = Life(0, 0)
    voters: dict[str, str] = field(default_factory=dict)
    """The targets that hold registers, by site."""
    quorum: int = 1
    targets: dict[str, Target] = field(default_factory=dict)
    segments: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    """The live index segments by name below a target: size, and the targets that held it when it was written."""
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    slots: dict[str, bytes] = field(default_factory=dict)
    """The BLAKE3 of each key slot, by name below a target."""
    pages: dict[str, int] = field(default_factory=dict)
    condemned: dict[str, int] = field(default_factory=dict)
    removing: dict[int, tuple[dict[str, int], frozenset[str]]] = field(default_factory=dict)

    @property
    def objects(self) -> dict[str, int]:
        """The sizes of all objects below `manifest/obj/` that the head needs, by name."""
        objects = self.pages | self.condemned
        for names, _ in self.removing.values():
            objects |= names
        return objects

    def begin(self, checkpoint: list[Any]) -> None:
        """The state of a checkpoint, by the reference to it: its name and size."""
        _, _, core, snapshot_pages, log_pages, _, forgotten, *_ = self._object(checkpoint)
        self.copies = core[4][0]
        self._set_targets(core[6])
        self._add_segments(core[9])
        self._set_slots(core[14])
        self.condemned = _list(core[15][0]) if core[15] else {}
        for objects, pending, sequence in core[16]:
            self.removing[sequence] = (_list(objects), frozenset(pending))
        for reference, _, dead in snapshot_pages:
            self._add_page(reference, frozenset(dead))
        for reference, *_ in (*log_pages, *([forgotten] if forgotten else [])):
            self.pages[object_key(reference[0])] = reference[1]

    def configure(self, config: list[Any]) -> None:
        self.life = Life(config[0], config[1], config[4].hex())
        self.voters = {row[0]: row[1] for row in config[2]}
        self.quorum = config[3]

    def apply(self, op: list[Any], number: int) -> None:
        """One change of those in the head. A kind that is not known here stops the oracle, as it stops drtool."""
        kind, *rest = op
        if kind not in _HARMLESS_OPS:
            getattr(self, f"_{kind.replace('-', '_')}")(number, *rest)

    def _object(self, reference: list[Any]) -> list[Any]:
        key = object_key(reference[0])
        data = self.fetch(key)
        if data is None:
            raise Unreadable(key)
        self.pages[key] = reference[1]
        return self.keys.row(data)

    def _add_page(self, reference: list[Any], dead: frozenset[int]) -> None:
        for position, row in enumerate(self._object(reference)[0]):
            if position not in dead:
                self._add(row, row[13])

    def _add(self, row: list[Any], sequence: int) -> None:
        self.snapshots[row[0].hex()] = Snapshot(row[0].hex(), row[2], row[9], sequence)

    def _set_targets(self, rows: list[Any]) -> None:
        self.targets = {row[0]: Target(row[0], row[2], row[3], row[5], row[7]) for row in rows}

    def _set_slots(self, table: list[Any]) -> None:
        self.slots = {f"keys/{row[0].hex()}": row[3] for row in table[3]}

    def _add_segments(self, rows: list[Any], replaced: Iterable[bytes] = ()) -> None:
        for name in replaced:
            self.segments.pop(f"index/{name.hex()}", None)
        self.segments |= {f"index/{row[0].hex()}": (row[1], tuple(row[4])) for row in rows}

    def _found(self, _: int, _repository: bytes, _label: str, policy: list, targets: list, *rest: Any) -> None:
        self.copies = policy[0]
        self._set_targets(targets)
        self._set_slots(rest[2])

    def _checkpoint_session(self, _: int, _session: bytes, segments: list[Any]) -> None:
        self._add_segments(segments)

    def _add_snapshot(self, number: int, _: bytes, row: list[Any], segments: list, replaced: list, *_rest: Any) -> None:
        self._add_segments(segments, replaced)
        self._add(row, number)

    def _forget_snapshots(self, _: int, snapshots: list[bytes], *_rest: Any) -> None:
        for name in snapshots:
            del self.snapshots[name.hex()]

    def _set_ring(self, _: int, _epoch: int, targets: list[Any], *_rest: Any) -> None:
        self._set_targets(targets)

    def _set_policy(self, _: int, policy: list[Any], *_rest: Any) -> None:
        self.copies = policy[0]

    def _replace_index(self, _: int, segments: list[Any], replaced: list[bytes], *_rest: Any) -> None:
        self._add_segments(segments, replaced)

    def _set_keys(self, _: int, table: list[Any], *_rest: Any) -> None:
        self._set_slots(table)

    def _condemn(self, _: int, objects: list[Any], *_rest: Any) -> None:
        self.condemned = _list(objects)

    def _withdraw(self, *_: Any) -> None:
        self.condemned = {}

    def _remove(
        self, number: int, _condemned: int, objects: list, _marked: int, targets: list, segments: list, *rest: Any
    ) -> None:
        self.condemned = {}
        if objects[2]:
            self.removing[number] = (_list(objects), frozenset(targets))
        self._add_segments(segments, rest[0])

    def _removed(self, _: int, removal: int, targets: list[str], *_rest: Any) -> None:
        name, pending = self.removing.pop(removal)
        if pending - set(targets):
            self.removing[removal] = (name, pending - set(targets))


def _list(objects: list[Any]) -> dict[str, int]:
    """The object that holds a list of names, unless the list is empty."""
    return {object_key(objects[0]): objects[1]} if objects[2] else {}


def object_key(name: bytes) -> str:
    return f"manifest/obj/{name.hex()}"


def open_catalogue(keys: Keys, sealed_head: bytes, fetch: Fetch) -> Catalogue:
    """What a head says. `Unreadable` if an object that it names is not to be had."""
    sequence, _, config, recent, _, checkpoint, base, _, stop = keys.row(sealed_head)[:9]
    catalogue = Catalogue(sequence, keys, fetch)
    if checkpoint:
        catalogue.begin(checkpoint)
    for number, change in enumerate(recent, start=base + 1):
        catalogue.apply(change[4], number)
    catalogue.configure(stop or config)
    return catalogue
