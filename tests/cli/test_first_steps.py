"""The first minutes with drtool: what it says about one disk, weak passwords, home directories and redundancy."""

import re

import pytest
from command_shell import shell_in


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A repository at three sites on one disk, and what `init` said."""
    shell = shell_in(tmp_path_factory.mktemp("first"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={shell.directory / site}")]
    return shell, shell("init", *targets)


def test_init_on_one_disk_says_that_a_lost_disk_loses_everything(first):
    _, made = first
    assert made.code == 0
    assert re.search(r"all 3 sites are on one file system, mounted at /\S*: a lost disk loses everything", made.err)


def test_a_number_of_copies_that_the_repository_does_not_use_is_said(first):
    shell, _ = first
    path = shell.directory / "drtool.yaml"
    before = path.read_text()
    assert "redundancy.copies" not in shell("status").out
    path.write_text(before.replace("redundancy: {copies: 2}", "redundancy: {copies: 3}"))
    try:
        (notice,) = [text for text in shell("--json", "status").document["notices"] if "redundancy" in text]
    finally:
        path.write_text(before)
    assert "redundancy.copies is 3 in the configuration, but the repository uses 2" in notice


def test_doctor_finds_a_source_below_the_home_directory(first):
    shell, _ = first
    home = shell.directory / "home"
    (home / "letters").mkdir(parents=True)
    path = shell.directory / "drtool.yaml"
    before = path.read_text()
    path.write_text(before + "sources: {letters: {paths: [~/letters]}}\n")
    try:
        text = shell("doctor", HOME=str(home)).out
    finally:
        path.write_text(before)
    assert "source-missing" not in text
    assert "mounted at /" in text
    assert "device" not in text


def test_a_trivial_password_from_a_file_is_warned_about_with_advice(tmp_path):
    shell = shell_in(tmp_path)
    weak = tmp_path / "weak"
    weak.write_text("hello\n")
    weak.chmod(0o600)
    made = shell("init", "--password-file", str(weak), "--target", f"a={tmp_path / 'a'}")
    assert made.code == 0
    assert "too easy to guess: it has fewer than 10 characters" in made.err
    assert "drtool key add" in made.err
