"""Sites of the simulated world: an honest one, and one that lies in every way that its keys allow: it has none.

Invariants
    An honest site performs each operation atomically, which is all that a voter's store promises.
    A liar never makes a byte that a key would have made; it drops, hides, repeats, overwrites, invents and mixes up.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

from drtool.manifest import ports
from drtool.manifest.names import version_name, version_of
from drtool.stores.ports import tag_of


class Site:
    """Names and bytes. `gone`: nothing is answered any more, and at once."""

    def __init__(self, mode: str = "chain") -> None:
        self.mode = mode
        self.objects: dict[str, bytes] = {}
        self.gone = False

    def perform(self, request: ports.SiteRequest, who: str = "") -> Any:
        if self.gone:
            return ports.Failed("gone", definite=True)
        return self.answer(request, who)

    def answer(self, request: ports.SiteRequest, who: str) -> Any:
        match request:
            case ports.List():
                names = (name for name in self.objects if name.startswith(request.prefix))
                return sorted(name for name in names if name > request.start_after)[: request.limit]
            case ports.Read():
                return self.objects.get(request.name, ports.Missing())
            case ports.ReadTagged():
                data = self.objects.get(request.name)
                return ports.Missing() if data is None else ports.Tagged(data, tag_of(data))
            case ports.PutIfAbsent():
                return self.objects.setdefault(request.name, request.data) is request.data
            case ports.Swap():
                return self._swap(request)
            case ports.Put():
                self.objects[request.name] = request.data
            case ports.Delete():
                self.objects.pop(request.name, None)
        return None

    def _swap(self, request: ports.Swap) -> str | None:
        assert self.mode == "cas", "a directory has no compare and swap"
        there = self.objects.get(request.name)
        if (None if there is None else tag_of(there)) != request.expected:
            return None
        self.objects[request.name] = request.data
        return tag_of(request.data)


class Liar(Site):
    """Answers truly most of the time. Its manner changes now and then: noise, an old copy for some, two faces."""

    MANNERS = ("noise", "noise", "past", "two-faced", "honest")

    def __init__(self, mode: str, seed: int, others: Mapping[str, Site]) -> None:
        super().__init__(mode)
        self._rng = random.Random(f"liar {seed}")
        self._others = others
        self._manner = "noise"
        self._left = 0  # requests until the next change of manner
        self._past: list[dict[str, bytes]] = [{}]
        self._other_face: dict[str, bytes] = {}
        self._fooled: frozenset[str] = frozenset()
        self._hosts: set[str] = set()
        self.lies = 0
        self.honest = False  # a history begins in peace

    def answer(self, request: ports.SiteRequest, who: str) -> Any:
        if self.honest:
            return super().answer(request, who)
        self._hosts.add(who)
        self._remember(request)
        if self._manner in ("past", "two-faced") and who in self._fooled:
            self.lies += 1
            return self._from_the_other_face(request, who)
        if self._manner == "noise" and self._rng.random() < 0.25:
            self.lies += 1
            return self._lie(request, who)
        return super().answer(request, who)

    def _remember(self, request: ports.SiteRequest) -> None:
        if not isinstance(request, ports.List | ports.Read | ports.ReadTagged) and self._rng.random() < 0.2:
            self._past = [*self._past[-7:], dict(self.objects)]
        self._left -= 1
        if self._left < 0:
            self._left = self._rng.randint(10, 60)
            self._manner = self._rng.choice(self.MANNERS)
            self._other_face = dict(self._rng.choice([*self._past, self.objects]))
            self._fooled = frozenset(host for host in sorted(self._hosts) if self._rng.random() < 0.5)

    def _from_the_other_face(self, request: ports.SiteRequest, who: str) -> Any:
        """A whole other site for those who are fooled. In the past, what they write is acknowledged and dropped."""
        face = dict(self._other_face) if self._manner == "past" else self._other_face
        self.objects, own = face, self.objects
        try:
            return super().answer(request, who)
        finally:
            self.objects = own

    def _lie(self, request: ports.SiteRequest, who: str) -> Any:
        match request:
            case ports.List():
                return self._false_list(request, super().answer(request, who))
            case ports.Read():
                return self._false_bytes(request.name)
            case ports.ReadTagged():
                data = self._false_bytes(request.name)
                return ports.Tagged(data, tag_of(data)) if isinstance(data, bytes) else data
            case ports.PutIfAbsent():
                return self._false_put(request)
            case ports.Swap():
                return self._false_swap(request)
        return None  # a put that is dropped, a deletion that is not done

    def _false_list(self, request: ports.List, names: list[str]) -> list[str]:
        lies: list[Callable[[], list[str]]] = [
            list,
            lambda: names[:-1],
            lambda: names[: self._rng.randint(0, len(names))],
            lambda: [*names, version_name(request.prefix, 10**11)],
            lambda: sorted({*names, version_name(request.prefix, self._rng.randint(1, 60))}),
            lambda: [*names, f"{request.prefix}z-sealed"],
            lambda: [*names, f"{request.prefix}~nonsense"],
            lambda: sorted(name for name in self._rng.choice(self._past) if name.startswith(request.prefix)),
            lambda: self._somebody().answer(request, ""),
        ]
        return self._rng.choice(lies)()

    def _false_bytes(self, name: str) -> bytes | ports.Missing:
        own = self.objects.get(name, b"")
        lies: list[Callable[[], bytes | ports.Missing]] = [
            ports.Missing,
            lambda: self._rng.randbytes(200),
            lambda: own[: len(own) // 2],
            lambda: own[:-1] + bytes([own[-1] ^ 1]) if own else ports.Missing(),
            lambda: self._rng.choice(self._past).get(name, ports.Missing()),
            lambda: self.objects.get(self._version_before(name), ports.Missing()),
            lambda: self._somebody().objects.get(name, ports.Missing()),
        ]
        return self._rng.choice(lies)()

    def _false_put(self, request: ports.PutIfAbsent) -> bool:
        lie = self._rng.randrange(4)
        if lie == 0:
            return True  # and dropped
        if lie == 1:
            self.objects[request.name] = request.data  # two win
            return True
        if lie == 2:
            self.objects.setdefault(request.name, request.data)
        return False

    def _false_swap(self, request: ports.Swap) -> str | None:
        lie = self._rng.randrange(3)
        if lie == 0:
            return tag_of(request.data)  # and dropped
        self.objects[request.name] = request.data
        return tag_of(request.data) if lie == 1 else None

    def _version_before(self, name: str) -> str:
        prefix = name.rpartition("/")[0] + "/"
        version = version_of(prefix, name)
        return version_name(prefix, version - 1) if version is not None and version > 1 else name

    def _somebody(self) -> Site:
        return self._others[self._rng.choice(sorted(self._others))]
