"""Two sites and an arbiter: any one of the three may be lost, and the arbiter never holds a pack."""

from contextlib import contextmanager

import pytest
from command_shell import Shell, shell_in


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Shell:
    """Sites a and b, an arbiter that `init` added, and one snapshot. Tests leave it unchanged."""
    made = shell_in(tmp_path_factory.mktemp("pair"))
    (made.directory / "tree").mkdir()
    (made.directory / "tree/file").write_bytes(bytes(range(256)) * 800)
    done = made("init", "--target", f"a={made.directory}/a", "--target", f"b={made.directory}/b", "--json")
    assert done.code == 0, done.err
    assert done.document["sites"] == {"a": ["a/main"], "b": ["b/main"]}
    assert done.document["arbiters"] == ["arbiter/main"]
    assert "third vote" in done.err
    assert made("backup", "tree").code == 0
    return made


def place_of_arbiter(shell: Shell):
    (place,) = (shell.directory / "data/drtool").glob("arbiter-*")
    return place


@contextmanager
def gone(place):
    away = place.with_name(place.name + ".away")
    place.rename(away)
    try:
        yield
    finally:
        away.rename(place)


@pytest.mark.parametrize("lost", ["a", "b", "arbiter"])
@pytest.mark.spread(3)
def test_backups_and_reads_continue_with_any_one_site_lost(pair, tmp_path, lost):
    place = place_of_arbiter(pair) if lost == "arbiter" else pair.directory / lost
    with gone(place):
        stored = pair("backup", "tree", "--json")
        (row,) = stored.document["snapshots"]
        assert (stored.code, row["errors"]) == (0 if lost == "arbiter" else 5, [])
        assert [owed["target"] for owed in row["owed"]] == ([] if lost == "arbiter" else [f"{lost}/main"])
        assert pair("restore", f"latest:{pair.directory}/tree", "--to", str(tmp_path / "out")).code == 0
        assert (tmp_path / "out/file").read_bytes() == (pair.directory / "tree/file").read_bytes()
        status = pair("status", "--json").document
        assert status["quorum"] == {"needed": 2, "reachable": 2}
        assert any(("arbiter/main" if lost == "arbiter" else f"{lost}/main") in text for text in status["problems"])
    assert pair("manifest", "check", "--json").code == 0


def test_the_arbiter_votes_and_stores_nothing(pair):
    place = place_of_arbiter(pair)
    assert {path.name for path in place.iterdir()} - {"probe"} == {"drtool.json", "keys", "manifest"}
    status = pair("status", "--json").document
    (site,) = (site for site in status["sites"] if site["name"] == "arbiter")
    assert (site["votes"], site["targets"][0]["state"], site["targets"][0]["objects"]) == (True, "arbiter", 0)
    rows = {row["name"]: row for row in pair("target", "list", "--json").document["targets"]}
    assert (rows["arbiter/main"]["state"], rows["arbiter/main"]["weight"]) == ("arbiter", 0)
    assert "arbiter" not in pair("ring", "show").out
    assert "only" in pair("status").out
    assert "vote: only" in (pair.directory / "drtool.yaml").read_text()
    done = pair("verify", "--level", "full", "--json")
    assert (done.code, done.document["offline"]) == (0, [])


def test_an_arbiter_that_the_configuration_does_not_name_is_found(pair):
    config = pair.directory / "without.yaml"
    config.write_text(
        f"sites: {{a: {{main: {{url: {pair.directory}/a}}}}, b: {{main: {{url: {pair.directory}/b}}}}}}\n"
    )
    with gone(pair.directory / "a"):
        done = pair("-c", str(config), "status", "--json")
        assert done.document["quorum"] == {"needed": 2, "reachable": 2}
        assert pair("-c", str(config), "backup", "tree").code in {0, 5}


def test_an_arbiter_at_a_given_url(shell):
    targets = ("--target", "a=a", "--target", "b=b")
    done = shell("init", *targets, "--arbiter", "judge=small", "--json")
    assert (done.code, done.document["arbiters"]) == (0, ["judge/main"])
    assert (shell.directory / "small/manifest").is_dir()
    voters = shell("manifest", "status", "--json").document["acceptors"]
    assert [row["site"] for row in voters] == ["a", "b", "judge"]
    assert not list((shell.directory / "data").glob("drtool/arbiter*"))


def test_votes_follow_the_configuration(shell):
    (shell.directory / "drtool.yaml").write_text(
        "sites:\n"
        "  a: {main: {url: a}, second: {url: a2, vote: true}}\n"
        "  b: {main: {url: b, vote: false}}\n"
        "  c: {main: {url: c, vote: auto}}\n"
        "  d: {main: {url: d, vote: only}}\n"
    )
    done = shell("init", "--json")
    assert done.code == 0, done.err
    assert done.document["sites"] == {"a": ["a/main", "a/second"], "b": ["b/main"], "c": ["c/main"]}
    status = shell("status", "--json").document
    assert {site["name"]: site["votes"] for site in status["sites"]} == {"a": True, "b": False, "c": True, "d": True}
    assert not (shell.directory / "b/manifest/acc").exists()
    assert shell("backup", "drtool.yaml").code == 0
    assert not (shell.directory / "d/packs").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--target", "a=a", "--target", "b=b", "--arbiter", "a=x"), "a is already a site"),
        (("--target", "a=a", "--target", "b=b", "--arbiter", "ftp://x/y"), "not a kind of target"),
        (("--arbiter", ""), "expected a URL"),
        (("--target", "a=a", "--copies", "2", "--arbiter", "x"), "2 copies need 2 sites"),
    ],
)
def test_invalid_arbiters_are_refused(shell, words, part):
    done = shell("init", *words, "--json")
    assert done.code == 2
    assert part in done.error["message"]


def test_an_invalid_value_of_vote_is_reported(shell):
    (shell.directory / "drtool.yaml").write_text("sites: {a: {main: {url: a, vote: maybe}}}\n")
    done = shell("init", "--json")
    assert done.code == 2
    assert "expected auto, true, false or only" in done.error["message"]
