"""What a place for objects must do, and what a voter's register must do besides.

Invariants, for every medium
    A put is atomic and durable when it returns: readers see the old bytes or the new ones, never a mixture.
    Absent is never guessed: `ObjectMissing` means that the medium answered "not there"; every other failure is another error.
    Names are plain lower-case ASCII paths (`names.py`); listings are sorted by their bytes and show nothing else.
"""

from collections.abc import Iterator, Sequence
from mmap import mmap
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from blake3 import blake3
from msgspec import Struct

from drtool.model import ObjectInfo
from drtool.stores.voting import VoteVerdict

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap
"""What can be stored. A page-aligned writable buffer (an `mmap` or a slice of one) is the cheapest for a directory."""

Mode: TypeAlias = Literal["chain", "cas"]
"""How a register moves on: by new names that nobody overwrites, or by compare and swap on one name."""


class Tagged(Struct, frozen=True):
    """An object's bytes and a token that stands for exactly these bytes."""

    data: bytes
    tag: str


def tag_of(data: Buffer) -> str:
    """The token for `data` on media that bring none of their own: BLAKE3, hexadecimal."""
    return blake3(data).hexdigest()


@runtime_checkable
class Store(Protocol):
    """A target's objects. Every method may raise `StoreError` or one of its kinds."""

    def put(self, name: str, data: Buffer) -> None:
        """Store `data` under `name`, replacing what was there; durable when it returns."""

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`; shorter only where the object ends. `ObjectMissing` if there is none."""

    def stat(self, name: str) -> int:
        """The object's size in bytes. `ObjectMissing` if there is none."""

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose names begin with `prefix` and sort after `start_after`, sorted, streamed.

        What is there throughout is listed once; what comes or goes meanwhile may or may not be.
        """

    def delete(self, name: str) -> None:
        """Remove an object; that it was absent is success."""

    def free_bytes(self) -> int | None:
        """The room that is left, or None where nobody knows."""

    def try_room(self, size_bytes: int) -> None:
        """Raise `TargetFull` if so many bytes do not fit, as far as the medium can tell without storing them."""

    def sweep(self, directories: Sequence[str], older_than_s: float) -> int | None:
        """Remove temporary files that killed writers left in these directories (`packs/ab`; the root is empty).

        How many there were, or None where a medium has no such thing.
        """

    def close(self) -> None:
        """Give back what the store holds open."""


@runtime_checkable
class Register(Protocol):
    """What a voter's store can do besides: the two atomic steps that an acceptor is made of."""

    @property
    def mode(self) -> Mode:
        """`chain` if only `put_if_absent` may be used, `cas` if `compare_and_swap` may."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """True: these bytes are there because of this call, durably. False: something was there already."""

    def read_tagged(self, name: str) -> Tagged | None:
        """The object with its token, or None if there is none. What was read is durable."""

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        """Replace the object that has `expected_tag` (None: create it); returns the new token. None: it is another one, or gone.

        A medium that cannot tell a refusal from a loss (S3: 404, 409 and 412 all mean "read again and compare") says None.
        Only one of two swaps that expect the same token takes effect, however late either arrives.
        """


@runtime_checkable
class VoterStore(Store, Register, Protocol):
    """A store that can hold a voter's register as well."""


@runtime_checkable
class Medium(VoterStore, Protocol):
    """A place itself, before anything stands around it."""

    def names(self) -> Sequence[str]:
        """What lies at its root, sorted, files and directories alike, also what has no name of ours; not our temporary files."""

    def vote_verdict(self) -> VoteVerdict:
        """Whether it may hold a voter's register. It may try, with objects of its own that it removes."""
