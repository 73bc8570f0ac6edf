"""The text, the exit code and `healthy` of `status` agree in every state of the repository."""

from pathlib import Path

import pytest
from command_shell import Shell, shell_in


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> Shell:
    """Three sites, two copies, one snapshot. Tests leave it unchanged."""
    shell = shell_in(tmp_path_factory.mktemp("status"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={shell.directory / site}")]
    assert shell("init", *targets).code == 0
    (shell.directory / "tree").mkdir()
    (shell.directory / "tree/file").write_bytes(b"x" * 300_000)
    assert shell("backup", "tree").code == 0
    return shell


def flip(path: Path) -> bytes:
    """Damage one bit. Return the bytes from before."""
    before = path.read_bytes()
    path.write_bytes(before[:-9] + bytes([before[-9] ^ 1]) + before[-8:])
    return before


def agrees(shell: Shell, words: str, *, code: int) -> None:
    """Check that the text, the document, the page's exit code and the process's agree and name the problem."""
    told, shown = shell("status", "--json"), shell("status")
    page = shell("report", "--html", "page.html", "--json")
    assert (told.code, shown.code, page.code) == (code, code, code)
    assert told.document["healthy"] is page.document["healthy"] is (code == 0)
    assert ("repository healthy" in shown.out) is (code == 0)
    assert bool(told.document["problems"]) is (code != 0)
    lines = told.document["problems"] if code else told.document["notices"]
    assert any(words in line for line in lines), lines
    mark = "! " if code else "- "
    assert any(line.startswith(mark) and words in line for line in shown.out.splitlines())


def test_a_whole_repository_is_healthy_and_exits_0(sites):
    told = sites("status", "--json")
    assert (told.code, told.document["healthy"], told.document["problems"]) == (0, True, [])


def test_known_damage_is_a_problem(sites):
    pack = max((sites.directory / "a/packs").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    before = flip(pack)
    assert sites("verify", "--level", "full").code == 4
    agrees(sites, "damaged copies were found at a/main", code=7)
    pack.write_bytes(before)
    assert sites("verify", "--level", "full").code == 0


def test_a_damaged_key_slot_is_a_problem(sites):
    (slot,) = (sites.directory / "b/keys").iterdir()
    before = flip(slot)
    agrees(sites, "is damaged at b/main", code=7)
    slot.write_bytes(before)


def test_an_offline_site_is_a_problem(sites):
    (sites.directory / "c").rename(sites.directory / "away")
    agrees(sites, "target c/main is offline", code=7)
    (sites.directory / "away").rename(sites.directory / "c")


def test_a_lost_quorum_exits_6_and_is_not_healthy(sites):
    for site in "bc":
        (sites.directory / site).rename(sites.directory / f"away-{site}")
    agrees(sites, "no quorum", code=6)
    for site in "bc":
        (sites.directory / f"away-{site}").rename(sites.directory / site)


def test_a_draining_target_is_a_notice(sites):
    assert sites("target", "drain", "c").code == 0
    agrees(sites, "target c/main is draining", code=0)
