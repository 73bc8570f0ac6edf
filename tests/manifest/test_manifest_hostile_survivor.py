"""A recovery from sites with foreign objects: junk seals, invented names, seals of another recovery."""

import pytest
from manifest_world import Sites, backup, sources

from drtool.crypto import SealKind
from drtool.manifest import Member
from drtool.manifest.finding import READS_LIMIT, successor_in
from drtool.manifest.head import seal_row
from drtool.manifest.names import Life
from drtool.manifest.records import Config, Successor, Voter
from drtool.manifest.switching import next_config

SEAL = "manifest/acc/g0001/c000001/z-sealed"


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path / "world", 3, spare=1)


def alone(sites):
    """Only site0 is left."""
    backup(sites.found(), "before")
    for name in ("site1", "site2"):
        (sites.root / name).rename(sites.root.parent / name)


@pytest.mark.parametrize("junk", [b"", b"junk", bytes(300)])
def test_a_junk_seal_on_the_sole_survivor_does_not_stop_a_recovery(sites, junk):
    alone(sites)
    (sites.root / "site0" / SEAL).write_bytes(junk)
    view = sites.host("admin").recover(["site0"])
    assert (view.config.generation, view.config.quorum) == (2, 1)
    backup(sites.host("writer"), "after")
    assert sources(sites.host("stranger").read()) == ["before", "after"]


def test_a_recovery_seals_no_more_than_a_few_of_the_names_that_a_site_invents(sites):
    alone(sites)
    acceptors = sites.root / "site0" / "manifest/acc/g0001"
    for number in range(2, 500):
        (acceptors / f"c{number:06}").mkdir()
        (acceptors / f"c{number:06}" / "other").write_bytes(b"")
    sites.host("admin").recover(["site0"])
    fenced_too = 2 * READS_LIMIT + 1  # the run that recovers also sweeps once, as every later run does
    assert len(list(acceptors.glob("*/z-sealed"))) <= fenced_too
    assert (sites.root / "site0" / SEAL).exists()
    assert sources(sites.host("stranger").read()) == ["before"]


def test_a_seal_of_another_recovery_to_the_same_generation_is_not_ours(sites):
    keys = sites.keys
    after = Config(3, 1, (Voter("site0", "site0/main", bytes(16)),), 1, b"c" * 16)
    ours, theirs = (Life(2, 1, letter * 16) for letter in (b"a", b"b"))

    def seal(recovery):
        return seal_row(keys, SealKind.SUCCESSOR, Successor(2, 1, after, (), recovery))

    assert isinstance(successor_in(keys, ours, seal(ours.recovery)), Successor)
    assert successor_in(keys, ours, seal(theirs.recovery)) == "its seal belongs to another configuration"
    assert isinstance(successor_in(keys, ours, seal(None)), Successor)  # an early version did not say


@pytest.mark.parametrize(("voters", "quorum"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 4), (7, 5)])
def test_a_change_of_voters_goes_on_bearing_a_liar(voters, quorum):
    now = Config(1, 1, tuple(Voter(f"site{n}", f"site{n}/main", bytes(16)) for n in range(5)), 4, liars=1)
    talk = next_config(now, [Member(f"site{n}", f"site{n}/main") for n in range(voters)])
    reply = None
    try:
        while True:
            talk.send(reply)
            reply = bytes(16)
    except StopIteration as done:
        config = done.value
    assert (config.quorum, config.liars) == (quorum, 1)
