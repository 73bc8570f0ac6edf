"""Damage that a command finds while it reads snapshots is recorded for every host."""

import pytest
from command_shell import shell_in
from three_sites import fill, noise

LOOKS = ("ls", "find", "diff", "dump", "stats", "survive")


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A snapshot for each command. Its directories are damaged at every site."""
    shell = shell_in(tmp_path_factory.mktemp("rotten"))
    assert (
        shell("init", *(word for site in "ab" for word in ("--target", f"{site}={shell.directory / site}"))).code == 0
    )
    before = set()
    for name in (*LOOKS, "sound"):
        fill(shell.directory / name, {"file": noise(50_000)})
        assert shell("backup", name).code == 0
        if name == "sound":
            break
        packs = set(shell.directory.glob("[ab]/packs/*/*")) - before
        for path in sorted(packs, key=lambda path: path.stat().st_size)[
            :2
        ]:  # the two copies of the pack with the trees
            path.chmod(0o600)
            path.write_bytes(bytes(path.stat().st_size))
        before |= packs
    return shell


def damage_recorded(shell):
    entries = shell("manifest", "log", "--json").document["entries"]
    return sum("damage at" in row["summary"] for row in entries if row["kind"] == "record")


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.spread(4)
def test_damage_found_while_reading_is_recorded_for_all_hosts(shell, look):
    rows = shell("snapshots", "--json").document["snapshots"]
    id_, sound = (
        next(row["id"] for row in rows if row["paths"] == [str(shell.directory / name)]) for name in (look, "sound")
    )
    path = f"{id_}:{shell.directory / look}/file"
    words = {
        "ls": ("ls", "-R", id_),
        "find": ("find", "file", "--snapshot", id_),
        "diff": ("diff", id_, sound),
        "dump": ("dump", path),
        "stats": ("stats", id_),
        "survive": ("survive",),
    }[look]
    before = damage_recorded(shell)
    done = shell(*words)
    assert done.code != 0
    assert "drtool repair replaces them" in done.err
    assert damage_recorded(shell) == before + 1
