"""A backup and a restore over a line so slow that many transfers at once would make progress on none of them."""

import getpass

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
    """18 MB at 250 kB/s, by eight workers."""
    url, line = far_target(kind, tmp_path, line_to)
    shell = shell_in(tmp_path)
    assert shell("init", "--target", f"far={url}", "--copies", "1").code == 0
    with (tmp_path / "drtool.yaml").open("a") as config:
        config.write("limits: {workers: 8}\n")
    source = fill(tmp_path / "source", {f"{n}": noise(3_000_000, n) for n in range(6)})
    line.rate_bytes_s = RATE_BYTES_S
    done = shell("backup", str(source), "--json")
    assert done.code == 0, done.out
    line.rate_bytes_s = 4 * RATE_BYTES_S
    done = shell("restore", f"latest:{source}", "--to", str(tmp_path / "out"), "--json")
    assert (done.code, done.document["errors"]) == (0, []), done.out
    assert portrait(tmp_path / "out") == portrait(source)
