"""Membership faults: keys are rotated while a site is away, and a site's directory is copied and used from two places.

What must hold: no site ever stores a head under a key for which it has no slot; and hosts whose configurations name different
copies of one site never find quorums that do not meet.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sim_linear import Operation
from sim_sites import Site, tag_of
from sim_world import Process

from drtool.crypto import object_name
from drtool.errors import FormatError, NoQuorum, ObjectMissing, Rejected
from drtool.manifest import Member, MemoryState, SetRing, ports
from drtool.manifest.drive import _perform
from drtool.manifest.names import SLOTS, acceptor_prefix, slot_key
from drtool.manifest.ops import SetKeys
from drtool.manifest.records import KeyTable, SlotRow, Target
from drtool.model import ObjectInfo
from drtool.paxos import decode_record
from drtool.repository.relocation import MovedRegister, drop_stale_registers

if TYPE_CHECKING:
    from sim_run import Client, Run

AWAY_S = 60.0
TRIES = 8


class Twice(Exception):
    """A host is led to a copy of a site, and the one that the catalogue names answers too: it does nothing."""


# rotation


def slot_text(generation: int, nonce: bytes) -> bytes:
    """A slot that holds the keys up to `generation`."""
    return b"slot" + bytes([generation]) + nonce


def first_table(run: "Run") -> KeyTable:
    """One password, whose slot lies at every site."""
    text = slot_text(1, run.rng.randbytes(8))
    for site in run.world.sites.values():
        site.objects[slot_key(text[5:])] = text
    return KeyTable(1, 1, 1, (SlotRow(text[5:], "one", 1, object_name(text), 0, "founder"),))


def rotating(run: "Run", client: "Client") -> Callable[[], Any]:
    """A rotation as `operations/keys` does it: new slots at most sites, one change, then the old ones go."""

    def talk() -> Any:
        view = yield from client.manifest.reading()
        table, sites = view.state.keys, sorted(run.world.sites)
        text = slot_text(table.generation + 1, run.rng.randbytes(8))
        puts = yield ports.Gather({site: _put(site, slot_key(text[5:]), text) for site in sites}, ports.never)
        took = [site for site, reply in puts.items() if reply is None]
        if 2 * len(took) <= len(sites):
            return view
        row = SlotRow(text[5:], "one", table.generation + 1, object_name(text), 0, client.name)
        new = KeyTable(table.epoch + 1, table.generation + 1, table.generation + 1, (row,))
        committed = yield from client.manifest.committing((SetKeys(new),))
        run.keys.generation = max(run.keys.generation, new.generation)
        old = [slot_key(slot.id) for slot in table.slots]
        yield ports.Gather({site: _delete(site, old) for site in took}, ports.never)
        return committed.view

    away = run.rng.choice(sorted(run.world.sites))
    run.world.cut[client.name, away] = run.world.now + AWAY_S
    return talk


def _put(site: str, name: str, data: bytes) -> Any:
    return (yield ports.Put(site, name, data))


def _delete(site: str, names: Sequence[str]) -> Any:
    for name in names:
        yield ports.Delete(site, name)


def check_slots(run: "Run", site: Site, request: ports.SiteRequest, reply: Any) -> None:
    """After each write of a register: the site holds a slot with the key of the head that lies there now."""
    match request:
        case ports.PutIfAbsent() if reply is True:
            data = request.data
        case ports.Swap() if reply is not None:
            data = request.data
        case _:
            return
    try:
        record = decode_record(data, lambda body, tag: run.keys.mac_matches("acceptor", body, tag))
    except FormatError:
        return  # a seal
    slots = [text[4] for name, text in site.objects.items() if name.startswith(SLOTS)]
    if run.keys.generation_of(record.value) > max(slots, default=0):
        run.violations.append(f"{record.chain.site} stores a head that none of its key slots opens")


# a copied site


class Copies:
    """One site's directory exists twice; some hosts are configured for the copy, and in the end it goes on."""

    def __init__(self, run: "Run", clients: "Sequence[Client]") -> None:
        self._run, self._clients = run, clients
        self.site = run.rng.choice(run.voters)
        self._url = f"file:///{self.site}-copy"
        self._copy: Site | None = None
        self._misled = frozenset(client.name for client in clients if run.rng.random() < 0.5)
        self.turned_away = 0

    def strike(self) -> None:
        """The directory is copied; some time later a person declares that the copy goes on."""
        original = self._run.world.sites[self.site]
        self._copy = Site(original.mode)
        self._copy.objects = dict(original.objects)
        self._operation = Operation("epoch", 2, self._run.world.now)
        self._run.history.append(self._operation)
        later = self._run.world.requests + self._run.rng.randint(20, 300)
        self._run.world.at_request(later, self._declare)
        others = [site for site in self._run.voters if site != self.site]
        self._seen, self._away = self._run.rng.sample(others, 2)
        self._worst = self._run.rng.random() < 0.5
        if self._worst:  # what is decided from now on, one of the others does not learn
            self._run.cut_off(self._clients, self._away, AWAY_S)

    def _declare(self) -> None:
        if self._worst:  # and the one that knows it is away when the copy is declared
            self._run.cut_off(self._clients, self._away, 0.0)
            self._run.world.cut["declarer", self._seen] = self._run.world.now + AWAY_S
        self._start(TRIES)

    def targets(self) -> tuple[Target, ...]:
        """The catalogue's targets with the copy's address."""
        moved = (msgspec.structs.replace(row, url=self._url) for row in self._run.targets if row.name == self._name)
        return (*(row for row in self._run.targets if row.name != self._name), *moved)

    @property
    def _name(self) -> str:
        return f"{self.site}/main"

    def bound(self, client: "Client", talk: Callable[[], Any]) -> Callable[[], Any]:
        """The same conversation, for a host that first looks whether its place of the site is the catalogue's."""
        return (lambda: self._bound(client, talk)) if self._copy is not None else talk

    def _bound(self, client: "Client", talk: Callable[[], Any]) -> Any:
        view = yield from client.manifest.reading()
        self.bind(client.name, view.state.targets)
        if (client.name in self._misled) != self._is_moved(view.state.targets):
            self.turned_away += 1
            raise Twice
        return (yield from talk())

    def bind(self, name: str, rows: Sequence[Target]) -> dict[str, Any]:
        """Both places answer: a host uses the one that the catalogue names."""
        if self._copy is not None and any(row.name == self._name for row in rows):
            place = self._copy if self._is_moved(rows) else self._run.world.sites[self.site]
            self._run.world.elsewhere[name, self.site] = place
        return {}

    def _is_moved(self, rows: Sequence[Target]) -> bool:
        return any(row.name == self._name and row.url == self._url for row in rows)

    def _start(self, tries: int) -> None:
        run = self._run
        run.busy += 1
        process = Process("declarer", MemoryState())
        process.local.remember(run.founded)
        manifest = run.manifest(process)

        def done(_view: Any, error: BaseException | None) -> None:
            run.busy -= 1
            if isinstance(error, NoQuorum | Rejected) and tries > 1:
                run.world.at(run.rng.uniform(1.0, 20.0), lambda: self._start(tries - 1))
            elif error is None:
                self._operation.answer, self._operation.ended = True, run.world.now
            elif not isinstance(error, NoQuorum | Rejected):
                run.violations.append(f"the copy could not be declared: {error!r}")

        run.world.start(process, self._declaring(process.name, manifest), done)

    def _declaring(self, name: str, manifest: Any) -> Any:
        view = yield from manifest.reading()
        self.bind(name, view.state.targets)
        config = view.config
        if self._is_moved(view.state.targets):
            return view
        drop_stale_registers(PortOf(self._copy), config.place)
        self._run.world.elsewhere[name, self.site] = self.halfway(config)
        ring = SetRing(epoch=view.state.ring_epoch + 1, targets=self.targets())
        return (yield from self.declared(manifest, config, ring))

    def halfway(self, config: Any) -> Any:
        """The register that ends is asked for at the original, the one that begins at the copy."""
        assert self._copy is not None
        ended = acceptor_prefix(config.generation, config.number, config.recovery)
        original = self._run.world.sites[self.site]
        return Ported(MovedRegister(PortOf(original), PortOf(self._copy), ended))

    def declared(self, manifest: Any, config: Any, ring: SetRing) -> Any:
        """The copy's register begins a new life, in the commit that changes the address."""
        members = [Member(row.site, row.target, row.mode, fresh=row.site == self.site) for row in config.voters]
        return (yield from manifest.setting_voters(members, (ring,)))

    def in_the_end(self) -> None:
        """Every host reads at the catalogue's places, whatever its configuration says."""
        for client in (*self._clients, *(Process(name, None) for name in ("stranger", "repairer", "auditor"))):
            self._run.world.elsewhere.pop((client.name, self.site), None)
        if self._copy is not None and self._has_moved():
            self._run.world.sites[self.site] = self._copy

    def _has_moved(self) -> bool:
        """By a host that is configured for the original, or for the copy where it finds no quorum otherwise."""
        process = Process("last", MemoryState())
        manifest = self._run.manifest(process)
        try:
            view = self._run.world.settle(process, manifest.reading())
        except NoQuorum:
            self._run.world.elsewhere[process.name, self.site] = self._copy
            view = self._run.world.settle(process, manifest.reading())
        return self._is_moved(view.state.targets)


class PortOf:
    """A simulated site as a store, for production code that wraps stores."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        names = self._site.perform(ports.List("", prefix, start_after))
        return (ObjectInfo(name, len(self._site.objects[name])) for name in names)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if name not in self._site.objects:
            raise ObjectMissing(name)
        return self._site.objects[name]

    def read_tagged(self, name: str) -> ports.Tagged | None:
        data = self._site.objects.get(name)
        return None if data is None else ports.Tagged(data, tag_of(data))

    def put(self, name: str, data: bytes) -> None:
        self._site.perform(ports.Put("", name, data))

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return bool(self._site.perform(ports.PutIfAbsent("", name, data)))

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        tag: str | None = self._site.perform(ports.Swap("", name, data, expected_tag))
        return tag

    def delete(self, name: str) -> None:
        self._site.perform(ports.Delete("", name))


class Ported:
    """A store as a simulated site."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def perform(self, request: ports.SiteRequest, who: str = "") -> Any:
        try:
            return _perform(self._port, request)
        except ObjectMissing:
            return ports.Missing()
