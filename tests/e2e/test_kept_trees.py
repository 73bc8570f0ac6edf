"""What a person notices of kept trees: the second look into a snapshot at a server costs what opening the repository costs."""

import pytest
import sshd
from command_shell import shell_in
from slow_line import Line
from three_sites import fill, noise

ENTRIES = 5000


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """One site at an SSH server behind a line, with a snapshot of many names; this host has kept nothing of it."""
    sshd.demand()
    tmp_path = tmp_path_factory.mktemp("kept")
    server = sshd.Sshd(tmp_path / "sshd")
    server.start()
    with Line(server.port) as line:
        known = server.known_hosts.read_text()
        server.known_hosts.write_text(known + known.replace(f":{server.port} ", f":{line.port} "))
        shell = shell_in(tmp_path)
        url = server.url(tmp_path / "site").replace(f":{server.port}/", f":{line.port}/")
        assert shell("init", "--target", f"far={url}", "--copies", "1").code == 0
        source = fill(tmp_path / "source", {f"d{n % 50}/{noise(30, n).hex()}": b"" for n in range(ENTRIES)})
        assert shell("backup", str(source)).code == 0
        yield shell, line
    server.remove()


def came(shell, line, *words, **environ):
    """What a command wrote, and how many bytes came over the line for it."""
    line.forget()
    done = shell(*words, **environ)
    assert done.code == 0, done.err
    return done.out, line.down_bytes


@pytest.mark.thorough
def test_the_second_walk_fetches_no_tree(remote, tmp_path):
    shell, line = remote
    other = {"DRTOOL_CACHE_DIR": str(tmp_path / "other-cache")}
    for _ in range(2):
        _, opening_bytes = came(shell, line, "snapshots", **other)
    first, first_bytes = came(shell, line, "ls", "-R", "latest", **other)
    second, second_bytes = came(shell, line, "ls", "-R", "latest", **other)
    assert second == first
    assert first.count("\n") >= ENTRIES
    assert first_bytes > opening_bytes + 100_000
    assert second_bytes < opening_bytes + 10_000


@pytest.mark.thorough
def test_the_second_comparison_fetches_no_tree(remote, tmp_path):
    shell, line = remote
    other = {"DRTOOL_CACHE_DIR": str(tmp_path / "third-cache")}
    (oldest, *_) = shell("snapshots", "--json").document["snapshots"]
    fill(shell.directory / "source", {"d1/one more": b""})
    assert shell("backup", str(shell.directory / "source")).code == 0
    for _ in range(2):
        _, opening_bytes = came(shell, line, "snapshots", **other)
    words = ("diff", oldest["id"], "latest")
    first, _ = came(shell, line, *words, **other)
    second, second_bytes = came(shell, line, *words, **other)
    assert first == second
    assert first.startswith("+ ")
    assert second_bytes < opening_bytes + 10_000


@pytest.mark.thorough
def test_the_host_that_made_a_snapshot_has_its_trees_at_once(remote):
    shell, line = remote
    _, opening_bytes = came(shell, line, "snapshots")
    _, opening_bytes = came(shell, line, "snapshots")
    _, listing_bytes = came(shell, line, "ls", "-R", "latest")
    assert listing_bytes < opening_bytes + 100_000  # the index at most, never the names
