"""The ports of stores: the promises of a place for objects, and the additional ones of a voter's register.

Invariants, for every medium
    A put is atomic and durable when it returns: readers see the old bytes or the new ones, never a mixture.
    Absence is never guessed: `ObjectMissing` means that the medium reported it. Every other failure is another error.
    Names are plain lower-case ASCII paths (`names.py`). Listings are sorted by their bytes and show nothing else.
"""

from collections.abc import Iterator, Sequence
from mmap import mmap
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from blake3 import blake3
from msgspec import Struct

from drtool.model import ObjectInfo
from drtool.stores.voting import VoteVerdict

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap
"""The types of data. A page-aligned writable buffer (an `mmap` or a slice of one) is the cheapest for a directory."""

Mode: TypeAlias = Literal["chain", "cas"]
"""How a register advances: by new names that are never overwritten, or by compare and swap on one name."""


class Tagged(Struct, frozen=True):
    """An object's bytes, and a token for exactly these bytes."""

    data: bytes
    tag: str


def tag_of(data: Buffer) -> str:
    """Return the token of `data` for media without tokens of their own: BLAKE3, hexadecimal."""
    return blake3(data).hexdigest()


@runtime_checkable
class Store(Protocol):
    """A target's objects. Every method may raise `StoreError` or one of its kinds."""

    def put(self, name: str, data: Buffer) -> None:
        """Store `data` under `name`, replacing an existing object. Durable when it returns."""

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Return `length` bytes from `start`, or fewer at the end of the object. Raises ObjectMissing."""

    def stat(self, name: str) -> int:
        """Return the object's size in bytes. Raises ObjectMissing."""

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects with names that begin with `prefix` and sort after `start_after`, sorted, as a stream.

        An object that is there throughout is listed once. One that comes or goes meanwhile may be listed or not.
        """

    def delete(self, name: str) -> None:
        """Remove an object. If it does not exist, that is success."""

    def free_bytes(self) -> int | None:
        """Return the free space, or None if it is unknown."""

    def try_room(self, size_bytes: int) -> None:
        """Raise TargetFull if so many bytes do not fit, as far as the medium can tell without storing them."""

    def sweep(self, directories: Sequence[str], older_than_s: float) -> int | None:
        """Remove temporary files that killed writers left in these directories (`packs/ab`; the root is empty).

        Return their number, or None if the medium has no temporary files.
        """

    def close(self) -> None:
        """Release the resources of the store."""


@runtime_checkable
class Register(Protocol):
    """The additional calls of a voter's store: the two atomic steps of an acceptor."""

    @property
    def mode(self) -> Mode:
        """Return `chain` if only `put_if_absent` may be used, or `cas` if `compare_and_swap` may."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Create an object. True: this call stored these bytes, durably. False: an object existed already."""

    def read_tagged(self, name: str) -> Tagged | None:
        """Return the object with its token, or None if there is none. The data is durable when this returns."""

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        """Replace the object that has `expected_tag` (None: create it), and return the new token, or None if refused.

        A medium that cannot distinguish a refusal from a loss returns None (S3: 404, 409 and 412 all mean "read again").
        Only one of two swaps that expect the same token takes effect, however late either arrives.
        """


@runtime_checkable
class VoterStore(Store, Register, Protocol):
    """A store that can also hold a voter's register."""


@runtime_checkable
class Medium(VoterStore, Protocol):
    """A medium itself, without decorators."""

    def names(self) -> Sequence[str]:
        """Return the names of files and directories at its root, sorted, including foreign ones, except our temporary files."""

    def vote_verdict(self) -> VoteVerdict:
        """Return whether it may hold a voter's register. It may run trials with objects of its own, which it removes."""
