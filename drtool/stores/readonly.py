"""A store that refuses changes, for dry runs."""

from collections.abc import Sequence
from typing import NoReturn

from drtool.errors import TargetReadOnly
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer


class ReadOnlyStore(PassingStore):
    """A store that passes reads on. A write is a bug, and raises an error that shows it."""

    def put(self, name: str, data: Buffer) -> NoReturn:
        _refuse("store", name)

    def delete(self, name: str) -> NoReturn:
        _refuse("delete", name)

    def sweep(self, directories: Sequence[str], older_than_s: float) -> NoReturn:
        _refuse("sweep", ", ".join(directories))

    def put_if_absent(self, name: str, data: bytes) -> NoReturn:
        _refuse("store", name)

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> NoReturn:
        _refuse("replace", name)


def _refuse(verb: str, name: str) -> NoReturn:
    raise TargetReadOnly(f"opened read-only: it will not {verb} {name}")
