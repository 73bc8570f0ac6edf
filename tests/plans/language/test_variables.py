"""The values of variables: typed, with times resolved once, and errors that name the declaration."""

from pathlib import Path

import pytest

from drtool.errors import UsageError
from drtool.plans.language import Bytes, Moment, Seconds, load_plan, resolve_vars

TEXT = """\
version: 1
id: p
title: T
vars:
  source: {type: string, required: true, description: what is restored}
  n: {type: int, default: 3}
  yes: {type: bool, default: false}
  wait: {type: duration, default: 1h30m}
  size: {type: size}
  dir: {type: path, default: /srv}
  names: {type: list, default: [a, b], enum: [a, b, c]}
  at: {type: timestamp, default: now-10m}
  word: {type: string, default: ab, pattern: "[a-z]+"}
steps: [{id: a, uses: verify, with: {level: full}}]
"""
NOW = Moment(1_700_000_000 * 10**9)


def values(*words: str):
    plan = load_plan(Path("drill/p.yaml"), lambda _: TEXT.encode())
    return resolve_vars(plan, words, NOW)


def test_defaults_are_typed_and_times_are_pinned():
    assert values("source=home") == {
        "source": "home",
        "n": 3,
        "yes": False,
        "wait": Seconds(5400.0),
        "size": None,
        "dir": "/srv",
        "names": ("a", "b"),
        "at": Moment(NOW.value_ns - 600 * 10**9),
        "word": "ab",
    }


def test_given_values_are_read_by_type():
    found = values(
        "source=a=b",
        "n=-7",
        "yes=true",
        "wait=2d",
        "size=5GiB",
        "names=c",
        "at=2026-01-31T22:30:00.5+01:00",
        "word="[:5] + "z",
    )
    assert (found["source"], found["n"], found["yes"], found["names"]) == ("a=b", -7, True, ("c",))
    assert (found["wait"], found["size"]) == (Seconds(172800.0), Bytes(5 << 30))
    assert str(found["at"]) == "2026-01-31T21:30:00.5Z"


def test_all_variables_without_a_value_are_named_at_once():
    text = TEXT.replace("default: now-10m", "required: true")
    plan = load_plan(Path("drill/p.yaml"), lambda _: text.encode())
    with pytest.raises(
        UsageError, match=r"2 required variables need values: 'source' \(what is restored\).*; 'at', "
    ) as error:
        resolve_vars(plan, (), NOW)
    assert error.value.hint is not None
    assert error.value.hint.count("--var ") == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the variable 'source' needs a value (what is restored): it is required, declared at drill/p.yaml:5:3"),
        (
            ["source=x", "n=three"],
            "the variable 'n': expected a whole number, not 'three' (declared at drill/p.yaml:6:3)",
        ),
        (["source=x", "yes=yes"], "expected true or false, not 'yes'"),
        (["source=x", "wait=5"], "not a duration"),
        (["source=x", "dir=relative"], "expected an absolute path"),
        (["source=x", "dir=/a/../b"], "expected an absolute path without '..'"),
        (["source=x", "names=a,z"], "expected one of a, b, c"),
        (["source=x", "at=2026-01-31T22:30:00"], "with Z or an offset"),
        (["source=x", "at=2026-02-31T22:30:00Z"], "not a time"),
        (["source=x", "word=AB"], "does not match the pattern"),
        (["source=x", "sorce=y"], "the plan 'p' has no variable 'sorce'; the nearest known one is 'source'"),
        (["source"], "is not NAME=VALUE"),
        (["source=x", "source=y"], "given twice"),
    ],
)
def test_an_error_names_the_variable_and_its_declaration(words, sentence):
    with pytest.raises(UsageError) as caught:
        values(*words)
    assert sentence in caught.value.message
    assert caught.value.exit_code == 2
