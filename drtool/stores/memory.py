"""The executable specification of both ports: a dictionary with one lock."""

from collections.abc import Iterator, Sequence
from threading import Lock

from drtool.errors import ObjectMissing, StoreError
from drtool.model import ObjectInfo
from drtool.stores.names import check_name
from drtool.stores.ports import Buffer, Mode, Tagged, tag_of


class MemoryStore:
    """Objects in memory. `close` does nothing."""

    def __init__(self, mode: Mode = "chain") -> None:
        self._mode: Mode = mode
        self._objects: dict[str, bytes] = {}
        self._lock = Lock()

    @property
    def mode(self) -> Mode:
        return self._mode

    def put(self, name: str, data: Buffer) -> None:
        check_name(name)
        frozen = bytes(data)
        with self._lock:
            self._objects[name] = frozen

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        data = self._find(name)
        if data is None:
            raise ObjectMissing(f"{name} does not exist")
        return data[start:] if length is None else data[start : start + length]

    def stat(self, name: str) -> int:
        return len(self.get(name))

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        with self._lock:
            rows = [ObjectInfo(name, len(data)) for name, data in self._objects.items()]
        for row in sorted(rows, key=lambda row: row.name):
            if row.name.startswith(prefix) and row.name > start_after:
                yield row

    def delete(self, name: str) -> None:
        check_name(name)
        with self._lock:
            self._objects.pop(name, None)

    def free_bytes(self) -> int | None:
        return None

    def try_room(self, size_bytes: int) -> None:
        """Accept any size, because memory has no known limit."""

    def sweep(self, directories: Sequence[str], older_than_s: float) -> None:
        """Do nothing, because there are no partial objects."""

    def close(self) -> None:
        pass

    def put_if_absent(self, name: str, data: bytes) -> bool:
        check_name(name)
        with self._lock:
            if name in self._objects:
                return False
            self._objects[name] = data
            return True

    def read_tagged(self, name: str) -> Tagged | None:
        data = self._find(name)
        return None if data is None else Tagged(data=data, tag=tag_of(data))

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        if self._mode != "cas":
            raise StoreError("this register is a chain and has no compare and swap")
        check_name(name)
        with self._lock:
            current = self._objects.get(name)
            if (None if current is None else tag_of(current)) != expected_tag:
                return None
            self._objects[name] = data
            return tag_of(data)

    def _find(self, name: str) -> bytes | None:
        check_name(name)
        with self._lock:
            return self._objects.get(name)
