"""What every test of the catalogue leaves as it was: hosts are made by the dozen, and nobody closes their stores."""

import pytest

from drtool.stores import LocalStore


@pytest.fixture(autouse=True)
def stores_are_closed(monkeypatch):
    made = []  # also those that nobody knows any more: their descriptors are open all the same
    plain = LocalStore.__init__

    def init(self, root, descriptor):
        plain(self, root, descriptor)
        made.append(self)

    monkeypatch.setattr(LocalStore, "__init__", init)
    yield
    for store in made:
        store.close()
