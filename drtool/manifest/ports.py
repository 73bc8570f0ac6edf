"""The requests of the manifest to the outside world, as values, and its ports to neighbouring modules.

Every conversation is a generator that yields the frozen requests below and receives their replies. `drive.py` answers
them with threads and stores, the simulator in virtual time. Requests to sites are made in the branches of a `Gather`,
so that sites are asked concurrently.

Invariants
    A reply of `Failed` to a write means *unknown*: the write may still take effect, even later.
    No generator sees a clock, a thread or an exception of a store.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from drtool.crypto import SealKind
from drtool.manifest.witness import Made, Outstanding, Witness
from drtool.model import ObjectInfo, RepositoryId, SiteName

T = TypeVar("T")


class Failed(msgspec.Struct, frozen=True):
    """A site did not do as requested, or the outcome is unknown. `definite`: it refused at once, or was not reachable."""

    reason: str
    definite: bool = False


class Missing(msgspec.Struct, frozen=True):
    """The site answered that there is no such object."""


class Tagged(msgspec.Struct, frozen=True):
    """The site answered with these bytes, and a token that stands for exactly them."""

    data: bytes
    tag: str


class List(msgspec.Struct, frozen=True):
    """Reply: the names with `prefix` after `start_after`, sorted, or Failed. `limit`: only the first so many."""

    site: SiteName
    prefix: str
    start_after: str = ""
    limit: int | None = None


class Read(msgspec.Struct, frozen=True):
    """Reply: the object's bytes, Missing or Failed. `durable`: the bytes must outlive a crash of the site."""

    site: SiteName
    name: str
    durable: bool = False


class ReadTagged(msgspec.Struct, frozen=True):
    """Reply: Tagged, Missing or Failed. The returned bytes are durable."""

    site: SiteName
    name: str


class PutIfAbsent(msgspec.Struct, frozen=True):
    """Reply: True (this call wrote these bytes), False (an object existed) or Failed."""

    site: SiteName
    name: str
    data: bytes


class Swap(msgspec.Struct, frozen=True):
    """Replace the object that has the tag `expected`, or create it with None.

    Reply: the tag of `data`, None (refused, since there is another object or none) or Failed.
    """

    site: SiteName
    name: str
    data: bytes
    expected: str | None


class Put(msgspec.Struct, frozen=True):
    """Reply: None or Failed. Only for names whose bytes never differ: content-addressed ones and key slots."""

    site: SiteName
    name: str
    data: bytes


class Delete(msgspec.Struct, frozen=True):
    """Reply: None or Failed. An absent object is a success."""

    site: SiteName
    name: str


class Sleep(msgspec.Struct, frozen=True):
    """Reply: None, after `seconds`."""

    seconds: float


class Draw(msgspec.Struct, frozen=True):
    """Reply: `count` random bytes."""

    count: int


class Now(msgspec.Struct, frozen=True):
    """Reply: seconds on a monotonic clock, for timeouts and backoff, never for safety."""


class Journal(msgspec.Struct, frozen=True):
    """Reply: None, once `entry` is durable on this host."""

    entry: Outstanding


class Note(msgspec.Struct, frozen=True):
    """Reply: None. One line for `-vv`: the phase and the event. The phase `warning` is shown to every user."""

    phase: str
    text: str


class Gather(msgspec.Struct, frozen=True):
    """Run all branches concurrently. Reply: each branch's result so far, by site, or Failed for unfinished ones.

    The reply comes when all have finished, or when `enough` says so and the others had `grace_s` more. A branch that is
    left behind goes on in the background while the call lasts, and its results are dropped.
    """

    branches: "Mapping[SiteName, Talk[Any]]"
    enough: Callable[[Mapping[SiteName, Any]], bool]
    grace_s: float = 0.0


SiteRequest: TypeAlias = List | Read | ReadTagged | PutIfAbsent | Swap | Put | Delete
Request: TypeAlias = SiteRequest | Sleep | Draw | Now | Journal | Note | Gather
Reply: TypeAlias = Any
"""Each request documents its reply, and the generator that sent it relies on that."""

Talk: TypeAlias = Generator[Request, Reply, T]


def never(_results: Mapping[SiteName, Any]) -> bool:
    """An `enough` that waits for every branch."""
    return False


class TaggedBytes(Protocol):
    """An object with its token, as a store returns it."""

    @property
    def data(self) -> bytes: ...
    @property
    def tag(self) -> str: ...


class SitePort(Protocol):
    """The part of a voter's store that the manifest uses."""

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]: ...
    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes: ...
    def read_tagged(self, name: str) -> TaggedBytes | None: ...
    def put(self, name: str, data: bytes) -> None: ...
    def put_if_absent(self, name: str, data: bytes) -> bool: ...
    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None: ...
    def delete(self, name: str) -> None: ...


class Keys(Protocol):
    """The part of a keyring that the manifest uses."""

    @property
    def repository(self) -> RepositoryId: ...
    def seal(self, kind: SealKind, plaintext: bytes, newest: int | None = None) -> bytes:
        """Seal under the current key.

        `newest`: seal under a key that key slots whose newest key is this one are sure to hold.
        """

    def open(self, kind: SealKind, sealed: bytes) -> bytes: ...
    def mac(self, purpose: str, data: bytes) -> bytes: ...
    def mac_matches(self, purpose: str, data: bytes, tag: bytes) -> bool: ...


class LocalState(Protocol):
    """This host's record from run to run. Losing it loses rollback detection, never backups."""

    def witness(self) -> Witness: ...
    def remember(self, witness: Witness) -> None:
        """Keep the newer of the present witness and `witness`."""

    def journal(self, entry: Outstanding) -> None: ...
    def settle(self, entry: Outstanding, made: Made | None = None) -> None:
        """Note that the outcome of `entry` is known. `made`: it is in the manifest (the newest of these are kept)."""

    def outstanding(self) -> tuple[Outstanding, ...]: ...
    def made(self) -> tuple[Made, ...]:
        """Return the newest confirmed changes of this host, oldest first."""

    def forget_made(self, entry: Made) -> None: ...


class PageCache(Protocol):
    """Immutable objects by name. It may drop anything at any time, and its data is always checked by hash."""

    def get(self, name: bytes) -> bytes | None: ...
    def put(self, name: bytes, data: bytes) -> None: ...
