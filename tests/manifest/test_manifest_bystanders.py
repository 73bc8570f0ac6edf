"""Observations that a host must not misread while other hosts are changing the manifest. Found by real processes."""

import threading
import time

import pytest
from manifest_world import Sites, backup

from drtool.manifest import Member, Policy, SetPolicy, chain, following
from drtool.manifest.head import RECENT_LIMIT
from drtool.manifest.ports import List, PutIfAbsent, Read

OLD = "manifest/acc/g0001/c000001/"
NEW = "manifest/acc/g0001/c000002/"


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path / "world", 3, spare=2)


class Together:
    """A hook that waits until every site has reached a request of one kind, runs `action`, and continues."""

    def __init__(self, kind, prefix, action, nth=1):
        self.kind, self.prefix, self.action, self.nth = kind, prefix, action, nth
        self.counts = {}
        self.barrier = threading.Barrier(3, action=self._act)
        self.happened = 0

    def _act(self):
        self.happened += 1
        self.action()

    def __call__(self, _step, request):
        name = getattr(request, "name", None) or getattr(request, "prefix", "")
        if not isinstance(request, self.kind) or not name.startswith(self.prefix):
            return
        self.counts[request.site] = self.counts.get(request.site, 0) + 1
        if self.counts[request.site] == self.nth:
            self.barrier.wait(timeout=30)


def test_a_check_that_listed_objects_before_a_fold_finds_nothing_missing(sites, monkeypatch):
    monkeypatch.setattr(chain, "COLLECT_EVERY", 10**6)  # so listed objects still exist when the check reads them
    sites.found()
    writer = sites.host("writer")
    while len(writer.read().learned.head.recent) < RECENT_LIMIT - 1:
        backup(writer)

    hook = Together(
        Read, OLD, lambda: backup(writer), nth=2
    )  # the first is to find out which configuration is in force
    assert sites.host("checker", hook=hook).check() == []
    assert hook.happened == 1


def test_a_check_while_the_voters_change_reports_no_problem(sites):
    backup(sites.found())
    writer = sites.host("writer")
    anew = [Member(f"site{i}", f"site{i}/main", fresh=True) for i in range(3)]
    hook = Together(Read, OLD, lambda: writer.set_voters(anew), nth=2)
    assert sites.host("checker", hook=hook).check() == []
    assert hook.happened == 1


def test_a_put_that_fell_into_a_hole_of_collection_is_no_second_record(tmp_path):
    """One host saw version n, which was then collected. After that, a delayed put of version n arrives."""
    worlds = (Sites(tmp_path / str(number)) for number in range(8))
    assert any(_put_falls_into_a_hole(world) for world in worlds), "site0 was too late in each world"


def _put_falls_into_a_hole(sites):
    """Return False if site0 answered later than the others, so that nothing could be seen in the middle."""
    backup(sites.found())
    reader, other, late = sites.host("reader"), sites.host("other"), threading.Event()
    versions = sites.root / "site0" / OLD
    stuck = {}

    def while_the_put_is_on_its_way(_step, request):
        if not isinstance(request, PutIfAbsent) or request.site != "site0" or not request.name.startswith(OLD) or stuck:
            return
        stuck["name"] = request.name
        sites.host("third", hook=read_in_the_middle).commit(SetPolicy(Policy(copies=1)))
        for _ in range(20):
            other.commit(SetPolicy(Policy(copies=2)))
        assert not (sites.root / "site0" / request.name).exists()
        late.set()

    def read_in_the_middle(_step, request):
        if (
            isinstance(request, PutIfAbsent)
            and request.site == "site0"
            and request.name != stuck["name"]
            and (sites.root / "site0" / stuck["name"]).exists()
            and "seen" not in stuck
        ):
            stuck["seen"] = max(path.name for path in versions.glob("v-*"))
            reader.read()

    sites.host("slow", hook=while_the_put_is_on_its_way).commit(SetPolicy(Policy(copies=3)))
    assert late.wait(60)
    for _ in range(100):
        if landed := (sites.root / "site0" / stuck["name"]).exists():
            break
        time.sleep(0.05)
    if not landed or not stuck["name"].endswith(stuck.get("seen", "nothing")):
        return False
    assert reader.check() == []
    return True


def test_two_hosts_that_finish_one_change_of_voters_both_succeed(sites):
    backup(sites.found())
    other = sites.host("other")
    hook = Together(List, NEW, other.read, nth=2)
    view = sites.host("first", hook=hook).set_voters(
        [Member(f"site{i}", f"site{i}/main", fresh=True) for i in range(3)]
    )
    assert hook.happened == 1
    assert view.config.number == 2
    assert other.read().config.number == 2


def test_a_host_that_was_away_for_many_changes_of_voters_comes_back(sites, monkeypatch):
    monkeypatch.setattr(following, "SWITCHES_LIMIT", 3)
    backup(sites.found())
    away = sites.host("away")
    away.read()
    for _ in range(6):
        sites.host().set_voters([Member(f"site{i}", f"site{i}/main", fresh=True) for i in range(3)])
    assert away.read().config.number == 7
    backup(away)
