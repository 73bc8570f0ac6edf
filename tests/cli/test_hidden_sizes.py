"""Hidden sizes are chosen at `init`, and stored data is found again after changes of keys."""

import msgspec
import pytest
from command_shell import Shell
from three_sites import noise

from drtool.manifest import Policy
from drtool.packing.padding import size_class

FILES = (700_001, 1_234_567, 3_141_593)


def founded(shell: Shell, *words: str) -> Shell:
    assert shell("init", "--target", f"a={shell.directory}/a", *words).code == 0
    (shell.directory / "tree").mkdir()
    for size_bytes in FILES:
        (shell.directory / f"tree/{size_bytes}").write_bytes(noise(size_bytes, size_bytes))
    return shell


def pack_sizes(shell: Shell) -> set[int]:
    return {path.stat().st_size for path in shell.directory.glob("a/packs/*/*")}


def test_new_repositories_hide_sizes(shell):
    founded(shell)
    for size_bytes in FILES:
        assert shell("backup", f"tree/{size_bytes}").code == 0
    sizes = pack_sizes(shell)
    assert sizes == set(map(size_class, sizes))
    assert not [size for size in sizes for file in FILES if 0 <= size - file < 1000], "a file's size is its pack's size"
    assert shell("verify", "--level", "full").code == 0
    assert shell("restore", "latest", "--to", "out", "--verify").code == 0


def test_a_repository_may_show_sizes(shell):
    founded(shell, "--show-sizes")
    assert shell("backup", "tree").code == 0
    assert pack_sizes(shell) != set(map(size_class, pack_sizes(shell)))


@pytest.mark.parametrize("how", ["--hide-sizes", "--show-sizes"])
def test_a_key_rotation_does_not_change_the_chunking(shell, how):
    """Existing data is not stored again, and `prune` keeps padded packs."""
    founded(shell, how)
    assert shell("backup", "tree").code == 0
    assert shell("key", "rotate").code == 0
    (shell.directory / "tree/copy").write_bytes(b"before" + noise(FILES[-1], FILES[-1]))
    again = shell("--json", "backup", "tree").document["snapshots"][0]
    assert again["added_bytes"] < FILES[-1] // 2, "later chunks were cut differently"
    before = pack_sizes(shell)
    assert shell("prune").code == 0
    assert pack_sizes(shell) == before


def test_repositories_older_than_this_option_do_not_change():
    """Their policy lacks one field: no padding, and chunking without a key."""
    old = msgspec.msgpack.decode(msgspec.msgpack.encode([2, 1, "UTC", 524_288]), type=Policy)
    assert old.hides_sizes is False
    new = msgspec.msgpack.encode(Policy(2, hides_sizes=True))
    assert msgspec.msgpack.decode(new) == [2, 1, "UTC", 524_288, True]
