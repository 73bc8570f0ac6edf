"""A disk, a bucket and an SSH server as sites of one repository, as a user runs it."""

import shlex
import subprocess
import sys

import pytest
import sshd
from bucket_sites import bucket_sites
from command_shell import shell_in
from three_sites import fill, noise, portrait


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with bucket_sites(tmp_path_factory.mktemp("mixed"), ("frankfurt",)) as sites:
        yield sites


def restored(shell, name, *more):
    """What `restore latest` brings back of `source`."""
    to = shell.directory / name
    done = shell("restore", f"latest:{shell.directory / 'source'}", "--to", str(to), "--json", *more)
    assert (done.code, done.document["errors"]) == (0, []), done.err
    return portrait(to)


@pytest.mark.thorough
def test_all_three_vote_and_any_one_may_be_lost(bucket, tmp_path):
    server = sshd.Sshd(tmp_path / "attic-server")
    sshd.demand()
    server.start()
    try:
        shell = shell_in(tmp_path)
        shell.environ |= {key: bucket.shell.environ[key] for key in bucket.shell.environ if key.startswith("AWS_")}
        shell.environ["HOME"] = str(tmp_path)
        places = {"paris": str(tmp_path / "paris"), "frankfurt": bucket.url("frankfurt")}
        places["attic"] = server.url(tmp_path / "attic")
        words = [word for site, url in places.items() for word in ("--target", f"{site}={url}")]
        done = shell("init", *words, "--copies", "2", "--json")
        assert done.code == 0, done.err
        assert "does not vote" not in done.err
        source = fill(tmp_path / "source", {f"{n}/data": noise(3_000_000, n) for n in range(8)})
        done = shell("backup", str(source), "--json")
        (report,) = done.document["snapshots"]
        assert (done.code, report["copies"]["minimum_written"], report["owed"]) == (0, 2, []), done.err
        rows = shell("target", "list", "--json").document["targets"]
        assert all(row["reachable"] and row["objects"] for row in rows)
        assert "known_hosts" not in "".join(
            row["url"] for row in rows
        )  # how this host gets in stays in its configuration
        assert "known_hosts" in (tmp_path / "drtool.yaml").read_text()
        assert shell("verify", "--level", "full", "--json").document["damaged"] == []
        assert shell("manifest", "check").code == 0

        server.kill()
        assert restored(shell, "without-attic") == portrait(source)
        fill(source, {"new": noise(2_000_000, 99)})
        done = shell("backup", str(source), "--json")
        assert done.code in (0, 5), done.err
        server.start()
        done = shell("repair", "--json")
        assert (done.code, done.document["unrepairable"]) == (0, []), done.err
        (tmp_path / "paris").rename(tmp_path / "paris-burnt")
        assert restored(shell, "without-paris") == portrait(source)
    finally:
        server.remove()


@pytest.mark.thorough
def test_four_writers_over_ssh_and_two_disks_and_then_both_disks_burn(tmp_path):
    server = sshd.Sshd(tmp_path / "server")
    sshd.demand()
    server.start()
    try:
        shell = shell_in(tmp_path)
        shell.environ["HOME"] = str(tmp_path)
        places = {"one": str(tmp_path / "one"), "two": str(tmp_path / "two"), "attic": server.url(tmp_path / "attic")}
        words = [word for site, url in places.items() for word in ("--target", f"{site}={url}")]
        assert shell("init", *words, "--copies", "3").code == 0
        sources = [
            fill(tmp_path / f"source-{writer}", {f"{n}": noise(1_500_000, 10 * writer + n) for n in range(5)})
            for writer in range(4)
        ]
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "drtool", "backup", str(source), "--host", f"host-{writer}", "--json"],
                cwd=tmp_path,
                env={"PATH": "/usr/bin:/bin", **shell.environ, "DRTOOL_STATE_DIR": str(tmp_path / f"state-{writer}")},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for writer, source in enumerate(sources)
        ]
        for backup in running:
            _, err = backup.communicate(timeout=180)
            assert backup.returncode == 0, err
        for site in ("one", "two"):
            (tmp_path / site).rename(tmp_path / f"{site}-burnt")
        (tmp_path / "drtool.yaml").unlink()
        bare = shell_in(tmp_path)
        bare.environ |= {"HOME": str(tmp_path), "DRTOOL_STATE_DIR": str(tmp_path / "bare")}
        bare.environ["DRTOOL_CACHE_DIR"] = str(tmp_path / "bare-cache")
        connected = bare("connect", server.url(tmp_path / "attic"), "--json")
        assert connected.code == 0, connected.err
        for writer, source in enumerate(sources):
            to = tmp_path / f"restored-{writer}"
            done = bare(
                "restore", f"latest:{source}", "--host", f"host-{writer}", "--to", str(to), "--manifest-from", "attic"
            )
            assert done.code == 0, done.err
            assert portrait(to) == portrait(source)
        assert len(connected.document["restores"]) == len(sources)
        for row in connected.document["restores"]:
            words = shlex.split(row["command"])
            done = bare(*words[1:])
            assert done.code == 0, (words, done.err)
    finally:
        server.remove()
