"""Sentences that must stay true in the odd cases: one item, a small repository, an even number of voters."""

import pytest

from drtool.cli.commands.rebalance import rebalance_view
from drtool.cli.commands.stats import _times
from drtool.config.life import Objective
from drtool.operations.objectives import missed
from drtool.repository.voters import even_number


@pytest.mark.parametrize(
    ("voters", "words"), [(2, "2 sites vote, and the loss of any one of them"), (4, "the loss of 2 of them")]
)
def test_an_even_number_of_voters_names_the_loss_that_stops_writing(voters, words):
    assert words in even_number(voters)
    assert even_number(voters + 1) is None


def test_one_site_is_not_one_sites():
    (words,) = missed(Objective(copies=2), 1.0, 1, None, 2)
    assert words == "some data is on 1 site instead of 2"


def test_padding_is_not_called_compression():
    assert (_times(0.02, "compressed"), _times(1.5, "compressed")) == ("", ", compressed 1.5 times")


def test_a_dry_run_of_rebalance_says_what_it_would_do():
    amount = {"objects": 1, "bytes": 5}
    document = {"dry_run": True, "wall_seconds": 0.0, "moves": {**amount, "fraction": 0.5}, "removed": amount}
    rest = {"rebuilt": amount, "left": [], "lost": [], "degraded": False, "away": [], "waiting": [], "stopped": 0}
    texts = [part.text for part in rebalance_view(document | rest).parts]
    assert [text.split(" 1 ")[0] for text in texts] == ["would move", "would remove", "would rebuild"]
