"""`target add|set|drain|remove`, `ring preview` and `rebalance`, as text and JSON."""

import shutil

import pytest
from command_shell import Shell, shell_in


@pytest.fixture(scope="module")
def founded_once(tmp_path_factory) -> Shell:
    made = shell_in(tmp_path_factory.mktemp("targets"))
    (made.directory / "tree").mkdir()
    for number in range(3):
        (made.directory / f"tree/{number}").write_bytes(bytes([number]) * 9_000 + bytes(range(256)) * 800)
    assert made("init", *(word for site in "abc" for word in ("--target", f"{site}={site}")), "--copies", "2").code == 0
    assert made("backup", "tree").code == 0
    return made


def moves(ran):
    return {key: ran.document[key] for key in ("moves", "minimum_fraction")}


def test_a_site_is_added_filled_drained_and_removed(founded_once):
    shell = founded_once
    config = (shell.directory / "drtool.yaml").read_text()
    imagined = shell("ring", "preview", "--add", "d=2", "--json")
    assert (imagined.code, imagined.document["from_epoch"], imagined.document["to_epoch"]) == (0, 1, 2)
    added = shell("target", "add", "d", "new/d", "--weight", "2")
    assert added.code == 0, added.err
    assert f"added d/main at file://{shell.directory}/new/d, weight 2" in added.out
    assert "does not vote until drtool site add d" in added.out
    assert (shell.directory / "drtool.yaml").read_text() == config
    previewed = shell("ring", "preview", "--json")
    would = shell("rebalance", "--dry-run", "--json")
    named = {
        change: sum(len(row["what"]) for row in would.document["changes"] if row["change"] == change)
        for change in ("copied", "removed")
    }
    assert named == {"copied": would.document["moves"]["objects"], "removed": would.document["removed"]["objects"]}
    did = shell("rebalance", "--json")
    assert (did.code, did.document["from_epoch"], did.document["to_epoch"]) == (0, 1, 2)
    assert moves(imagined) == moves(previewed) == moves(would) == moves(did)
    assert 0 < did.document["minimum_fraction"] <= did.document["moves"]["fraction"] < 1
    assert "nothing to move" in shell("rebalance").out
    listed = {row["name"]: row for row in shell("target", "list", "--json").document["targets"]}
    assert (listed["d/main"]["weight"], listed["d/main"]["state"]) == (2, "active")
    assert listed["d/main"]["objects"] > 0
    assert shell("target", "drain", "d").code == 0
    assert shell("rebalance").code == 0
    removed = shell("target", "remove", "d/main", "--json")
    assert (removed.code, removed.document["below_copies"]) == (0, 0)
    shutil.rmtree(shell.directory / "new")
    assert shell("verify", "--level", "full").code == 0
    assert shell("restore", f"latest:{shell.directory}/tree", "--to", "out").code == 0


def test_a_weight_is_set_and_reset(founded_once):
    shell = founded_once
    assert shell("target", "set", "a", "--weight", "4", "--json").document["weight"] == 4
    again = shell("target", "set", "a/main", "--weight", "4")
    assert (again.code, again.out.startswith("nothing to do: a/main")) == (0, True)
    assert "would set a/main" in shell("target", "set", "a", "--weight", "1", "--dry-run").out
    assert shell("target", "set", "a", "--weight", "1").code == 0


def test_a_target_with_the_only_copy_stays_and_exit_11_shows_what_helps(founded_once):
    shell = founded_once
    shell("target", "add", "e/disk", "e")
    shell("rebalance")
    held = [
        path.relative_to(shell.directory / "e") for path in (shell.directory / "e/packs").rglob("*") if path.is_file()
    ]
    for site in "abc":
        (shell.directory / site / held[0]).unlink(missing_ok=True)
    refused = shell("target", "remove", "e/disk", "--json")
    assert (refused.code, refused.error["kind"]) == (11, "refused")
    assert "rebalance" in refused.error["hint"]
    assert shell("repair").code == 0
    gone = shell("target", "remove", "e/disk", "--json")
    assert gone.code in (0, 5)
    assert (gone.code == 5) == (gone.document["below_copies"] > 0)
    assert shell("repair").code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("target", "add", "f", "tree"), 11),
        (("target", "add", "f/x/y", "f"), 2),
        (("target", "add", "f", "ftp://bucket/f"), 2),
        (("target", "add", "f", "f", "--weight", "0"), 2),
        (("target", "add", "a", "elsewhere"), 2),
        (("target", "set", "a"), 2),
        (("target", "set", "a", "--weight", "1.5"), 2),
        (("target", "set", "nowhere", "--weight", "2"), 2),
        (("target", "drain", "nowhere"), 2),
        (("target", "remove", "a"), 11),
        (("target", "remove", "a", "--gone"), 11),
        (("ring", "preview", "--add", "a"), 2),
        (("ring", "preview", "--weight", "a"), 2),
        (("ring", "preview", "--drain", "a", "--drain", "b"), 11),
    ],
)
@pytest.mark.spread(7)
def test_impossible_changes_of_targets_are_refused(founded_once, words, code):
    shell = founded_once
    done = shell(*words, "--json")
    assert (done.code, "error" in done.document) == (code, True)
    assert not (shell.directory / "f").exists()


def test_without_a_loss_there_is_nothing_to_do_and_a_total_loss_gives_exit_4(founded_once):
    shell = founded_once
    assert shell("rebalance").code == 0
    for site in "abc":
        for path in (shell.directory / site / "packs").rglob("*"):
            if path.is_file():
                path.unlink()
    done = shell("rebalance", "--json")
    assert done.code == 4
    assert done.document["lost"]
    assert "no good copy was found" in shell("rebalance").out


def test_a_copied_site_is_refused_reported_and_declared(tmp_path):
    shell = shell_in(tmp_path)
    (shell.directory / "tree").mkdir()
    (shell.directory / "tree/file").write_bytes(b"x" * 5_000)
    assert shell("init", *(word for site in "abc" for word in ("--target", f"{site}={site}"))).code == 0
    assert shell("backup", "tree").code == 0
    shutil.copytree(shell.directory / "a", shell.directory / "a-copy")
    config = shell.directory / "drtool.yaml"
    config.write_text(config.read_text().replace(f'{shell.directory}/a"', f'{shell.directory}/a-copy"'))
    for words in (("backup", "tree"), ("snapshots",), ("repair",), ("status",), ("site", "list")):
        refused = shell(*words)
        assert refused.code == 11, (words, refused.out, refused.err)
        assert "a/main: it exists twice" in refused.err
    (row,) = [row for row in shell("doctor", "--json").document["findings"] if "exists twice" in row["message"]]
    assert (row["level"], row["what"], row["where"]) == ("error", "target-twice", "a/main")
    assert f"drtool target set a/main --url file://{shell.directory}/a-copy --gone" in row["hint"]
    assert shell("target", "set", "a/main", "--gone").code == 2
    url = f"file://{shell.directory}/a-copy"
    assert shell("target", "set", "a/main", "--url", url).code == 11
    assert shell("target", "set", "a/main", "--url", url, "--gone", "--json").document["url"] == url
    assert shell("backup", "tree").code == 0
    assert shell("site", "list").code == 0
