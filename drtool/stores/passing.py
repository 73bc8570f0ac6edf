"""The base class of store decorators, which passes every call on."""

from collections.abc import Iterator, Sequence

from drtool.errors import StoreError
from drtool.model import ObjectInfo
from drtool.stores.ports import Buffer, Mode, Register, Store, Tagged


class PassingStore:
    """A store around a store. Subclasses change one behaviour each."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self._voting: tuple[Store, Register] | None = None

    @property
    def ends_when_silent(self) -> bool:
        """Whether the medium itself ends a call without progress, so that a long call needs no other bound."""
        return getattr(self.inner, "ends_when_silent", False)

    @property
    def mode(self) -> Mode:
        return self._register().mode

    def put(self, name: str, data: Buffer) -> None:
        self.inner.put(name, data)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self.inner.get(name, start, length)

    def stat(self, name: str) -> int:
        return self.inner.stat(name)

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list(prefix, start_after)

    def delete(self, name: str) -> None:
        self.inner.delete(name)

    def free_bytes(self) -> int | None:
        return self.inner.free_bytes()

    def try_room(self, size_bytes: int) -> None:
        self.inner.try_room(size_bytes)

    def sweep(self, directories: Sequence[str], older_than_s: float) -> int | None:
        return self.inner.sweep(directories, older_than_s)

    def close(self) -> None:
        self.inner.close()

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._register().put_if_absent(name, data)

    def read_tagged(self, name: str) -> Tagged | None:
        return self._register().read_tagged(name)

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        return self._register().compare_and_swap(name, data, expected_tag)

    def _register(self) -> Register:
        if self._voting is None or self._voting[0] is not self.inner:
            # Asked once: the answer takes longer than many a request, since each decorator inside asks its own store again.
            if not isinstance(self.inner, Register):
                raise StoreError("this target's store cannot hold a voter's register")
            self._voting = (self.inner, self.inner)
        return self._voting[1]
