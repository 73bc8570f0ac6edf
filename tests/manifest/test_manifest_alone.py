"""Each site that votes on a head can tell all of it alone, also when it was away while pages were written."""

import shutil
from unittest.mock import patch

import pytest
from manifest_world import Sites, backup, sources


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path / "world", 3)


def test_a_site_that_missed_a_fold_gets_its_pages_when_it_votes_again(sites, tmp_path):
    with patch("drtool.manifest.commit.RECENT_LIMIT", 6):
        host = sites.found()
        away = tmp_path / "away"
        (sites.root / "site2").rename(away)
        for number in range(8):
            backup(sites.host(), f"s{number}")
        away.rename(sites.root / "site2")
        backup(sites.host(), "back")
        del host
    for name in ("site0", "site1"):
        shutil.rmtree(sites.root / name)
    sites.names = ["site2"]
    view = sites.host("stranger").read_offline("site2")
    assert sources(view) == [*(f"s{number}" for number in range(8)), "back"]
    assert sources(sites.host("another").recover(["site2"])) == sources(view)
