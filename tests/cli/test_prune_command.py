"""`drtool prune`: text, documents and exit codes."""

import os
import time

import msgspec
import pytest
from command_shell import Shell, shell_in

from drtool.events import ignore
from drtool.manifest.ops import ForgetSnapshots
from drtool.model import TargetName
from drtool.operations.prune.grace import NOTES
from drtool.repository import RepositorySpec, TargetSpec, open_repository
from drtool.repository.forgotten import forget_here


@pytest.fixture
def shell(tmp_path) -> Shell:
    made = shell_in(tmp_path)
    (tmp_path / "tree").mkdir()
    assert made("init", "--target", f"a={tmp_path}/a", "--copies", "1").code == 0
    return made


def orphan(shell: Shell):
    name = os.urandom(32).hex()
    path = shell.directory / "a" / "packs" / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(1000))
    return path


def test_a_dry_run_and_then_the_real_run(shell):
    (shell.directory / "tree/file").write_bytes(os.urandom(5000))
    assert shell("backup", "tree").code == 0
    left = orphan(shell)
    would = shell("prune", "--dry-run", "--json")
    assert (would.code, would.document["removed"]) == (0, {"packs": 1, "bytes": 1000})
    assert left.exists()
    name = str(left.relative_to(shell.directory / "a"))
    assert would.document["changes"] == [{"path": name, "change": "removed", "what": []}]
    assert f"removed  {name}\n" in shell("prune", "--dry-run").out
    did = shell("prune", "--json")
    assert (did.code, did.document["removed"], did.document["pending"]["packs"]) == (0, {"packs": 1, "bytes": 1000}, 0)
    assert not left.exists()
    assert shell("prune", "--dry-run").out.startswith("nothing would be removed, ")
    words = shell("prune").out
    assert words.startswith("removed nothing, ")
    assert "kept" in words


def test_quiet_prints_nothing_and_help_has_the_exit_codes(shell):
    assert shell("-q", "prune").out == ""
    helped = shell("prune", "--help").out
    assert "11" in helped
    assert "--dry-run" in helped


def test_a_dry_run_shows_a_refusal_and_exits_as_the_real_run_would(shell):
    """There are two hosts, and the other one forgot nearly everything more than a week ago."""
    for size in (900_000, 1000):
        (shell.directory / "tree/file").write_bytes(os.urandom(size))
        assert shell("backup", "tree").code == 0
    spec = RepositorySpec(
        label="other",
        targets=(TargetSpec(name=TargetName("a/main"), url=str(shell.directory / "a")),),
        cache_dir=shell.directory / "other-cache",
        state_dir=shell.directory / "other-state",
        password=lambda: b"correct horse",
        host="other",
    )
    with open_repository(spec, ignore) as repository:
        first = next(iter(repository.view.state.snapshots)).id
        forget_here(repository, ForgetSnapshots((first,)))
        notes = shell.directory / "state/repositories" / repository.id.hex() / NOTES
    notes.write_bytes(msgspec.msgpack.encode({first.hex(): time.time_ns() - 8 * 24 * 3600 * 10**9}))
    would = shell("prune", "--dry-run", "--json")
    assert would.code == 11
    assert "because other forgot 1 snapshot" in would.document["error"]["message"]
    assert would.document["objections"][0]["hint"]
    assert would.document["removed"]["packs"] > 0
    assert "would be refused" in shell("prune", "--dry-run").out
    assert shell("prune").code == 11
    assert shell("prune", "--dry-run", "--yes").code == 0
    assert shell("prune", "--yes").code == 0


@pytest.mark.parametrize("words", [("prune",), ("prune", "--dry-run"), ("forget", "--keep-last", "1", "--prune")])
@pytest.mark.spread(3)
def test_a_needed_pack_without_any_copy_gives_exit_4(shell, words):
    (shell.directory / "tree/file").write_bytes(os.urandom(5000))
    assert shell("backup", "tree").code == 0
    max(
        (shell.directory / "a").glob("packs/*/*"), key=lambda path: path.stat().st_size
    ).unlink()  # not the pack of the trees
    done = shell("--json", *words)
    assert done.code == 4
    assert len(done.document.get("prune", done.document)["lost"]) == 1
    assert "drtool verify lists the lost files" in done.err
