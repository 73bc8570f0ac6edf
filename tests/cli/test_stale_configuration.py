"""After changes of sites, a host with an old drtool.yaml uses its list of targets and reports the edits."""

import json
import re
import shlex
import shutil
import stat

import pytest
from command_shell import Shell, shell_in
from three_sites import fill

from drtool.repository.known_targets import FILE


@pytest.fixture(scope="module")
def changed(tmp_path_factory) -> Shell:
    """A repository created at a, b and c, where d replaced a and e replaced b. The configuration still names a, b and c."""
    made = shell_in(tmp_path_factory.mktemp("changed"))
    fill(made.directory, {"tree/file": b"hello\n"})
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets, "--copies", "3").code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write("sources: {home: {paths: [tree]}}\n")
    assert made("backup").code == 0
    for old, new in ("ad", "be"):
        replaced = made("site", "replace", old, f"{new}={made.directory / new}", "--json")
        assert replaced.code == 0, replaced.err
        assert made("repair").code == 0
    return made


@pytest.fixture
def own(changed, tmp_path) -> Shell:
    """A copy of it, at the place of the original during the test."""
    kept = tmp_path / "kept"
    shutil.copytree(changed.directory, kept, symlinks=True)
    yield changed
    shutil.rmtree(changed.directory)
    shutil.copytree(kept, changed.directory, symlinks=True)


def lose(shell, sites):
    for site in sites:
        (shell.directory / site).rename(shell.directory / f"{site}.gone")


def record(shell):
    (found,) = (shell.directory / "state/repositories").glob(f"*/{FILE}")
    return found


def bare(tmp_path, name="bare") -> Shell:
    directory = tmp_path / name
    directory.mkdir()
    return shell_in(directory)


def test_a_change_of_sites_prints_the_lines_that_the_configuration_needs(own):
    done = own("site", "replace", "c", f"f={own.directory / 'f'}", "--json")
    assert done.code == 0, done.err
    row = {"name": "f/main", "url": f"file://{own.directory}/f"}
    line = f'f: {{main: {{url: "file://{own.directory}/f"}}}}'
    wanted = done.document["configuration"]
    assert wanted["file"] == str(own.directory / "drtool.yaml")
    assert {"line": line, **row} in wanted["add"]
    assert wanted["remove"] == ["a/main", "b/main", "c/main"]
    assert line in done.err
    assert "drtool key kit" in done.err
    text = (own.directory / "drtool.yaml").read_text()
    lines = "".join(f"  {each['line']}\n" for each in wanted["add"])
    (own.directory / "drtool.yaml").write_text(re.sub(r"(?ms)^sites:.*?^$", f"sites:\n{lines}", text, count=1))
    shutil.rmtree(own.directory / "state")
    after = own("snapshots", "--json")
    assert (after.code, after.err) == (0, ""), "the printed lines are enough"
    added = own("target", "add", "g", str(own.directory / "g"), "--json").document["configuration"]
    assert [each["name"] for each in added["add"]] == ["g/main"]


def test_a_dry_run_and_an_empty_change_ask_for_no_edit(changed):
    done = changed("site", "replace", "c", f"f={changed.directory / 'f'}", "--dry-run", "--json")
    assert (done.code, done.document["configuration"], done.err) == (0, None, "")


def test_with_only_new_sites_alive_the_host_continues_and_reports_the_edits(own):
    lose(own, "abc")
    done = own("snapshots", "--json")
    assert (done.code, len(done.document["snapshots"])) == (0, 1)
    assert (
        f"{own.directory}/drtool.yaml does not name the places of targets that this host recorded earlier" in done.err
    )
    (offered,) = re.findall(r"`(drtool connect .*?)`", done.err)
    connected = own(*shlex.split(offered)[1:])
    assert connected.code == 0, connected.err
    whole = own("--config", "drtool.yaml.new", "backup", "tree")
    assert (whole.code, "does not name" in whole.err) == (5, False)
    assert own("restore", "--all-sources", "--to", "out").code == 0
    assert (own.directory / "out" / str(own.directory / "tree/file").lstrip("/")).read_text() == "hello\n"


