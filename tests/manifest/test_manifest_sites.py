"""The manifest over real directories: quiet commits, sites that fail in every way, concurrent processes, kill -9."""

import os
import shutil
import signal
import threading
import time

import pytest
from manifest_world import Sites, backup, snapshot, sources

from drtool.errors import Diverged, NoQuorum, NoRepository, Refused, Rejected
from drtool.manifest import (
    AddSnapshot,
    DirectoryState,
    Manifest,
    MemoryState,
    OpenSession,
    Policy,
    SetPolicy,
    SetRing,
    proposer,
)
from drtool.manifest.ports import List, PutIfAbsent, Read

PREFIX = "manifest/acc/g0001/c000001"


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path)


@pytest.fixture
def manifest(sites):
    return sites.found()


def newest_record(sites, name):
    return max((sites.root / name / PREFIX).iterdir())


def test_every_host_reads_a_commit(sites, manifest):
    committed = backup(manifest)
    view = sites.host("another").read()
    assert (view.sequence, view.digest) == (committed.view.sequence, committed.view.digest)
    assert sources(view) == ["home"]
    assert not view.state.sessions
    assert [row.sequence for row in view.state.snapshots] == [3]
    assert [(t.name, t.weight) for t in view.state.ring.targets] == [(f"site{i}/main", 1) for i in range(3)]


def test_one_site_is_a_manifest_too(tmp_path):
    sites = Sites(tmp_path, 1)
    backup(sites.found())
    assert sources(sites.host().read()) == ["home"]


def test_a_manifest_is_founded_once(sites, manifest):
    with pytest.raises(Refused):
        sites.found()


def test_nothing_there_is_said_so(sites):
    with pytest.raises(NoRepository):
        sites.host().read()


def test_a_quiet_commit_takes_six_round_trips_and_a_read_two(sites, manifest):
    """For the last host that wrote. Another host needs one more, to read the predecessor."""
    steps: list[object] = []
    host = sites.host(hook=lambda _step, request: steps.append(request))
    host.read()
    one_site = [type(r) for r in steps if getattr(r, "site", "") == "site0"]
    assert one_site == [List, Read]
    steps.clear()
    host.commit(SetPolicy(Policy(1)))
    one_site = [type(r) for r in steps if getattr(r, "site", "") == "site0"]
    assert one_site == [List, Read, PutIfAbsent, List, PutIfAbsent, List]


def test_no_thread_is_left_behind(sites, manifest):
    before = set(threading.enumerate())  # an earlier test may have left a call that hangs for ever
    backup(manifest)
    assert set(threading.enumerate()) <= before


def test_a_minority_may_be_away_and_catches_up(sites, manifest):
    (sites.root / "site1").rename(sites.root / "away")
    backup(sites.host())
    (sites.root / "away").rename(sites.root / "site1")
    status = sites.host().status()
    assert {row.site: row.lag for row in status.acceptors} == {"site0": 0, "site1": 2, "site2": 0}
    assert not any(row.problem for row in status.acceptors)
    assert not sites.host().check()
    sites.host().refresh()
    assert {row.lag for row in sites.host().status().acceptors} == {0}


def test_a_majority_that_is_away_is_said_at_once(sites, manifest):
    stores = sites.stores()
    shutil.rmtree(sites.root / "site1")
    shutil.rmtree(sites.root / "site2")
    host = sites.host(sites=stores)
    began = time.monotonic()
    with pytest.raises(NoQuorum, match=r"needs 2 of 3 sites and reached 1 \(site0\)") as caught:
        host.read()
    with pytest.raises(NoQuorum):
        host.commit(SetPolicy(Policy(1)))
    assert time.monotonic() - began < 8.0  # less than the patience of one of them
    assert "--manifest-from site0" in caught.value.hint
    view = host.read_offline()
    assert view.tentative
    assert (view.sequence, view.confirmed_sequence) == (1, 1)
    status = host.status()
    assert (status.quorum.needed, status.quorum.reachable, status.agreed) == (2, 1, False)
    assert [row.reachable for row in status.acceptors] == [True, False, False]


class Hanging:
    """A site that answers on command, which may never come."""

    def __init__(self, store) -> None:
        self._store = store
        self.free = threading.Event()

    def __getattr__(self, name):
        def wait(*words, **options):
            self.free.wait(30)
            return getattr(self._store, name)(*words, **options)

        return wait


def test_one_site_that_hangs_delays_a_commit_by_the_graces_only(sites, manifest, monkeypatch):
    stores = sites.stores()
    stores["site2"] = Hanging(stores["site2"])
    host = sites.host(sites=stores, request_timeout_s=25.0)
    began = time.monotonic()
    host.commit(SetPolicy(Policy(1)))
    assert time.monotonic() - began < 20.0
    for grace in ("SURVEY_GRACE_S", "ACCEPT_GRACE_S"):
        monkeypatch.setattr(proposer, grace, 25.0)
    began = time.monotonic()
    host.commit(SetPolicy(Policy(2)))
    assert time.monotonic() - began < 20.0, "a site that is known to hang is not waited for"
    stores["site2"].free.set()


