"""Strict YAML 1.2: a file means what it shows."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drtool.config.yaml import MAX_DEPTH, MAX_SIZE_BYTES, describe_path, parse
from drtool.errors import ConfigError


def value(text: str):
    return parse(text.encode(), "f.yaml").value


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("true", True),
        ("false", False),
        ("yes", "yes"),
        ("on", "on"),
        ("True", "True"),
        ("null", None),
        ("~", None),
        ("", None),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", ".inf"),
        ("22:30", "22:30"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T22:30:00Z", "2026-01-31T22:30:00Z"),
        ("9" * 5000, "9" * 5000),
        ("'true'", "true"),
        ('"7"', "7"),
    ],
)
def test_a_scalar_means(text, meant):
    found = value(f"key: {text}")["key"]
    assert (type(found), found) == (type(meant), meant)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "twice (first on line 1)"),
        ("a: &x 1", 1, "anchors"),
        ("a: 1\nb: *a", 2, "anchors"),
        ("a: !!str 1", 1, "tags"),
        ("a: !python/object:os.system x", 1, "tags"),
        ("a: {<<: {b: 1}}", 1, "merge keys"),
        ("? [1]\n: 2", 1, "plain text"),
        ("%YAML 1.1\n---\na: yes", 2, "YAML 1.2"),
        ("---\na: 1\n---\nb: 2", 3, "second document"),
        ("a: [1, 2", 1, "not YAML"),
        ("a:\n\t- b", 2, "not YAML"),
        ("a: \x00", 1, "not YAML"),
        ("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), 1, "deeper"),
    ],
)
def test_refused_with_its_line(text, line, words):
    with pytest.raises(ConfigError, match=r"f\.yaml") as caught:
        value(text)
    assert caught.value.message.startswith(f"f.yaml:{line}:")
    assert words in caught.value.message
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_utf8_is_refused_with_its_line():
    with pytest.raises(ConfigError, match=r"f\.yaml:2:1: the file is not UTF-8"):
        parse(b"a: 1\nb: \xff", "f.yaml")


def test_a_huge_file_is_refused_unread():
    with pytest.raises(ConfigError, match="more than the limit"):
        parse(b" " * (MAX_SIZE_BYTES + 1), "f.yaml")


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 50_000, "- " * 100_000])
def test_a_bomb_takes_no_time(text):
    before = time.process_time()
    with pytest.raises(ConfigError):
        value(text)
    assert time.process_time() - before < 5


def test_each_value_has_its_place():
    parsed = parse(b"a:\n  b:\n    - x\n    -   y\n", "f.yaml")
    assert parsed.place(("a", "b", 1)) == (4, 9)
    assert parsed.place(("a", "b", 7)) == (2, 3)
    assert describe_path(("a", "b", 1)) == "a.b[1]"


plain = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Co", "Cn")), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=10,
)


@given(values)
@example({"": [None, {"a": "\u2028"}]})
def test_json_is_read_with_its_own_meaning(document):
    assert value(json.dumps(document)) == document


def test_all_unsupported_parts_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        value("a: &x 1\nb: !!str 2\nc: *x\nd: {<<: {e: 1}}\na: 3\n")
    told = caught.value.message.splitlines()
    assert [line.split(":")[1] for line in told] == ["1", "2", "3", "4", "5"]
    with pytest.raises(ConfigError, match="perhaps more"):
        value("a: [" + "&x 1, " * 1000 + "]")