def test_with_one_new_site_alive_there_is_no_quorum_and_reading_works(own):
    lose(own, "abce")
    done = own("snapshots", "--json")
    assert (done.code, done.error["kind"]) == (6, "no_quorum")
    read = own("restore", "latest", "--manifest-from", "any", "--to", "out", "--json")
    assert (read.code, read.document["tentative"]) == (0, True)


def test_without_any_site_alive_the_new_places_are_reported_too(own):
    lose(own, "abcde")
    done = own("snapshots", "--json")
    assert (done.code, f"d/main (file://{own.directory}/d)" in done.error["message"]) == (10, True)


@pytest.mark.parametrize("fault", ["torn", "flipped", "empty", "writable", "link", "directory", "another", "gone"])
@pytest.mark.spread(4)
def test_an_untrusted_record_counts_as_missing_and_is_written_again(own, fault):
    path = record(own)
    text = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    match fault:
        case "torn":
            path.write_bytes(text[:-40])
        case "flipped":
            path.write_bytes(text.replace(b"/main", b"/mein", 1))
        case "empty":
            path.write_bytes(b"")
        case "writable":
            path.write_bytes(text)
            path.chmod(0o666)
        case "link":
            path.with_name("elsewhere").write_bytes(text)
            path.symlink_to("elsewhere")
        case "directory":
            path.mkdir()
        case "another":
            path.write_bytes(text.replace(path.parent.name.encode(), b"0" * 32))
    lose(own, "abc")
    assert own("snapshots").code == 10
    for site in "abc":
        (own.directory / f"{site}.gone").rename(own.directory / site)
    assert own("snapshots").code == 0
    if fault == "directory":  # nothing of drtool's is removed for it, and the next opening retries
        path.rmdir()
        assert own("snapshots").code == 0
    lose(own, "abc")
    assert own("snapshots").code == 0, "it was written again"


def test_the_record_holds_no_secret_and_is_written_only_when_something_changed(own):
    path = record(own)
    assert b"correct horse" not in path.read_bytes()
    assert set(json.loads(path.read_bytes())["known"]) == {
        "repository",
        "generation",
        "sequence",
        "targets",
        "reached",
        "seen",
        "roots",
    }
    assert own("snapshots").code == 0
    before = path.stat()
    assert own("backup").code == 0
    assert own("status").code in (0, 7)
    assert path.stat().st_ino == before.st_ino


def test_another_configuration_of_this_host_does_not_open_this_repository(own):
    """All places of a second repository are away. Its configuration must not open the first one."""
    (own.directory / "second.yaml").write_text(
        "".join(f"{'sites:' if site == 'x' else ''}\n  {site}: {{main: {{url: second-{site}}}}}" for site in "xyz")
        + "\n"
    )
    second = ("--config", "second.yaml")
    assert own(*second, "init").code == 0
    assert own(*second, "snapshots").code == 0
    for site in "xyz":
        (own.directory / f"second-{site}").rename(own.directory / f"second-{site}.gone")
    done = own(*second, "snapshots", "--json")
    assert (done.code, done.error["kind"]) == (10, "no_repository")
    refused = own(*second, "connect", str(own.directory / "d"), "--json")
    assert (refused.code, refused.error["kind"]) == (11, "refused")
    lose(own, "abc")
    assert own("snapshots").code == 0


def test_a_disk_with_another_repository_at_the_place_of_a_new_site_is_not_used(own):
    other = shell_in(own.directory / "other")
    other.directory.mkdir()
    lose(own, "abcd")
    assert other("init", "--target", f"d={own.directory / 'd'}", "--copies", "1").code == 0
    done = own("snapshots", "--json")
    assert (done.code, done.error["kind"]) == (6, "no_quorum")
    assert "another repository" in done.error["message"] + done.err


