"""Closes the stores of the many hosts that tests of the catalogue create."""

import pytest

from drtool.stores import LocalStore


@pytest.fixture(autouse=True)
def stores_are_closed(monkeypatch):
    made = []  # including unreferenced hosts, because their descriptors are still open
    plain = LocalStore.__init__

    def init(self, root, descriptor):
        plain(self, root, descriptor)
        made.append(self)

    monkeypatch.setattr(LocalStore, "__init__", init)
    yield
    for store in made:
        store.close()
