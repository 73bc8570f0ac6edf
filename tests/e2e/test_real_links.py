"""Across bad lines: slow, lossy, cut, silent. The right result or a clear error, in bounded time, and nothing sent twice."""

import subprocess
import sys
import threading
import time

import pytest
import seaweed
from bucket_sites import BucketSites, bucket_sites, wait_for
from slow_line import Line
from three_sites import fill, noise, portrait

PACK_BYTES = 17 << 20


class Lined(BucketSites):
    """Every server behind a line of its own."""

    def __init__(self, sites: BucketSites) -> None:
        super().__init__(sites.shell, sites.servers)
        self.lines = {name: Line(server.ports[0]) for name, server in sites.servers.items()}

    def url(self, site: str) -> str:
        return f"s3://{seaweed.BUCKET}/repository?endpoint={self.lines[site].endpoint}"

    def every(self, **values: float) -> None:
        for line in self.lines.values():
            for name, value in values.items():
                setattr(line, name, value)


@pytest.fixture(scope="module")
def lined(tmp_path_factory):
    with bucket_sites(tmp_path_factory.mktemp("lines")) as plain:
        sites = Lined(plain)
        sites.found()
        yield sites
        for line in sites.lines.values():
            line.close()


@pytest.fixture(autouse=True)
def good_lines(lined):
    yield
    for line in lined.lines.values():
        line.heal()
    lined.every(latency_s=0.0, stall_every=0)


def source_of(sites: BucketSites, name: str, megabytes: int):
    return fill(sites.shell.directory / name, {f"{n}": noise(1_000_000, hash((name, n))) for n in range(megabytes)})


def begin(sites: BucketSites, *words: object) -> "subprocess.Popen[str]":
    environ = {"PATH": "/usr/bin:/bin", **sites.shell.environ}
    words = (sys.executable, "-m", "drtool", *map(str, words))
    return subprocess.Popen(
        words, cwd=sites.shell.directory, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def restored(sites: BucketSites, source, name):
    to = sites.shell.directory / name
    done = sites.shell("restore", f"latest:{source}", "--to", str(to), "--json")
    assert (done.code, done.document["errors"]) == (0, []), done.err
    return portrait(to)


@pytest.mark.thorough
def test_the_second_look_at_the_snapshots_takes_two_round_trips(lined):
    source = source_of(lined, "small", 1)
    assert lined.shell("backup", str(source)).code == 0
    assert lined.shell("snapshots").code == 0
    lined.every(latency_s=0.3)
    for line in lined.lines.values():
        line.forget()
    assert lined.shell("snapshots").code == 0
    for name, line in lined.lines.items():
        assert 1 <= line.trips <= 2, (name, line)


@pytest.mark.thorough
def test_a_slow_and_lossy_line_gives_the_same_bytes(lined):
    """200 ms there and back; one piece of a hundred is as late as a lost packet."""
    lined.every(latency_s=0.1, stall_every=100, stall_s=0.3)
    source = source_of(lined, "slow", 24)
    started = time.monotonic()
    done = lined.shell("backup", str(source), "--json")
    assert (done.code, done.document["snapshots"][0]["copies"]["minimum_written"]) == (0, 2), done.err
    assert restored(lined, source, "from-slow") == portrait(source)
    assert time.monotonic() - started < 90


@pytest.mark.thorough
def test_a_line_that_is_cut_in_the_middle_costs_no_more_than_the_part_in_flight(lined):
    source = source_of(lined, "cut", 60)
    for line in lined.lines.values():
        line.forget()
        line.rate_bytes_s = 20e6
    backup = begin(lined, "backup", source, "--json")
    wait_for(lambda: sum(line.up_bytes for line in lined.lines.values()) > 30e6)
    lined.lines["oslo"].cut()
    healing = threading.Timer(4.0, lined.lines["oslo"].heal)
    healing.start()
    out, err = backup.communicate(timeout=180)
    healing.join()
    assert backup.returncode in (0, 5), err
    lined.every(rate_bytes_s=None)
    assert lined.shell("repair").code == 0
    again = lined.shell("backup", str(source), "--json").document["snapshots"][0]
    assert again["added_bytes"] == 0
    assert restored(lined, source, "after-the-cut") == portrait(source)
    sent_bytes = sum(line.up_bytes for line in lined.lines.values())
    # two copies of all, one more of what oslo was getting: a pack for each of three under way and worker
    assert sent_bytes < 2 * 60e6 * 1.05 + 6 * PACK_BYTES, (sent_bytes, out)


@pytest.mark.thorough
def test_one_that_accepts_and_never_answers_is_left_alone(lined):
    source = source_of(lined, "silent", 6)
    lined.lines["rome"].cut(silent=True)
    started = time.monotonic()
    done = lined.shell("backup", str(source), "--json")
    assert done.code in (0, 5), done.err
    assert "rome/main" in done.err
    assert restored(lined, source, "beside-silence") == portrait(source)
    assert time.monotonic() - started < 90


@pytest.mark.thorough
def test_without_a_quorum_it_says_so_in_two_minutes(lined):
    for site in ("rome", "oslo"):
        lined.lines[site].cut(silent=True)
    started = time.monotonic()
    done = lined.shell("backup", str(lined.shell.directory / "small"))
    assert done.code == 6, done.err
    assert time.monotonic() - started < 120
