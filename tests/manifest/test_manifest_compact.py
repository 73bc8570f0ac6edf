"""Objects that no head names are removed, except those that an active reader or writer may need."""

import os
import threading
from unittest.mock import patch

import pytest
from manifest_world import Sites, backup, sources

from drtool.crypto import object_name
from drtool.manifest import Member

OLD = "manifest/acc/g0001/c000001"


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path / "world", 3, spare=1)


@pytest.fixture
def small_heads():
    with patch("drtool.manifest.commit.RECENT_LIMIT", 6):
        yield


def objects(sites, name):
    directory = sites.root / name / "manifest" / "obj"
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def leave_garbage(sites, name):
    """An object of a fold that lost its race."""
    data = os.urandom(100)
    path = sites.root / name / "manifest" / "obj" / object_name(data).hex()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path.name


def test_garbage_goes_and_everything_that_is_named_stays(sites, small_heads):
    host = sites.found()
    for i in range(8):
        backup(host, f"s{i}")
    orphan = leave_garbage(sites, "site1")
    before = objects(sites, "site0")
    would = host.compact(dry_run=True)
    assert would.objects["site1"] == would.objects["site0"] + 1
    assert orphan in objects(sites, "site1")
    did = host.compact()
    assert did.objects["site1"] >= 1
    assert orphan not in objects(sites, "site1")
    assert objects(sites, "site0") & before
    assert sources(sites.host("stranger").read()) == [f"s{i}" for i in range(8)]
    assert sites.host("stranger").check() == []


def test_old_records_and_ended_registers_go(sites):
    host = sites.found()
    for _ in range(3):
        backup(host)
    sites.names.append("site3")
    with patch("drtool.manifest.switching.Delete", side_effect=lambda site, name: _no(site)):
        sites.host().set_voters([Member(f"site{i}", f"site{i}/main") for i in range(4)])
    assert len(list((sites.root / "site0" / OLD).iterdir())) > 1
    backup(sites.host())
    done = sites.host().compact()
    assert done.records["site0"] > 1
    assert [path.name for path in (sites.root / "site0" / OLD).iterdir()] == ["z-sealed"]
    assert len(list((sites.root / "site0" / "manifest/acc/g0001/c000002").iterdir())) == 2
    assert sites.host().check() == []


def _no(site):
    from drtool.manifest.ports import List

    return List(site, "nothing")


def test_compaction_while_others_commit_loses_nothing(sites, small_heads):
    sites.found()
    failures = []

    def write(name):
        try:
            host = sites.host(name)
            for i in range(5):
                backup(host, f"{name}.{i}")
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(f"w{i}",)) for i in range(2)]
    for thread in threads:
        thread.start()
    compactor = sites.host("compactor")
    while any(thread.is_alive() for thread in threads):
        compactor.compact()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(sources(sites.host("stranger").read())) == sorted(f"w{w}.{i}" for w in range(2) for i in range(5))
    assert sites.host("stranger").check() == []
