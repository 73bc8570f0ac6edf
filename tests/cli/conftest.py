"""A repository at three sites, made by the command line itself."""

import os

import pytest
from command_shell import Shell, shell_in
from three_sites import settle


@pytest.fixture
def shell(tmp_path) -> Shell:
    """An empty directory."""
    return shell_in(tmp_path)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Shell:
    """A repository at sites a, b and c with one source and one snapshot of it. Tests leave it as they found it."""
    made = shell_in(tmp_path_factory.mktemp("stored"))
    tree = made.directory / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_text("hello\n")
    (tree / "sub/other").write_bytes(b"x" * 100_000)
    (tree / "link").symlink_to("file")
    with open(os.fsencode(tree) + b"/caf\xe9\n", "wb") as odd:
        odd.write(b"odd")
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets).code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write("sources: {home: {paths: [tree]}}\n")
    settle(tree)  # or the next backup would not trust what it sees
    assert made("backup", "--tag", "first").code == 0
    return made
