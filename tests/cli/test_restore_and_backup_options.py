"""Options of `backup` and `restore`: lists of paths, skipping, restoring in place, and owners."""

import os

import pytest
from command_shell import shell_in


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    made = shell_in(tmp_path_factory.mktemp("options"))
    tree = made.directory / "tree"
    tree.mkdir()
    (tree / "one").write_text("1")
    (tree / "two").write_text("22")
    (tree / "large").write_bytes(b"x" * 3000)
    assert made("init", *(w for site in "abc" for w in ("--target", f"{site}={made.directory / site}"))).code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write("sources: {home: {paths: [tree], exclude_larger_than: 2KiB, ignore_files: true}}\n")
    return made


def listed(shell, snapshot="latest"):
    entries = shell("ls", "-R", snapshot, "--json").document["entries"]
    return {os.path.basename(row["path"]) for row in entries if row["type"] == "file"}


def test_a_configured_limit_and_a_young_snapshot(shell):
    assert shell("backup", "--json").code == 0
    assert listed(shell) == {"one", "two"}
    again = shell("backup", "--skip-if-newer-than", "1h", "--skip-if-running", "--json")
    assert (again.code, again.document["snapshots"]) == (0, [])
    assert [row["source"] for row in again.document["skipped"]] == ["home"]
    assert shell("backup", "--skip-if-newer-than", "soon").code == 2
    assert shell("backup", "tree", "--exclude-larger-than", "much").code == 2


@pytest.mark.parametrize(("option", "end"), [("--files-from", "\n"), ("--files-from0", "\0")])
def test_paths_from_a_list(shell, option, end):
    (shell.directory / "list").write_text(end.join(["tree/one", "", "tree/large", ""]))
    assert shell("backup", option, "list", "--json").code == 0
    assert listed(shell) == {"one", "large"}
    (shell.directory / "list").write_text(end)
    assert shell("backup", option, "list").code == 2
    assert shell("backup", option, "no such list").code == 2


def test_in_place_and_with_delete(shell):
    tree = shell.directory / "tree"
    assert shell("backup", "tree", "--json").code == 0
    (tree / "one").write_text("spoiled")
    (tree / "extra").write_text("extra")
    dry = shell("restore", f"latest:{tree}", "--in-place", "--delete", "--dry-run", "--json").document
    ran = shell("restore", f"latest:{tree}", "--in-place", "--delete", "--json").document
    assert (ran["deleted"], ran["written_bytes"], ran["errors"]) == (1, 1, [])
    assert (dry["deleted"], dry["written_bytes"]) == (1, 1)
    assert (tree / "one").read_text() == "1"
    (tree / "two").unlink()
    (tree / "extra").write_text("extra")
    assert shell("restore", f"latest:{tree}/two", "--in-place", "--json").document["files"] == 1
    assert (tree / "two").read_text() == "22"
    assert (tree / "extra").exists()
    (tree / "extra").unlink()


@pytest.mark.parametrize(
    "words",
    [
        ["--in-place", "--to", "x"],
        ["--to", "x", "--map-owner", "nobody"],
        ["--to", "x", "--map-group", "a:no such group"],
        ["--to", "x", "--verify", "--include", "y"],
    ],
)
def test_contradictory_options_are_refused(shell, words):
    assert shell("restore", "latest", *words, "--json").code == 2
    assert not (shell.directory / "x").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_verify_compares_owners_as_they_were_mapped(shell):
    tree = shell.directory / "tree"
    assert shell("backup", tree).code == 0
    done = shell("restore", f"latest:{tree}", "--to", "mapped", "--verify", "--map-owner", "root:65534", "--json")
    assert (done.code, done.document["errors"]) == (0, [])
    assert (shell.directory / "mapped/large").stat().st_uid == 65534


def test_each_line_of_an_exclude_file_is_one_pattern(tmp_path):
    shell = shell_in(tmp_path)
    assert shell("init", "--target", f"a={tmp_path / 'a'}").code == 0
    (tmp_path / "names").mkdir()
    for name in ("a.tmp", "keep.pdf", "title\u2028part.pdf", "x\x0cy"):
        (tmp_path / "names" / name).touch()
    (tmp_path / "patterns").write_bytes("\ufeff*.tmp\r\ntitle\u2028*.pdf\nx\x0c*\n".encode())
    done = shell("backup", "names", "--exclude-file", "patterns", "--exclude", "./../x", "--exclude", "/names/keep.pdf")
    assert done.code == 0
    assert "the exclude pattern ./../x leaves out nothing: no name" in done.err
    assert done.err.count("leaves out nothing") == 1
    assert listed(shell) == {"keep.pdf"}
    assert shell("restore", f"latest:{tmp_path}/names", "--to", "out", "--include", f"{tmp_path}/*/keep.*").code == 0
    assert os.listdir(tmp_path / "out") == ["keep.pdf"]
    assert shell("restore", "latest", "--to", "typo", "--include", f"{tmp_path}/nomes").code == 1
