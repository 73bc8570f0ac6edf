"""The requests to and answers of each site, in `transcripts/`, compared word for word to keep them true.

After an intended change, `python tests/sim/run.py --transcripts` rewrites them. Read the differences before you commit.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sim"))

from sim_stories import STORIES

TRANSCRIPTS = Path(__file__).parent / "transcripts"


@pytest.mark.parametrize("name", sorted(STORIES))
def test_the_protocol_matches_its_transcript(name):
    assert STORIES[name]() == (TRANSCRIPTS / f"{name}.txt").read_text(encoding="utf-8")


def test_every_transcript_has_a_story():
    assert {path.stem for path in TRANSCRIPTS.iterdir()} == set(STORIES)
