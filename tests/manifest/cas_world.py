"""Voters with swapped registers beside voters with chain registers, and a single acceptor."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from manifest_world import Sites

from drtool.crypto import Keyring
from drtool.errors import StoreError
from drtool.manifest import Founding, MemoryState
from drtool.manifest.acceptor import Place, begin
from drtool.manifest.drive import Driver, no_hook
from drtool.manifest.ports import Talk
from drtool.paxos import Ballot, Chain, found, promise
from drtool.stores import LocalStore, MemoryStore

PREFIX = "manifest/acc/g0001/c000001/"
STATE = PREFIX + "state"
SEAL = PREFIX + "z-sealed"


class MixedSites(Sites):
    """The first sites are directories with chains, the last `cas` of them swap."""

    def __init__(self, root: Path, count: int = 3, cas: int = 3) -> None:
        super().__init__(root, count)
        self.swapping = {name: MemoryStore("cas") for name in self.names[count - cas :]}
        self.modes = dict.fromkeys(self.swapping, "cas")

    def stores(self) -> dict[str, LocalStore | MemoryStore]:
        return {**super().stores(), **self.swapping}

    def founding(self) -> Founding:
        return msgspec.structs.replace(super().founding(), modes=self.modes)


class TimedOut(StoreError):
    """It is unknown whether the swap was done."""

    transient = True


class Unreliable(MemoryStore):
    """A store whose swaps follow a plan: each entry of `plan` is for one swap, and later swaps work normally."""

    def __init__(self) -> None:
        super().__init__("cas")
        self.plan: list[str | Callable[[], object]] = []
        self.late: list[tuple[str, bytes, str | None]] = []
        self.swaps = 0

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        self.swaps += 1
        step = self.plan.pop(0) if self.plan else "do"
        if step == "refuse":
            return None
        if step == "lose":
            self.late.append((name, data, expected_tag))
            raise TimedOut("no answer")
        if callable(step):
            step()
        done = super().compare_and_swap(name, data, expected_tag)
        if step == "lose reply":
            raise TimedOut("no answer")
        if step == "deliver twice":  # the client library retried, and the caller gets the second answer
            return super().compare_and_swap(name, data, expected_tag)
        return done

    def land_late_swaps(self) -> list[str | None]:
        """Let the request arrive that was sent without an answer."""
        late, self.late = self.late, []
        return [super(Unreliable, self).compare_and_swap(*swap) for swap in late]


class OneAcceptor:
    """A register at one site, begun under ballot 1, with its clients."""

    def __init__(self, site: str = "paris") -> None:
        self.store = Unreliable()
        self.keys = Keyring.draw(os.urandom(16))
        self.place = self.at(site)
        self.first = found(self.place.chain, Ballot(1, b"f" * 16), b"the first head", os.urandom(16))

    def at(self, site: str, incarnation: bytes = b"i" * 16, keys: Keyring | None = None) -> Place:
        keys = keys or self.keys
        return Place(site, PREFIX, Chain(site, incarnation, keys.repository, 1, 1), keys, mode="cas")

    def begun(self) -> "OneAcceptor":
        self.run(begin(self.place, self.first))
        self.store.swaps = 0
        return self

    def run(self, talk: Talk, hook=no_hook):
        return Driver({self.place.site: self.store}, MemoryState(), hook=hook).run(talk)

    def record(self):
        return self.place.decode(self.store.get(STATE))


def promising(round_number: int, proposer: bytes = b"p" * 16):
    """The rule that promises a ballot."""
    return lambda record, own_hash, token: promise(record, own_hash, Ballot(round_number, proposer), token)
