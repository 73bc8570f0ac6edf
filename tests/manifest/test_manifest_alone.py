"""Each site that votes on a head can provide all of it alone, even if it was offline or full while pages were written."""

import shutil
from unittest.mock import patch

import pytest
from manifest_world import Sites, backup, sources

from drtool.errors import NoQuorum, TargetFull
from drtool.manifest import Member
from drtool.manifest.descent import log_page_of
from drtool.manifest.ports import List
from drtool.stores import LocalStore

PAGES = "manifest/obj/"


class FullStore:
    """A site with room for records of its register, and for nothing larger."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put(self, name, data):
        raise TargetFull(f"no space left for {name}")


@pytest.fixture
def small_heads():
    with patch("drtool.manifest.commit.RECENT_LIMIT", 6):
        yield


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


def folded(sites, count=8):
    """A catalogue after several folds of its head."""
    host = sites.found()
    for number in range(count):
        backup(host, f"s{number}")
    return host


def pages_at(sites, name):
    return {path.name: path for path in (sites.root / name / PAGES).iterdir()}


def test_a_full_site_does_not_vote_on_a_head_with_pages_that_it_did_not_store(sites, small_heads):
    sites.found()
    full = sites.stores() | {"site2": FullStore(LocalStore.open(sites.root / "site2"))}
    host = sites.host(sites=full)
    for number in range(8):
        backup(host, f"s{number}")
    told = sites.host("stranger").read_offline("site2")
    assert sources(told) == [f"s{number}" for number in range(len(told.state.snapshots))]
    assert not (sites.root / "site2" / PAGES).exists()
    del full["site1"]
    with pytest.raises(NoQuorum, match="site2: it did not accept the catalogue's pages: no space left"):
        backup(sites.host(sites=full), "s8")


def test_a_page_that_went_missing_comes_back_with_the_next_fold(sites, small_heads):
    host = folded(sites)
    needed = {page.reference.name.hex() for page in host.read().learned.checkpoint.pages()}
    lost = next(path for name, path in pages_at(sites, "site1").items() if name in needed)
    lost.unlink()
    for number in range(4):
        backup(host, f"t{number}")
    assert lost.exists()
    assert sites.host("stranger").check() == []


def test_a_quiet_commit_asks_for_no_pages_and_a_fold_lists_them_once(sites, small_heads):
    counts = []
    for number in range(8):
        asked = []
        host = sites.host(hook=lambda _step, request, asked=asked: asked.append(request)) if number else sites.found()
        backup(host, f"s{number}")
        counts.append(sum(isinstance(request, List) and request.prefix == PAGES for request in asked))
    assert 0 in counts[1:]
    assert set(counts[1:]) <= {0, 3}


def test_history_that_is_lost_everywhere_stops_neither_backups_nor_a_change_of_voters_nor_a_recovery(
    tmp_path, small_heads
):
    sites = Sites(tmp_path / "world", 3, spare=1)
    with patch("drtool.manifest.pages.FAN_OUT", 2):
        host = folded(sites, 12)
        page = host.read().learned.checkpoint.log_pages[-1].reference.name.hex()
        for name in sites.names:
            pages_at(sites, name)[page].unlink()
        for number in range(8):
            backup(sites.host("another"), f"t{number}")
    sites.names.append("site3")
    members = [Member(name, f"{name}/main") for name in ("site0", "site1", "site3")]
    sites.host("another").set_voters(members)
    for name in ("site1", "site3"):
        shutil.rmtree(sites.root / name)
    sites.names = ["site0"]
    view = sites.host("admin").recover(["site0"])
    assert sources(view) == [*(f"s{number}" for number in range(12)), *(f"t{number}" for number in range(8))]
    assert [problem.kind for problem in sites.host("admin").check() if problem.kind != "missing-object"] == ["content"]


def test_a_host_is_warned_and_continues_if_its_place_in_history_is_lost_everywhere(sites, small_heads):
    seen = folded(sites, 2).read().sequence
    other = sites.host("another")
    for number in range(8):
        backup(other, f"t{number}")
    page, _ = log_page_of(other.read().learned.checkpoint, seen)
    for name in sites.names:
        pages_at(sites, name)[page.name.hex()].unlink()
    notes = []
    host = sites.host(trace=notes.append)
    assert len(sources(host.read())) == 10
    assert any(
        note.phase == "warning" and f"it is unknown whether the catalogue descends from change {seen}" in note.text
        for note in notes
    )
    backup(host, "on")
