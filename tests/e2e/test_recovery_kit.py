"""A bare host, one surviving disk and the text of the kit: everything comes back from what it prints, word for word."""

import re
import resource
import shlex
import shutil
import stat

import pytest
from command_shell import Shell, shell_in
from three_sites import in_a_child

from drtool.cli.commands.key.kit import _write

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Shell:
    """A repository at a, b and c, each of which holds everything, with a named and a nameless source."""
    made = shell_in(tmp_path_factory.mktemp("with a kit"))
    tree = made.directory / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_text("hello\n")
    (tree / "sub/other").write_bytes(bytes(range(256)) * 500)
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    done = made("init", *targets, "--copies", "3")
    assert done.code == 0, done.err
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write("sources: {home: {paths: [tree]}}\n")
    assert made("backup").code == 0
    return made


def kit_of(shell, *words):
    """What `key kit` wrote as text."""
    path = shell.directory / "kit.txt"
    path.unlink(missing_ok=True)
    done = shell("key", "kit", "--text", str(path), *words)
    assert done.code == 0, done.err
    return path.read_text()


def commands(kit):
    """The command lines of drtool itself, as words."""
    lines = [line.removeprefix("    $ ") for line in kit.splitlines() if line.startswith("    $ ")]
    assert [line.split()[0] for line in lines[:2]] == ["python3", "drtool-venv/bin/pip"]
    return [shlex.split(line) for line in lines if line.startswith("drtool ")]


def password_on(kit):
    section = kit.partition("PASSWORD (")[2].partition("WHAT TO DO")[0]
    return section.split("\n", 2)[2].strip()


@pytest.fixture
def bare(tmp_path) -> Shell:
    """Another host: it has neither configuration nor state nor cache, and only a kit's password."""
    home = tmp_path / "bare host"
    home.mkdir()
    shell = shell_in(home)
    shell.environ |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    del shell.environ["DRTOOL_PASSWORD"]
    return shell


def same(first, second):
    def contents(top):
        return {path.relative_to(top): path.is_file() and path.read_bytes() for path in top.rglob("*")}

    return contents(first) == contents(second) and contents(first)


def test_what_the_kit_prints_restores_everything_on_a_bare_host(stored, bare):
    kit = kit_of(stored, "--with-password")
    bare.environ["DRTOOL_PASSWORD"] = password_on(kit)
    connect, snapshots, look, in_place = commands(kit)
    for words in (connect, snapshots, look):
        done = bare(*words[1:])
        assert done.code == 0, (words, done.out, done.err)
    below = str(stored.directory / "tree").removeprefix("/")
    assert same(stored.directory / "tree", bare.directory / look[-1] / below)
    root = bare.directory / "the root of this machine"
    (root / below / "sub").mkdir(parents=True)
    (root / below / "file").write_text("something else\n")
    assert in_place[in_place.index("--to") + 1] == "/"
    in_place[in_place.index("--to") + 1] = str(root)
    done = bare(*in_place[1:])
    assert done.code == 0, done.err
    assert same(stored.directory / "tree", root / below)


def test_with_one_disk_left_the_kit_says_what_else_to_type(stored, bare):
    """Two sites burn; the third one's disk is mounted where nobody had it before."""
    kit = kit_of(stored)
    assert password_on(kit) == "_" * 64
    disk = bare.directory / "disk"
    shutil.copytree(stored.directory / "c", disk)
    bare.environ["DRTOOL_PASSWORD"] = PASSWORD
    (extra,) = re.findall(r"fewer than 2 of the 3 voting sites available, add `(--manifest-from any)`", kit)
    for site in "abc":
        (stored.directory / site).rename(stored.directory / f"{site}.burnt")
    try:
        connect, snapshots, look, _ = commands(kit)
        assert "contains drtool.json" in kit
        assert bare(*connect[1:]).code == 10, "the disk is not where it was"
        for words in ([*connect[:2], str(disk)], [*snapshots, *extra.split()], [*look, *extra.split()]):
            done = bare(*words[1:])
            assert done.code == 0, (words, done.out, done.err)
    finally:
        for site in "abc":
            (stored.directory / f"{site}.burnt").rename(stored.directory / site)
    below = str(stored.directory / "tree").removeprefix("/")
    assert same(stored.directory / "tree", bare.directory / look[-1] / below)


def test_every_place_on_the_kit_can_be_connected_to(stored, bare):
    kit = kit_of(stored)
    places = kit.partition("WHERE IT IS")[2].partition("WHAT OPENS IT")[0]
    urls = dict(re.findall(r"^    (\S+)  (file://.*?)  \(", places, re.MULTILINE))
    assert set(urls) == {"a/main", "b/main", "c/main"}
    bare.environ["DRTOOL_PASSWORD"] = PASSWORD
    for name, url in urls.items():
        done = bare("connect", url, "--write-config", f"{name[0]}.yaml", "--json")
        assert done.code == 0, done.err
        assert done.document["repository_id"] in kit


def test_a_file_with_the_password_is_for_its_owner_only_and_none_is_overwritten(stored, tmp_path):
    page, text = tmp_path / "kit.html", tmp_path / "kit.txt"
    done = stored("key", "kit", "--html", str(page), "--text", str(text), "--with-password", "--json")
    assert done.code == 0, done.err
    assert (stat.S_IMODE(page.stat().st_mode), stat.S_IMODE(text.stat().st_mode)) == (0o600, 0o600)
    assert PASSWORD in page.read_text()
    assert PASSWORD not in done.out + done.err
    assert done.document["password_included"]
    assert done.document["commands"][3].startswith("drtool connect ")
    again = stored("key", "kit", "--text", str(text))
    assert (again.code, "exists" in again.err) == (11, True)
    assert PASSWORD in text.read_text()


def test_without_a_file_the_kit_is_printed(stored):
    printed = stored("key", "kit")
    assert printed.code == 0
    assert commands(printed.out)[0][:2] == ["drtool", "connect"]
    assert PASSWORD not in printed.out
    assert "\x1b" not in printed.out


def test_the_kit_names_the_passwords_that_there_are(stored, tmp_path):
    new = tmp_path / "new"
    new.write_text("for the safe\n")
    added = stored("key", "add", "--label", "safe deposit box", "--new-password-file", str(new), "--json").document
    try:
        kit = kit_of(stored)
        assert f"{added['id']}  safe deposit box" in kit
        for_the_safe = kit_of(stored, "--with-password", "--password-file", str(new))
        assert f"PASSWORD (of key slot {added['id']}, safe deposit box)" in for_the_safe
        assert password_on(for_the_safe) == "for the safe"
    finally:
        assert stored("key", "remove", added["id"]).code == 0


def test_a_password_that_nobody_can_read_off_a_page_is_not_put_on_one(stored, tmp_path):
    new = tmp_path / "new"
    new.write_bytes(b"\xff\xfe\n")
    added = stored("key", "add", "--new-password-file", str(new), "--json").document
    try:
        done = stored("key", "kit", "--with-password", "--password-file", str(new))
        assert (done.code, "cannot be printed" in done.err) == (2, True)
    finally:
        assert stored("key", "remove", added["id"]).code == 0


def test_a_full_disk_leaves_no_half_a_kit(tmp_path):
    path = tmp_path / "kit.html"

    def run():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with pytest.raises(OSError, match="File too large"):
            _write(path, "x" * 100_000, secret=True)

    assert in_a_child(run) == 0
    assert not path.exists()
