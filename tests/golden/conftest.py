"""The product's own slots: as much work as it asks for, each time."""

import pytest
import remembered_keys


@pytest.fixture(scope="module", autouse=True)
def nothing_is_remembered():
    with remembered_keys.forgetting():
        yield
