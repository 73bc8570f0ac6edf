"""Three real S3 servers as sites: found, back up, lose one in the middle, restore, heal; as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest
from bucket_sites import BucketSites, bucket_sites, wait_for
from three_sites import fill, noise, portrait


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with bucket_sites(tmp_path_factory.mktemp("buckets")) as sites:
        yield sites


def restored(sites: BucketSites, source: Path, name: str) -> dict:
    """What `restore latest` brings back of a directory."""
    to = sites.shell.directory / name
    done = sites.shell("restore", f"latest:{source}", "--to", str(to), "--json")
    assert (done.code, done.document["errors"]) == (0, []), done.err
    return portrait(to)


@pytest.mark.thorough
def test_one_dies_in_the_midst_of_a_backup_and_everything_is_there(running):
    sites, shell = running, running.shell
    sites.found()
    source = fill(shell.directory / "source", {f"{n:02}/data": noise(8_000_000, n) for n in range(16)})
    words = [sys.executable, "-m", "drtool", "backup", str(source), "--json"]
    environ = {"PATH": "/usr/bin:/bin", **shell.environ}
    with subprocess.Popen(words, cwd=shell.directory, env=environ, stdout=subprocess.PIPE, text=True) as backup:
        wait_for(lambda: sites.objects("oslo"))
        sites.servers["oslo"].kill()
        out, _ = backup.communicate(timeout=180)
    assert backup.returncode in (0, 5), out
    assert restored(sites, source, "without-oslo") == portrait(source)

    sites.servers["oslo"].start()
    done = shell("repair", "--json")
    assert (done.code, done.document["unrepairable"]) == (0, []), done.err
    done = shell("verify", "--level", "full", "--json")
    assert (done.code, done.document["missing"], done.document["damaged"]) == (0, [], []), done.err
    assert all(restorable(shell, site) for site in sites.servers)


def restorable(shell, site) -> bool:
    done = shell("survive", "--lose", site, "--json")
    summary = done.document["summary"]
    return summary["restorable"] == summary["total"] > 0
