"""An ext4 file system cut off in mid-write: what was acknowledged is on the disk, what was read is too, and nothing is torn.

The cut is the EXT4_IOC_SHUTDOWN ioctl; the disk is then mounted again as it was at that moment. With the discipline of
`durable.py` broken, the same tests lose data: so they can fail.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from chaos_sites import POWER_CUTS, Ext4Site, after_power_cut, run, shut_down, why_no_mounts

from drtool.crypto import Keyring
from drtool.manifest import Author, DirectoryState, Founding, Manifest, Policy, SetPolicy, Target
from drtool.manifest.names import acceptor_prefix
from drtool.stores import LocalStore, durable

HERE = Path(__file__).parent
NAMES = [str(HERE.parents[1]), str(HERE.parent / "sim"), str(HERE)]
ENOUGH = 40

WRITER = """
import contextlib, hashlib, itertools, os, sys, time
from pathlib import Path
from chaos_mutations import MUTATIONS
from drtool.stores import LocalStore
root, broken, pause_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
with MUTATIONS[broken]() if broken else contextlib.nullcontext():
    store = LocalStore.open(root)
    for i in itertools.count():
        name = f"manifest/acc/{i % 3}/v-{os.getpid()}-{i:06}"
        data = hashlib.sha512(name.encode()).digest() * 150
        assert store.put_if_absent(name, data)
        print(name, flush=True)
        time.sleep(pause_s)
"""


@pytest.fixture(scope="module")
def disks_are_possible(tmp_path_factory):
    why = why_no_mounts(tmp_path_factory.mktemp("probe"))[1]
    if why:
        pytest.skip(f"no ext4 on a loop device here: {why}")


@pytest.fixture
def disk(tmp_path, disks_are_possible):
    site = Ext4Site(tmp_path, "disk")
    site.prepare()
    LocalStore.create(site.root).close()
    yield site
    site.close()


def cut(site, how="flush nothing"):
    """The power goes and comes back."""
    shut_down(site.place, how)
    run("umount", "-l", site.place)
    time.sleep(0.1)
    site.image = after_power_cut(site.image)
    site.mount()


def acknowledged_until_the_cut(site, how, broken="", pause_s=0.0):
    """What a process of its own was told to be stored before the power went, while it went on writing."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, site.root, broken, str(pause_s)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(NAMES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as writer:
        names = [writer.stdout.readline().strip() for _ in range(ENOUGH)]
        cut(site, how)
        names += [line.strip() for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == 1
    return names


def lost(site, names):
    """Which of them are not there; fails if anything that is there is not whole."""
    with_store = LocalStore.open(site.root)
    there = {row.name: with_store.get(row.name) for row in with_store.list("manifest/") if ".tmp" not in row.name}
    with_store.close()
    torn = [name for name, data in there.items() if data != hashlib.sha512(name.encode()).digest() * 150]
    return [name for name in names if name not in there], torn


@pytest.mark.parametrize("how", POWER_CUTS)
@pytest.mark.spread(3)
def test_what_was_acknowledged_is_there_whole(disk, how):
    names = acknowledged_until_the_cut(disk, how)
    assert len(names) >= ENOUGH
    assert lost(disk, names) == ([], [])


def test_without_the_sync_of_the_directory_names_would_be_lost(disk):
    for _ in range(5):  # the next record's sync takes this one's name along, so the cut must come before it
        missing, torn = lost(disk, acknowledged_until_the_cut(disk, "flush nothing", "no-directory-sync", pause_s=0.02))
        assert not torn
        if missing:
            return
    pytest.fail("no name was lost: the tests above could not fail")


def test_without_the_sync_of_the_file_records_would_be_torn(disk):
    _, torn = lost(disk, acknowledged_until_the_cut(disk, "flush nothing", "no-file-sync"))
    assert torn


@pytest.mark.parametrize(("read", "kept"), [("read_tagged", True), ("get", False)])
def test_what_was_read_as_a_record_stays_though_its_writer_died_before_its_sync(disk, monkeypatch, read, kept):
    store = LocalStore.open(disk.root)
    store.put_if_absent("acc/v-1", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync_directory", lambda _directory: None)
        store.put_if_absent("acc/v-2", b"2")
    store.close()
    reader = LocalStore.open(disk.root)
    assert getattr(reader, read)("acc/v-2")
    reader.close()
    cut(disk)
    after = LocalStore.open(disk.root)
    assert [row.name for row in after.list()] == ["acc/v-1"] + ["acc/v-2"] * kept
    after.close()


class Sites:
    """A manifest over two directories and a disk whose power can go."""

    def __init__(self, disk):
        self.roots = {name: disk.place.parent / name for name in ("a", "b")} | {"disk": disk.root}
        for root in self.roots.values():
            LocalStore.create(root).close()
        self.state = disk.place.parent / "state"
        self.keys = Keyring.draw(os.urandom(16))
        targets = tuple(Target(f"{name}/main", 1, "active", f"file://{root}") for name, root in self.roots.items())
        voters = tuple((name, f"{name}/main") for name in self.roots)
        founding = Founding(
            repository=self.keys.repository, label="test", policy=Policy(copies=2), targets=targets, voters=voters
        )
        with self.stores() as stores:
            Manifest.found(stores, self.keys, founding, DirectoryState(self.state / "founder"))

    @contextmanager
    def stores(self):
        opened = {name: LocalStore.open(root) for name, root in self.roots.items()}
        yield opened
        for store in opened.values():
            store.close()

    @contextmanager
    def host(self, name):
        with self.stores() as stores:
            yield Manifest(stores, self.keys, DirectoryState(self.state / name), author=Author(host_id=name, host=name))

    def commit(self, host, copies):
        with self.host(host) as manifest:
            return manifest.commit(SetPolicy(Policy(copies=copies)))

    def versions(self):
        return sorted(path.name for path in (self.roots["disk"] / acceptor_prefix(1, 1)).glob("v-*"))


def dies_between_link_and_sync(sites, device):
    """A commit whose process ends when its first record at the disk has its name and is not synced."""
    if (child := os.fork()) == 0:
        create, sync = durable.create, durable.sync_directory

        def last(directory):
            if os.fstat(directory).st_dev == device:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(directory)

        def create_and_die(directory, name, data):
            if name.startswith("v-") and os.fstat(directory).st_dev == device:
                durable.sync_directory = last
            return create(directory, name, data)

        try:
            durable.create = create_and_die
            sites.commit("writer", 3)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("somebody_read_it", [False, True])
def test_a_version_lost_between_link_and_sync_was_counted_by_nobody(disk, somebody_read_it):
    """The site then goes back by a version that nobody saw; one that somebody saw, that one had made durable."""
    sites = Sites(disk)
    for host in ("writer", "other"):
        sites.commit(host, 1)
    before = sites.versions()
    dies_between_link_and_sync(sites, disk.root.stat().st_dev)
    assert len(sites.versions()) == len(before) + 1
    if somebody_read_it:
        with sites.host("other") as manifest:
            manifest.read()
    cut(disk)
    assert len(sites.versions()) == len(before) + somebody_read_it
    for host in ("other", "writer"):
        with sites.host(host) as manifest:
            assert manifest.read().problems == ()
            assert [row.problem for row in manifest.status().acceptors] == [None] * 3
            manifest.settle()
            assert manifest.check() == []
    committed = sites.commit("other", 2)
    assert committed.view.state.policy.copies == 2
    with sites.host("writer") as manifest:
        assert manifest.read().sequence == committed.view.sequence
        assert manifest.check() == []
    assert len(sites.versions()) > len(before) + 1
