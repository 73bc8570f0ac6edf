"""What drtool says agrees with an independent oracle, in random histories of commands and damage. `make truth` plays more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_zygote import Zygote
from thoroughness import spread
from truth_broken import VARIANTS
from truth_history import Step, goes_beyond, history
from truth_judgement import RULES
from truth_play import play
from truth_process import MODULE
from truth_rules import NOT_YET
from truth_topology import MUTE, topology
from truth_world import World

STORED = (Step("edit", draw=1), Step("backup"), Step("edit", draw=2), Step("backup"))


@pytest.fixture(scope="module")
def commands() -> Iterator[Zygote]:
    zygote = Zygote(MODULE)
    yield zygote
    zygote.close()


@pytest.mark.parametrize("seed", spread((1, 0, 2)))  # seed 1 is the shortest
def test_what_drtool_says_is_true(seed, place: Path, commands: Zygote):
    steps = history(seed, 8)
    played = play(World(place, seed, commands, topology=topology(seed)), steps, frozenset(NOT_YET))
    assert not played.complaints, "\n".join([f"seed {seed}", *played.lines, *map(str, played.complaints)])


@pytest.mark.parametrize("seed", spread((3, 4)))
@pytest.mark.thorough
def test_what_drtool_says_is_true_where_some_sites_never_vote(seed, place: Path, commands: Zygote):
    steps = history(seed, 8, MUTE)
    played = play(World(place, seed, commands, topology=MUTE), steps, frozenset(NOT_YET))
    assert not played.complaints, "\n".join([f"seed {seed}", *played.lines, *map(str, played.complaints)])


def damage(site: str, kind: str, how: str) -> Step:
    """All objects of a kind."""
    return Step("damage", site, kind, how, 1.0, 0.5)


VERIFIED = Step("verify", verified=True)
DAMAGED = (*STORED, damage("a", "packs", "flip"), VERIFIED)
CAUGHT: dict[str, tuple[tuple[Step, ...], str]] = {
    "verify-believes-names": (DAMAGED, "verify-finds-all-damage"),
    "survive-counts-damaged-copies": (DAMAGED, "survive-says-what-a-loss-leaves"),
    "prune-overlooks-a-snapshot": (
        (*STORED, Step("forget", share=0.0), Step("prune")),
        "no-command-loses-anything",
    ),
    "repair-only-says-so": ((*DAMAGED, Step("repair")), "repair-heals-what-it-says"),
    "backup-counts-promised-copies": (
        (*STORED, damage("a", "packs", "delete"), damage("b", "packs", "delete"), Step("backup")),
        "backup-counts-copies-that-can-be-seen",
    ),
    "status-never-looks-at-pages": (
        (*STORED, Step("backup"), damage("a", "pages", "truncate"), damage("b", "pages", "truncate")),
        "status-is-not-healthy-when-a-promised-loss-would-cost-a-snapshot",
    ),
    "verify-reads-pages-through-the-cache": (
        (*STORED, Step("backup"), damage("a", "pages", "flip"), VERIFIED),
        "verify-finds-all-damage",
    ),
    "survive-counts-rotten-pages": (
        (*STORED, Step("backup"), damage("a", "pages", "flip"), damage("b", "pages", "flip"), VERIFIED),
        "survive-says-what-a-loss-leaves",
    ),
    "damage-of-the-catalogue-stays-on-this-host": (
        (*STORED, Step("backup"), damage("a", "pages", "flip"), VERIFIED),
        "status-is-not-healthy-when-damage-is-known",
    ),
    "connect-writes-down-places-that-lead-nowhere": (
        (*STORED, Step("connect", "a")),
        "a-new-host-connects-from-any-site",
    ),
}
"""By variant: a history that shows it, and the rule that speaks."""


def test_every_broken_variant_has_a_history():
    assert CAUGHT.keys() == VARIANTS.keys()


@pytest.mark.parametrize("variant", spread(CAUGHT, 4))
def test_a_broken_variant_is_caught_and_the_product_is_not(variant, place: Path, commands: Zygote):
    steps, rule = CAUGHT[variant]
    others = frozenset(RULES) - {rule}
    broken = play(World(_new(place / "broken"), 1, commands, variant), steps, others, len(STORED) + 1)
    assert {complaint.rule for complaint in broken.complaints} == {rule}
    whole = play(World(_new(place / "whole"), 1, commands), steps, others, len(STORED) + 1)
    assert whole.complaints == []


def test_a_seed_is_always_the_same_history():
    assert history(7, 30) == history(7, 30)
    assert history(7, 30) != history(8, 30)


@pytest.mark.parametrize("seed", range(50))
def test_one_site_is_in_trouble_at_a_time_unless_the_history_goes_beyond(seed):
    troubled: set[str] = set()
    before = ""
    bearable = topology(seed).bearable + goes_beyond(seed)
    for step in before_recovery(history(seed, 40)):
        if step.verb in ("damage", "away", "read-only", "set-back"):
            troubled.add(step.site)
        elif step.verb == "replace":
            troubled.discard(step.site)
        elif (before, step.verb) == ("verify", "repair"):
            troubled.clear()
        assert len(troubled) <= bearable
        before = step.verb


def before_recovery(steps: list[Step]) -> list[Step]:
    """The steps before a majority is lost."""
    ends = [number for number, step in enumerate(steps) if step.verb == "restore"]
    return steps[: ends[-2 if any(step.verb == "recover" for step in steps) else -1]]


def _new(path: Path) -> Path:
    path.mkdir()
    return path
