"""What every test of the catalogue leaves as it was: hosts are made by the dozen, and nobody closes their stores."""

from weakref import WeakSet

import pytest

from drtool.stores import LocalStore


@pytest.fixture(autouse=True)
def stores_are_closed(monkeypatch):
    made = WeakSet()
    plain = LocalStore.__init__

    def init(self, root, descriptor):
        plain(self, root, descriptor)
        made.add(self)

    monkeypatch.setattr(LocalStore, "__init__", init)
    yield
    for store in list(made):
        store.close()
