"""A store that refuses to change anything: what a dry run is given."""

from collections.abc import Sequence
from typing import NoReturn

from drtool.errors import TargetReadOnly
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer


class ReadOnlyStore(PassingStore):
    """Reads pass; a write is an error in the program, and becomes one that is seen."""

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
    raise TargetReadOnly(f"opened for reading only: it will not {verb} {name}")
