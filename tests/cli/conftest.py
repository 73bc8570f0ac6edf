"""A repository at three sites, made by the command line itself."""

import os
from pathlib import Path

import pytest
from command_shell import Shell, shell_in
from three_sites import settle


@pytest.fixture
def shell(tmp_path) -> Shell:
    """An empty directory."""
    return shell_in(tmp_path)


MODULES = 60


@pytest.fixture(scope="session")
def settled_trees(tmp_path_factory) -> list[Path]:
    """Small trees for the modules, made at the same time.

    Moving one does not change the times of its files, so they settle together.
    """
    trees = [tmp_path_factory.mktemp("trees") / "tree" for _ in range(MODULES)]
    for tree in trees:
        (tree / "sub").mkdir(parents=True)
        (tree / "file").write_text("hello\n")
        (tree / "sub/other").write_bytes(b"x" * 100_000)
        (tree / "link").symlink_to("file")
        with open(os.fsencode(tree) + b"/caf\xe9\n", "wb") as odd:
            odd.write(b"odd")
    return trees


@pytest.fixture(scope="module")
def stored(tmp_path_factory, settled_trees) -> Shell:
    """A repository at sites a, b and c with one source and one snapshot of it. Tests leave it unchanged."""
    made = shell_in(tmp_path_factory.mktemp("stored"))
    tree = settled_trees.pop().rename(made.directory / "tree")
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets).code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write("sources: {home: {paths: [tree]}}\n")
    settle(tree)  # otherwise the next backup would not trust the times of the files
    assert made("backup", "--tag", "first").code == 0
    return made
