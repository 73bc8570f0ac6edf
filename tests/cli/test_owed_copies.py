"""What a backup and `status` say of copies that a site is owed."""

import pytest
from command_shell import shell_in
from three_sites import fill, noise


@pytest.fixture
def shell(tmp_path):
    """Three sites, three copies; one of them missed a backup and is back."""
    shell = shell_in(tmp_path)
    words = [word for site in "abc" for word in ("--target", f"{site}={tmp_path / site}")]
    assert shell("init", *words, "--copies", "3").code == 0
    fill(tmp_path / "source", {"x": noise(300_000, 1)})
    (tmp_path / "c").rename(tmp_path / "away")
    assert shell("backup", str(tmp_path / "source")).code == 5
    (tmp_path / "away").rename(tmp_path / "c")
    return shell


def test_a_backup_says_what_it_brought(shell, tmp_path):
    told = shell("status", "--json").document
    assert any("c/main is owed" in words for words in told["notices"])
    done = shell("backup", str(tmp_path / "source"))
    assert done.code == 0, done.out + done.err
    assert "to c/main, which was owed them" in done.out
    assert shell("status").code == 0


def test_with_no_time_for_it_the_copies_stay_owed_and_the_exit_code_says_so(shell, tmp_path):
    with (tmp_path / "drtool.yaml").open("a") as config:
        config.write("limits: {owed: 0}\n")
    done = shell("backup", str(tmp_path / "source"), "--json")
    assert (done.code, done.document["brought"]) == (5, [])
    done = shell("status", "--json")
    owed = {row["name"]: row["owed"]["objects"] for site in done.document["sites"] for row in site["targets"]}
    assert owed["a/main"] == owed["b/main"] == 0
    assert owed["c/main"] > 0
