"""A backup and a restore over a line so slow that many transfers at once would make progress on none of them."""

import getpass
import os
import signal
import subprocess
import sys
import time

import pytest
import seaweed
import sshd
from command_shell import shell_in
from slow_line import Line
from three_sites import fill, noise, portrait

RATE_BYTES_S = 250_000


def far_target(kind, tmp_path, line_to):
    """The URL of a target behind a slow line, and the line."""
    if kind == "bucket":
        server = seaweed.shared()
        line = line_to(server.ports[0])
        return f"s3://{seaweed.BUCKET}/slow-{tmp_path.name.lower()}?endpoint={line.endpoint}", line
    server = sshd.shared()
    line = line_to(server.port)
    known = tmp_path / "known_hosts"
    known.write_text(server.known_hosts.read_text().replace(f":{server.port}", f":{line.port}"))
    keys = f"identity_file={server.identity}&known_hosts={known}"
    return f"sftp://{getpass.getuser()}@127.0.0.1:{line.port}{tmp_path / 'far'}?{keys}", line


@pytest.fixture
def line_to():
    lines = []

    def make(port):
        lines.append(Line(port))
        return lines[-1]

    yield make
    for line in lines:
        line.close()


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["bucket", "SSH server"])
def test_a_slow_line_is_a_healthy_line(kind, tmp_path, line_to):
    """12 MB at 250 kB/s, by eight workers."""
    url, line = far_target(kind, tmp_path, line_to)
    shell = shell_in(tmp_path)
    assert shell("init", "--target", f"far={url}", "--copies", "1").code == 0
    with (tmp_path / "drtool.yaml").open("a") as config:
        config.write("limits: {workers: 8}\n")
    source = fill(tmp_path / "source", {f"{n}": noise(2_000_000, n) for n in range(6)})
    line.rate_bytes_s = RATE_BYTES_S
    done = shell("backup", str(source), "--json")
    assert done.code == 0, done.out
    line.rate_bytes_s = 4 * RATE_BYTES_S
    done = shell("restore", f"latest:{source}", "--to", str(tmp_path / "out"), "--json")
    assert (done.code, done.document["errors"]) == (0, []), done.out
    assert portrait(tmp_path / "out") == portrait(source)


def three_sites(tmp_path, line_to, copies):
    """A repository at two directories and in a bucket behind a line."""
    url, line = far_target("bucket", tmp_path, line_to)
    shell = shell_in(tmp_path)
    places = [f"far={url}", f"desk={tmp_path / 'desk'}", f"attic={tmp_path / 'attic'}"]
    words = [word for place in places for word in ("--target", place)]
    assert shell("init", *words, "--copies", str(copies)).code == 0
    assert shell("target", "set", "far", "--weight", "1000").code == 0  # so that each pack has a copy there
    return shell, line


@pytest.mark.thorough
@pytest.mark.parametrize("copies", [2, 3])
def test_a_slow_site_of_three_holds_nothing_up_and_gets_its_copies_later(copies, tmp_path, line_to):
    """6 MB at 20 kB/s are five minutes. Pieces of several transfers that share the line take longer than a connection may."""
    shell, line = three_sites(tmp_path, line_to, copies)
    source = fill(tmp_path / "source", {f"{n}": noise(1_500_000, n) for n in range(4)})
    config = tmp_path / "drtool.yaml"
    before = config.read_text()
    config.write_text(before + "limits: {owed: 0}\n")
    line.rate_bytes_s = 20_000
    line.forget()
    done = shell("backup", str(source), "--json")
    assert line.up_bytes < 5_000_000, "it is not waited for"
    (report,) = done.document["snapshots"]
    assert (done.code, report["degraded"]) == ((0, False) if copies == 2 else (5, True)), done.out
    assert [row["target"] for row in report["owed"]] == ["far/main"]
    assert "much slower" in report["owed"][0]["reason"]
    config.write_text(before)
    line.rate_bytes_s = None
    assert shell(*(("backup", str(source)) if copies == 3 else ("repair",))).code == 0
    assert shell("verify", "--level", "full").code == 0
    assert shell("status").code == 0


@pytest.mark.thorough
def test_a_backup_that_was_killed_on_a_slow_line_goes_on_where_it_was(tmp_path, line_to):
    url, line = far_target("bucket", tmp_path, line_to)
    shell = shell_in(tmp_path)
    assert shell("init", "--target", f"far={url}", "--copies", "1").code == 0
    source = fill(tmp_path / "source", {f"{n}": noise(9_000_000, n) for n in range(6)})
    line.rate_bytes_s = 1_000_000
    night = subprocess.Popen(
        [sys.executable, "-m", "drtool", "backup", str(source)],
        cwd=tmp_path,
        env=shell.whole_environ(),
        start_new_session=True,
    )
    while line.up_bytes < 48_000_000:
        assert night.poll() is None
        time.sleep(0.1)
    os.killpg(night.pid, signal.SIGKILL)
    night.wait()
    line.forget()
    line.rate_bytes_s = None
    assert shell("backup", str(source)).code == 0
    assert line.up_bytes < 54_000_000 - 8_000_000, "what was durable and known is not sent again"
    assert shell("verify", "--level", "full").code == 0
