"""A short run of what `make chaos-servers` does for long."""

import pytest
import seaweed
from chaos_servers import run


@pytest.mark.thorough
def test_servers_that_die_in_mid_backup_lose_nothing_acknowledged():
    seaweed.demand()
    told = run(2, seed=7)
    assert told.startswith("2 cycles"), told
