"""One target over several connections, so that races are really concurrent."""

import itertools
from collections.abc import Sequence

from drtool.stores.passing import PassingStore
from drtool.stores.ports import VoterStore


class SeveralConnections(PassingStore):
    """The first store serves all calls, except that objects are created over each store in turn."""

    def __init__(self, stores: Sequence[VoterStore]) -> None:
        super().__init__(stores[0])
        self._others = stores[1:]
        self._turns = itertools.cycle(stores)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return next(self._turns).put_if_absent(name, data)  # itertools is safe for any number of threads

    def close_others(self) -> None:
        for store in self._others:
            store.close()