def test_the_command_that_connect_prints_works_beside_a_stale_configuration(own, tmp_path):
    """On the same host, and on one with only a copy of the stale file, from each remaining target."""
    stale = (own.directory / "drtool.yaml").read_text()
    lose(own, "abc")
    for number, (shell, site) in enumerate(((own, "d"), (bare(tmp_path), "e"))):
        for site_left in (site, "d"):
            (shell.directory / "drtool.yaml").write_text(stale)
            done = shell("connect", str(own.directory / site_left), "--json")
            assert done.code == 0, done.err
            assert not done.document["written"]
            assert [row["name"] for row in done.document["configuration"]["add"]] == ["d/main", "e/main"]
            (offered,) = re.findall(r"`(drtool connect .*?)`", done.err)
            assert shell(*shlex.split(offered)[1:]).code == 0
            assert shell("--config", "drtool.yaml.new", "snapshots").code == 0
            (shell.directory / "drtool.yaml.new").unlink()
            words = shlex.split(done.document["restore"])
            restored = shell(*words[1:], "--json")
            assert restored.code == 0, (words, restored.err)
            shutil.rmtree(shell.directory / "restored")
        assert (shell.directory / "drtool.yaml").read_text() == stale, number


def test_connect_works_with_a_disk_that_is_mounted_elsewhere(own, tmp_path):
    """One site is left, on a new machine, and the command that connect prints finds it there."""
    lose(own, "abce")
    (own.directory / "d").rename(own.directory / "usb")
    for shell in (own, bare(tmp_path)):
        done = shell("connect", str(own.directory / "usb"), "--json")
        assert (done.code, done.document["tentative"]) == (0, True)
        words = shlex.split(done.document["restore"])
        restored = shell(*words[1:])
        assert restored.code == 0, (words, restored.err)


def test_the_directory_that_a_site_was_copied_from_is_not_used_as_the_site(own):
    """The configuration names the copy, which is away. The register in the old directory may be out of date."""
    shutil.copytree(own.directory / "c", own.directory / "copy")
    config = own.directory / "drtool.yaml"
    config.write_text(config.read_text().replace(f"file://{own.directory}/c", f"file://{own.directory}/copy"))
    (own.directory / "copy").rename(own.directory / "copy.away")
    lose(own, "ab")
    assert own("snapshots").code == 0, "d and e are a quorum"
    lose(own, "e")
    done = own("snapshots", "--json")
    assert (done.code, done.error["kind"]) == (6, "no_quorum")


def test_the_old_disk_of_a_replaced_site_leads_to_the_new_sites(own, tmp_path):
    """The old site's catalogue has ended. If none of the new sites answers, they are named."""
    done = bare(tmp_path)("connect", str(own.directory / "a"), "--json")
    assert done.code == 0, done.err
    assert {row["name"]: row["reachable"] for row in done.document["sites"]} == {"c": True, "d": True, "e": True}
    lose(own, "bcde")
    alone = bare(tmp_path, "second")("connect", str(own.directory / "a"), "--json")
    assert (alone.code, alone.error["kind"]) == (6, "no_quorum")
    assert alone.error["hint"] == "connect from a target of one of these sites"


def test_a_kit_printed_before_the_change_still_works(own, tmp_path):
    """A new kit, and one that names a, b and c: any remaining place on it leads to all others."""
    shell = bare(tmp_path)
    done = shell("connect", str(own.directory / "c"), "--json")
    assert {row["name"] for row in done.document["sites"]} == {"c", "d", "e"}
    kit = own("key", "kit").out
    connect, *others = [shlex.split(row.strip()[2:]) for row in kit.splitlines() if row.startswith("    $ drtool ")]
    second = bare(tmp_path, "second")
    for words in (connect, *others[:-1]):
        done = second(*words[1:])
        assert done.code == 0, (words, done.err)
    assert list((second.directory / "restored").rglob("file"))