class Far:
    """A site that answers slowly, but does answer."""

    def __init__(self, store, delay_s: float) -> None:
        self._store = store
        self._delay_s = delay_s

    def __getattr__(self, name):
        def wait(*words, **options):
            time.sleep(self._delay_s)
            return getattr(self._store, name)(*words, **options)

        return wait


def test_a_far_site_does_not_lag_for_ever(sites, manifest):
    stores = sites.stores()
    stores["site2"] = Far(stores["site2"], 0.1)
    host = sites.host(sites=stores)
    for copies in (1, 2):
        host.commit(SetPolicy(Policy(copies)))
    assert {row.lag for row in sites.host().status().acceptors} == {0}


def test_a_majority_that_hangs_is_given_up(sites, manifest):
    stores = sites.stores()
    for name in ("site1", "site2"):
        stores[name] = Hanging(stores[name])
    host = sites.host(sites=stores, request_timeout_s=0.2, patience_s=0.5, deadline_s=3.0)
    began = time.monotonic()
    with pytest.raises(NoQuorum):
        host.commit(SetPolicy(Policy(1)))
    assert time.monotonic() - began < 25.0  # each of them would hang for 30 s
    for name in ("site1", "site2"):
        stores[name].free.set()


def test_a_damaged_record_is_named_and_the_others_go_on(sites, manifest):
    path = newest_record(sites, "site1")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    backup(sites.host())
    broken = next(row for row in sites.host().status().acceptors if row.site == "site1")
    assert broken.reachable
    assert "key did not make" in broken.problem
    assert ("site1", "broken") in {(p.site, p.kind) for p in sites.host().check()}


def test_a_record_without_predecessor_is_no_memory(sites, manifest):
    """A wiped site, on which a late put lands: it has forgotten its promises and must not count."""
    backup(manifest)
    records = sorted((sites.root / "site1" / PREFIX).iterdir())
    for path in records[:-1]:
        path.unlink()
    status = next(row for row in sites.host("new").status().acceptors if row.site == "site1")
    assert "no predecessor" in status.problem
    records[-1].unlink()
    status = next(row for row in sites.host("new").status().acceptors if row.site == "site1")
    assert "holds no acceptor" in status.problem
    shutil.rmtree(sites.root / "site2")
    with pytest.raises(NoQuorum):
        sites.host("new").read()


def test_a_record_without_predecessor_is_no_memory_even_to_the_host_that_saw_it(sites, manifest):
    """A host knows an old record. Others write newer ones, the site is wiped, and a repeated put brings the old one back."""
    old_host = sites.host("old")
    backup(old_host)
    known = newest_record(sites, "site1")
    data = known.read_bytes()
    backup(sites.host("newer"))
    for path in (sites.root / "site1" / PREFIX).iterdir():
        path.unlink()
    known.write_bytes(data)
    status = next(row for row in old_host.status().acceptors if row.site == "site1")
    assert "no predecessor" in status.problem
    shutil.rmtree(sites.root / "site2")
    with pytest.raises(NoQuorum):
        old_host.commit(SetPolicy(Policy(1)))


def test_a_site_that_went_back_in_time_is_named_and_takes_part_again(sites, manifest):
    shutil.copytree(sites.root / "site1", sites.root / "old")
    backup(manifest)
    shutil.rmtree(sites.root / "site1")
    (sites.root / "old").rename(sites.root / "site1")
    host = sites.host()
    assert [row.problem for row in host.status().acceptors if row.site == "site1"] != [None]
    assert [(p.site, p.kind) for p in host.check()] == [("site1", "rolled-back")]
    assert host.status().quorum.reachable == 2
    host.commit(SetPolicy(Policy(1)))
    assert not host.check()
    assert {row.lag for row in sites.host().status().acceptors} == {0}


def test_a_majority_that_went_back_in_time_is_not_believed(sites, manifest):
    for name in ("site1", "site2"):
        shutil.copytree(sites.root / name, sites.root / f"old-{name}")
    backup(manifest)
    for name in ("site1", "site2"):
        shutil.rmtree(sites.root / name)
        (sites.root / f"old-{name}").rename(sites.root / name)
    with pytest.raises(NoQuorum, match="went back in time"):
        sites.host().commit(SetPolicy(Policy(1)))
    view = sites.host().read_offline("site1")
    assert view.tentative
    assert "went back in time" in view.problems[0]


