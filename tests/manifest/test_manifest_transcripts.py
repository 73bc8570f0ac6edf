"""The protocol, told: what each site is asked and answers, in `transcripts/`. Compared word for word, so that it stays true.

After a change that is meant: `python tests/sim/run.py --transcripts` writes them anew; read what changed before you commit.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sim"))

from sim_stories import STORIES

TRANSCRIPTS = Path(__file__).parent / "transcripts"


@pytest.mark.parametrize("name", sorted(STORIES))
def test_the_protocol_is_as_it_is_told(name):
    assert STORIES[name]() == (TRANSCRIPTS / f"{name}.txt").read_text(encoding="utf-8")


def test_every_transcript_is_told_by_a_story():
    assert {path.stem for path in TRANSCRIPTS.iterdir()} == set(STORIES)
