"""Faults at a bucket, whose openings are rehearsed: the overlay lies below that, and nothing at the server changes."""

import pytest
from bucket_sites import bucket_sites
from drill_faults import holder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A bucket at paris, directories at oslo and rome; everything was opened once, so that its questions are remembered."""
    directory = tmp_path_factory.mktemp("mixed")
    with bucket_sites(directory, ("paris",)) as sites:
        (directory / "tree").mkdir()
        (directory / "tree/file").write_bytes(b"hello" * 100_000)
        places = {"paris": sites.url("paris"), "oslo": directory / "oslo", "rome": directory / "rome"}
        targets = [word for site, place in places.items() for word in ("--target", f"{site}={place}")]
        assert sites.shell("init", *targets, "--copies", "3").code == 0
        assert sites.shell("backup", str(directory / "tree")).code == 0
        assert sites.shell("snapshots").code == 0
        yield sites


def fault(mixed, kind, *objects):
    state = mixed.shell.directory / "state"
    return holder(state, "paris/main", mixed.url("paris"), kind, *objects, environ=mixed.shell.environ)


@pytest.mark.thorough
def test_a_bucket_that_a_drill_keeps_offline_is_not_reached(mixed):
    with fault(mixed, "offline"):
        rows = {row["site"]: row for row in mixed.shell("manifest", "status", "--json").document["acceptors"]}
        assert [site for site in rows if not rows[site]["reachable"]] == ["paris"]
        out = mixed.shell.directory / "out"
        assert mixed.shell("restore", "latest", "--to", str(out)).code == 0
    status = mixed.shell("status", "--json").document
    assert (status["healthy"], status["problems"]) == (True, [])


@pytest.mark.thorough
def test_corrupted_objects_of_a_bucket_are_found_and_whole_at_the_server(mixed):
    victims = sorted(name.removeprefix("repository/") for name in mixed.objects("paris"))[:2]
    before = mixed.objects("paris", "")
    with fault(mixed, "corrupt", *victims):
        found = mixed.shell("verify", "--level", "full", "--json")
        assert found.code == 4
        assert sorted((row["target"], row["object"]) for row in found.document["damaged"]) == [
            ("paris/main", name) for name in victims
        ]
        after = mixed.objects("paris", "")
        assert {name: size for name, size in after.items() if "manifest" not in name} == {
            name: size for name, size in before.items() if "manifest" not in name
        }
    assert mixed.shell("verify", "--level", "full").code == 0