def test_a_fork_is_noticed_by_a_host_that_saw_the_other_past(sites, manifest):
    """All sites are restored from earlier copies, and then written to by a new host."""
    shutil.copytree(sites.root, sites.root.parent / "before", ignore=shutil.ignore_patterns("state"))
    backup(manifest, "seen")
    for name in sites.names:
        shutil.rmtree(sites.root / name)
        shutil.copytree(sites.root.parent / "before" / name, sites.root / name)
    stranger = sites.host("stranger")
    for _ in range(3):
        backup(stranger, "unseen")
    view = sites.host().read()
    assert "history differs" in view.problems[0]
    with pytest.raises(Diverged):
        sites.host().commit(SetPolicy(Policy(1)))
    assert ("", "witness") in [(p.site, p.kind) for p in sites.host().check()]
    with pytest.raises(Diverged, match="history differs") as caught:  # as `repair` does to the catalogue
        sites.host().refresh()
    assert "manifest recover" in caught.value.hint
    after = sites.host().read()
    assert (after.digest, after.problems) == (view.digest, view.problems), "it was not accepted in silence"
    sites.host().recover(["site0", "site1", "site2"])
    assert sites.host().commit(SetPolicy(Policy(1))).view.problems == ()


def test_a_configuration_with_unproven_seals_is_not_written_to(sites, manifest):
    for name in sites.names:
        (sites.root / name / PREFIX / "z-sealed").write_bytes(b"")
    with pytest.raises(NoQuorum, match="sealed"):
        sites.host(patience_s=0.1).commit(SetPolicy(Policy(1)))


def test_old_records_are_collected_and_two_always_stay(sites, manifest):
    for _ in range(12):
        backup(manifest)
    versions = sorted(int(path.name[2:]) for path in (sites.root / "site0" / PREFIX).iterdir())
    assert versions[-1] == 49
    assert 2 <= len(versions) <= 20
    assert versions == list(range(versions[0], 50))


def test_a_rejection_says_why_and_changes_nothing(sites, manifest):
    before = manifest.read().sequence
    with pytest.raises(Rejected) as caught:
        manifest.commit(AddSnapshot(b"s" * 16, snapshot(b"s" * 16)))
    assert caught.value.reason == "session-not-open"
    with pytest.raises(Rejected) as caught:
        manifest.commit(SetRing(epoch=7, targets=manifest.read().state.targets))
    assert caught.value.reason == "ring-changed"
    assert manifest.read().sequence == before
    assert not DirectoryState(sites.root / "state" / "host").outstanding()


def test_a_commit_that_got_no_quorum_is_made_once_when_it_is_repeated(sites, manifest):
    host = sites.host()
    op = OpenSession(kind="backup", host_id="host", host="host", source="late")
    down = {name: host._sites.pop(name) for name in ("site1", "site2")}
    with pytest.raises(NoQuorum):
        host.commit(op)
    host._sites.update(down)
    first = host.commit(op)
    assert [row.source for row in first.view.state.sessions] == ["late"]
    second = host.commit(op)  # the first call has its answer: this is another wish
    assert len(second.view.state.sessions) == 2


def test_phases_are_traced_by_their_names(sites, manifest):
    phases: list[str] = []
    sites.host(trace=lambda note: phases.append(note.phase)).commit(SetPolicy(Policy(1)))
    assert phases == ["election", "prepare", "accept", "decide", "confirm"]


def in_child(work) -> int:
    """Run `work` in a forked process, and return its wait status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def test_four_processes_commit_at_once(sites, manifest):
    def work(name):
        host = sites.host(name)
        for i in range(4):
            backup(host, f"{name}.{i}")

    pids = []
    for name in ("a", "b", "c", "d"):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(name)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0, 0]
    view = sites.host("reader").read()
    assert sorted(sources(view)) == sorted(f"{name}.{i}" for name in "abcd" for i in range(4))
    assert view.sequence == 1 + 2 * 16
    assert not sites.host().check()


def test_a_committer_killed_at_any_step_harms_no_other_host(sites, manifest):
    """SIGKILL before every request of a commit, in turn. The next committer continues each time."""
    killed = 0
    for step in range(1, 500):

        def work(step=step):
            def hook(number, _request):
                if number == step:
                    os.kill(os.getpid(), signal.SIGKILL)

            host = sites.host("victim", hook=hook)
            batch_of_one(host, f"victim.{step}")

        if in_child(work) == 0:
            break
        killed += 1
        if step % 4 == 0:
            batch_of_one(sites.host("other"), f"other.{step}")
    assert killed > 30
    victim = sites.host("victim")
    victim.settle()
    marks = sources(victim.read())
    assert len(set(marks)) == len(marks)
    assert f"victim.{killed + 1}" in marks
    assert all(f"other.{step}" in marks for step in range(4, killed + 1, 4))
    assert not victim.check()


def batch_of_one(host: Manifest, source: str) -> None:
    session = os.urandom(16)
    opening = OpenSession(kind="backup", host_id="h", host="h", source=source, session=session)
    host.commit([opening, AddSnapshot(session, snapshot(session, source))])


def test_a_host_without_memory_reads_all_the_same(sites, manifest):
    backup(manifest)
    view = Manifest(sites.stores(), sites.keys, MemoryState()).read()
    assert sources(view) == ["home"]
