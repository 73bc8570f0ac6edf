"""The text form of faults: the meaning of each word, and the answers to mistakes."""

import pytest

from drtool.config.faults import read_faults
from drtool.errors import ConfigError
from drtool.stores import NO_FAULTS, Faults


@pytest.mark.parametrize(
    ("spec", "faults"),
    [
        ("offline", Faults(offline=True)),
        ("hang", Faults(hang=True)),
        ("read-only", Faults(read_only=True)),
        ({}, NO_FAULTS),
        ({"offline": False}, NO_FAULTS),
        ({"full": "1MiB"}, Faults(full_after_bytes=1 << 20)),
        ({"full": 0}, Faults(full_after_bytes=0)),
        ({"slow": "2s"}, Faults(delay_s=2.0)),
        ({"slow": "50ms", "flaky": "10%"}, Faults(delay_s=0.05, flaky=0.1)),
        ({"wrong-size": "-100"}, Faults(size_error_bytes=-100)),
        ({"wrong-size": "1KiB"}, Faults(size_error_bytes=1024)),
        ({"damaged": "packs/", "share": "25%", "seed": 7}, Faults(damaged=frozenset({"packs/"}), share=0.25, seed=7)),
        ({"stale": "all"}, Faults(stale=frozenset({""}))),
        ({"omitted": ["packs/", "index/"]}, Faults(omitted=frozenset({"packs/", "index/"}))),
        ({"invented": "packs/00/00"}, Faults(invented=frozenset({"packs/00/00"}))),
        ({"partial-writes": "silent"}, Faults(partial_writes="silent")),
        ({"failing-calls": [3, 4]}, Faults(fail_calls=frozenset({3, 4}))),
    ],
)
def test_words_mean_faults(spec, faults):
    assert read_faults(spec) == faults


@pytest.mark.parametrize(
    ("spec", "words", "hint"),
    [
        ("offlin", "unknown fault 'offlin'; the nearest known one is 'offline'", None),
        ({"ful": "1MiB"}, "unknown fault 'ful'; the nearest known one is 'full'", None),
        ({"full": "lots"}, "fault full: not a size", "write `full: 1MiB`"),
        ("full", "fault full: not a size", "write `full: 1MiB`"),
        ({"slow": "fast"}, "fault slow: not a time: 'fast'", "write `slow: 2s`"),
        ({"flaky": 0.1}, "fault flaky: not a share", "write `flaky: 10%`"),
        ({"share": "110%"}, "fault share: not a share of 0 % to 100 %", "write `share: 10%`"),
        ({"offline": "yes"}, "fault offline: it is only true or false", "write `offline: true`"),
        ({"damaged": []}, "fault damaged: not an object's name", "write `damaged: packs/`"),
        ({"partial-writes": True}, "fault partial-writes: expected", "write `partial-writes: failing`"),
        ({"failing-calls": 0}, "not call numbers", "write `failing-calls: [3, 4]`"),
        ({"wrong-size": "x"}, "not a size", "write `wrong-size: -100`"),
        ({"seed": "x"}, "not a whole number", "write `seed: 7`"),
        ({3: "x"}, "unknown fault 3", None),
        (["offline"], "a word or a mapping", "write `offline`, or `slow: 2s`"),
    ],
)
def test_a_mistake_is_answered_with_the_correct_form(spec, words, hint):
    with pytest.raises(ConfigError) as caught:
        read_faults(spec)
    assert words in caught.value.message
    assert caught.value.hint == hint
