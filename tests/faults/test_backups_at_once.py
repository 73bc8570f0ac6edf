"""Eight concurrent backups, half of them killed: acknowledged data is there, and no process waits for a dead one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from three_sites import PASSWORD, World, fill, noise, portrait

import drtool
from drtool.errors import DrtoolError, NoQuorum, TargetFull
from drtool.stores import durable, local

RUNS = 8
SEED = 20240917


def command_line(world, *words):
    """Start a `drtool` process with the world's repository, state and cache."""
    environment = os.environ | {
        "DRTOOL_STATE_DIR": str(world.root / "state"),
        "DRTOOL_CACHE_DIR": str(world.root / "cache"),
        "DRTOOL_PASSWORD": PASSWORD.decode(),
        "PYTHONPATH": str(Path(drtool.__file__).parent.parent),
    }
    config = world.root / "drtool.yaml"
    sites = "\n".join(f"  {site}: {{main: {{url: '{world.directory(site)}'}}}}" for site in "abc")
    config.write_text(f"repository: test\nsites:\n{sites}\nredundancy: {{copies: 2}}\n")
    return subprocess.Popen(
        [sys.executable, "-m", "drtool", "--config", config, "--json", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_eight_backups_at_once_with_half_of_them_killed(place):
    world = World(place).found()
    chance = random.Random(SEED)
    sources = [
        fill(place / f"source-{number}", {f"{i}": noise(60_000, 10 * number + i) for i in range(4)})
        for number in range(RUNS)
    ]
    started = time.monotonic()
    runs = [command_line(world, "backup", source, "--tag", str(number)) for number, source in enumerate(sources)]
    doomed = chance.sample(range(RUNS), RUNS // 2)
    moments = sorted((chance.uniform(0.3, 2.5), number) for number in doomed)
    for moment, number in moments:
        time.sleep(max(0.0, started + moment - time.monotonic()))
        os.killpg(runs[number].pid, signal.SIGKILL)
    acknowledged = {}
    for number, run in enumerate(runs):
        out, err = run.communicate(timeout=100)
        if run.returncode == 0:
            acknowledged[number] = json.loads(out)["snapshots"][0]["id"]
        else:
            assert number in doomed, err.decode()
    assert set(range(RUNS)) - set(doomed) <= set(acknowledged)
    listed = {row.id.hex(): row for row in world.snapshots()}
    assert set(acknowledged.values()) <= set(listed)
    for row in listed.values():  # including snapshots of runs that died after the commit, before their report
        number = int(row.tags[0])
        out = place / f"out-{row.id.hex()[:8]}"
        assert world.restore(out, row, path=sources[number]).errors == []
        assert portrait(out) == portrait(sources[number])
    result = world.verify()
    assert (result.missing, result.damaged, result.degraded) == ([], [], False)
    after = time.monotonic()
    world.backup(sources[doomed[0]])
    world.backup(sources[doomed[0]])  # the first may find an unseen session that a killed run had sent
    assert time.monotonic() - after < 60, "dead processes hold nothing that others wait for"
    assert list(world.view().state.sessions) == []


class FullDisk:
    """`os` as used by the local store, where writes below some roots find no space."""

    def __init__(self, roots):
        self._roots = [os.stat(root).st_ino for root in roots]
        self._paths = [str(root) for root in roots]

    def __getattr__(self, name):
        return self._write if name == "write" else getattr(os, name)

    def _write(self, descriptor, data):
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(tuple(self._paths)):
            raise OSError(28, "No space left on device")
        return os.write(descriptor, data)


@pytest.fixture
def full(monkeypatch):
    """Fill the disks below some directories, including the manifest's registers."""

    def fill_up(*roots):
        disk = FullDisk(roots) if roots else os
        monkeypatch.setattr(durable, "os", disk)
        monkeypatch.setattr(local, "os", disk)

    return fill_up


def test_a_site_whose_disk_is_full_does_not_stop_the_manifest(world, full):
    source = fill(world.root / "source", {"file": noise(100_000)})
    full(world.directory("b"))
    report = world.backup(source)
    assert (report.degraded, [row.target for row in report.owed]) == (False, ["b/main"])
    full()
    assert world.restore(world.root / "out").errors == []
    result = world.verify()
    assert (result.missing, result.damaged, result.degraded) == ([], [], False)


def test_two_full_sites_stop_it_without_harm(world, full, monkeypatch):
    from drtool.manifest import facade

    monkeypatch.setattr(
        facade.Manifest.__init__, "__kwdefaults__", {**facade.Manifest.__init__.__kwdefaults__, "patience_s": 2.0}
    )
    source = fill(world.root / "source", {"file": noise(100_000)})
    world.backup(source)
    fill(source, {"more": noise(50_000, 1)})
    full(world.directory("b"), world.directory("c"))
    with pytest.raises(DrtoolError) as caught:
        world.backup(source)
    assert isinstance(caught.value, NoQuorum | TargetFull)
    assert caught.value.exit_code == 6
    full()
    assert len(world.snapshots()) == 1
    report = world.backup(source)
    assert not report.degraded
    assert world.restore(world.root / "out", path=source).errors == []
    assert portrait(world.root / "out") == portrait(source)
    result = world.verify()
    assert (result.missing, result.damaged, result.degraded) == ([], [], False)
