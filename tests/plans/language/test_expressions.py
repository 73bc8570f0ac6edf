"""Expressions: their values and errors, and that no text can make them misbehave."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.plans.language.evaluating import Context, Names, evaluate, truth
from drtool.plans.language.parsing import MAX_DEPTH, MAX_LENGTH, MAX_OPERATORS, ExpressionError, parse_expression
from drtool.plans.language.syntax import (
    Attribute,
    Binary,
    Call,
    Expression,
    Index,
    ListOf,
    Literal,
    Name,
    Unary,
    printed,
)
from drtool.plans.language.templates import bare, parse_template
from drtool.plans.language.values import Bytes, Moment, Seconds, Unknown

NOON = Moment(1_767_268_800 * 10**9)
LATER = frozenset({"fetch"})
CONTEXT = Context(
    roots=Names(
        "name",
        {
            "vars": Names("variable", {"n": 3, "name": "home", "yes": True, "at": NOON, "none": None, "big": Bytes(5 << 30)}),
            "steps": Names(
                "step",
                {
                    "fetch": {"outputs": Unknown(LATER)},
                    "count": {"outputs": {"files": Unknown(frozenset({"count"}), "number"), "paths": ("b", "a")}},
                },
            ),
            "objectives": Names("objective", {"rpo": Seconds(86400.0)}, {"rto": "the plan sets no objective 'rto'"}),
        },
    ),
    now=NOON,
    statuses={
        "fetch": ("passed",), "count": Unknown(frozenset({"count"}), "bool"), "many": ("passed", "failed"),
        "away": ("skipped",), "odd": ("unproven",), "gone": ("tolerated",),
    },
    needs=("fetch", "away"),
)  # fmt: skip


def worth(text: str):
    return evaluate(parse_expression(text), CONTEXT)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 - 4", -1),
        ("1 - 2 - 3", -4),
        ("1.5 + 1", 2.5),
        ("-vars.n", -3),
        ("010 == 10", True),
        ("'it\\'s' == \"it's\"", True),
        ("vars['name']", "home"),
        ("steps.count.outputs.paths[1]", "a"),
        ("not vars.yes or true", True),
        ("not (vars.yes or true)", False),
        ("not vars.n == 3", False),
        ("vars.n < 4 and vars.n >= 3", True),
        ("24h == 1d", True),
        ("1h30m > 90s", True),
        ("1h - 90m", Seconds(-1800.0)),
        ("5GiB == vars.big", True),
        ("1GiB + 1GB", Bytes(2**30 + 10**9)),
        ("vars.at + 1h > now()", True),
        ("vars.at - now()", Seconds(0.0)),
        ("age('2026-01-01T00:00:00Z', vars.at) == 12h", True),
        ("age(vars.at, '2026-01-01T13:00:00+01:00') <= objectives.rpo", True),
        ("'a' in steps.count.outputs.paths", True),
        ("'om' in vars.name", True),
        ("'c' not in ['a', 'b']", True),
        ("vars.none == null", True),
        ("vars.n != null", True),
        ("default(vars.none, 7)", 7),
        ("default(vars.n, 7)", 3),
        ("len(vars.name) + len([1, 2])", 6),
        ("same_set(['a', 'b', 'b'], steps.count.outputs.paths)", True),
        ("same_set([1], [])", False),
        ("same_set([1], ['1'])", False),
        ("success()", True),
        ("always()", True),
        ("failed('many')", True),
        ("failed('odd')", False),
        ("failed('gone')", False),
        ("ran('away')", False),
        ("ran('odd')", True),
        ("false and steps.fetch.outputs.files", False),
        ("true or failed('count')", True),
    ],
)
def test_worth(text, value):
    assert worth(text) == value


@pytest.mark.parametrize(
    ("text", "needs", "kind"),
    [
        ("steps.fetch.outputs.files", {"fetch"}, "any"),
        ("steps.count.outputs.files + 1", {"count"}, "number"),
        ("steps.count.outputs.files > 1 and true", {"count"}, "bool"),
        ("steps.fetch.outputs.a == steps.count.outputs.files", {"fetch", "count"}, "bool"),
        ("not failed('count')", {"count"}, "bool"),
        ("len(steps.fetch.outputs.a)", {"fetch"}, "number"),
        ("[steps.fetch.outputs.a, 1]", {"fetch"}, "list"),
        ("age(steps.fetch.outputs.a, now())", {"fetch"}, "duration"),
        ("same_set(steps.fetch.outputs.a, [])", {"fetch"}, "bool"),
    ],
)
def test_an_unknown_value_has_its_needs_and_kind(text, needs, kind):
    assert worth(text) == Unknown(frozenset(needs), kind)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vars.nme", "there is no variable 'nme'; the nearest known one is 'name'"),
        ("var.n", "there is no name 'var'; the nearest known one is 'vars'"),
        ("objectives.rto", "sets no objective 'rto'"),
        ("faild('x')", "unknown function 'faild'; the nearest known one is 'failed'"),
        ("failed('nope')", "there is no step 'nope'"),
        ("failed(fetch)", "there is no name 'fetch'"),
        ("failed(1)", "the id of a step in quotes"),
        ("1 == '1'", "a number and text are never equal"),
        ("24h > 3", "cannot be applied to a duration and a number"),
        ("24h == 1GiB", "because their kinds differ"),
        ("vars.at + 3", "cannot be applied to a timestamp and a number"),
        ("'a' + 'b'", "cannot be applied to text and text"),
        ("vars.yes < true", "cannot be applied to"),
        ("steps.count.outputs.files > 24h", "cannot be applied to a number and a duration"),
        ("vars.n and true", "`and` needs true or false, but this is a number"),
        ("not 3", "`not` needs true or false"),
        ("-'a'", "cannot be made negative"),
        ("[1][1]", "there is no item 1"),
        ("[1]['x']", "indexed by a whole number"),
        ("vars.n.x", "a number has no named parts"),
        ("1 in 2", "needs a list or a text"),
        ("len(3)", "needs a list or a text"),
        ("age(3, now())", "needs timestamps"),
        ("age('yesterday', now())", "not a time"),
        ("same_set('a', [])", "needs lists"),
        ("now(1)", "write now()"),
        ("age(now())", "write age(earlier, later)"),
        ("vars.at + 36500d + 36500d" + " + 36500d" * 90, "outside the calendar"),
    ],
)
def test_a_meaningless_expression_is_refused_with_the_reason(text, words):
    with pytest.raises(ExpressionError) as caught:
        worth(text)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("", 0, "missing"),
        ("   ", 0, "missing"),
        ("1 +", 3, "ends too soon"),
        ("1 2", 2, "an operator is missing"),
        ("1 < 2 < 3", 6, "do not chain"),
        ("1 < 2 == true", 6, "do not chain"),
        ("a = b", 2, "compare with =="),
        ("a && b", 2, "write and, or, not"),
        ("'abc", 0, "never closed"),
        ("'a\\qb'", 0, "is not an escape sequence"),
        ("f(1, 2", 6, "expected ','"),
        ("f(,)", 2, "a value is missing"),
        ("a.1", 2, "must follow the dot"),
        ("a.", 2, "must follow the dot"),
        ("3parsecs", 0, "not a duration"),
        ("9" * 19, 0, "too many digits"),
        ("a @ b", 2, "has no meaning"),
        ("__import__('os')", None, None),
        ("(" * 500, MAX_DEPTH, "deeper"),
        ("not " * 300 + "a", 4 * MAX_DEPTH, "deeper"),
        ("a" + ".b" * 300, None, "deeper"),
        ("x" * (MAX_LENGTH + 1), 0, "at most"),
    ],
)
def test_a_syntax_error_has_its_position(text, at, words):
    if words is None:
        with pytest.raises(ExpressionError, match="unknown function"):
            worth(text)
        return
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert words in caught.value.message
    assert at is None or caught.value.at == at


def test_a_condition_must_be_true_or_false():
    assert truth(parse_expression("vars.yes"), CONTEXT) is True
    assert truth(parse_expression("steps.fetch.outputs.x"), CONTEXT) == Unknown(LATER)
    with pytest.raises(ExpressionError, match="expected true or false, but this is a number"):
        truth(parse_expression("vars.n"), CONTEXT)


names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True).filter(
    lambda name: name not in {"and", "or", "not", "in", "true", "false", "null"}
)
constants = (
    st.none()
    | st.booleans()
    | st.integers(0, 10**17)
    | st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=8)
)
leaves = (
    constants.map(Literal)
    | names.map(Name)
    | st.sampled_from(["24h", "1h30m", "5GiB"]).map(lambda text: parse_expression(text).root)
)
operators = st.sampled_from(["and", "or", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "+", "-"])
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Attribute, inner, names),
        st.builds(Index, inner, inner),
        st.builds(lambda name, items: Call(name, tuple(items)), names, st.lists(inner, max_size=3)),
        st.builds(lambda items: ListOf(tuple(items)), st.lists(inner, max_size=3)),
        st.builds(Unary, st.sampled_from(["not", "-"]), inner),
        st.builds(Binary, operators, inner, inner),
    ),
    max_leaves=8,
)


@given(trees)
@settings(max_examples=sample(400), deadline=None)
def test_printed_text_parses_to_the_same_tree(tree):
    text = printed(tree)
    assert parse_expression(text) == Expression(text, tree)
    assert printed(parse_expression(text).root) == text


FRAGMENTS = """
vars steps fetch outputs now ( ) [ ] . , + - == <= not in and or 'x' "y" 24h 5GiB 1 2.5 null true failed age len ${{ }} $ \\ é
"""
WORDS = st.sampled_from(FRAGMENTS.split())


@given(st.text(max_size=60) | st.lists(WORDS, max_size=40).map(" ".join) | st.lists(WORDS, max_size=40).map("".join))
@settings(max_examples=sample(600), deadline=None)
def test_no_text_makes_anything_but_a_value_or_our_error(text):
    before = time.process_time()
    try:
        worth(text)
        parse_template(text)
        truth(bare(text), CONTEXT)
    except ExpressionError:
        pass
    except ValueError as error:
        if "expected a single expression" not in str(error):
            raise
    assert time.process_time() - before < 2


@pytest.mark.parametrize("part", ["(", "[", "-", "not ", "a.", "f(", "1+", "'", "a[", "1 in ", "${{"])
def test_long_texts_take_no_time(part):
    before = time.process_time()
    for length in (MAX_LENGTH, MAX_LENGTH - 1):
        with pytest.raises(ExpressionError):
            parse_expression((part * MAX_LENGTH)[:length])
    with pytest.raises(ExpressionError):
        parse_expression(part * 100_000)
    assert time.process_time() - before < 1


def test_the_longest_chain_is_still_evaluated_and_printed():
    text = " + ".join(["1"] * (MAX_OPERATORS + 1))
    assert worth(text) == MAX_OPERATORS + 1
    assert printed(parse_expression(text).root) == text


def parts(text: str) -> list[object]:
    return [part if isinstance(part, str) else part.expression.text for part in parse_template(text).parts]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain", ["plain"]),
        ("", [""]),
        ("a-${{ vars.b }}-c", ["a-", "vars.b", "-c"]),
        ("${{a}}${{ b }}", ["a", "b"]),
        ("$${{ not this }} ${{ this }}", ["${{ not this }} ", "this"]),
        ("${{ '}}' }}", ["'}}'"]),
        ("}} { $", ["}} { $"]),
    ],
)
def test_text_with_holes(text, found):
    assert parts(text) == found


def test_only_one_whole_expression_keeps_its_type():
    assert parse_template("${{ a }}").whole is not None
    assert parse_template(" ${{ a }}").whole is None
    with pytest.raises(ExpressionError) as caught:
        parse_template("ab ${{ 1 + }}")
    assert caught.value.at == 11
    with pytest.raises(ExpressionError, match="never closed by"):
        parse_template("${{ 'a }}")


def test_a_bare_expression_may_be_wrapped_as_a_whole():
    assert bare("vars.a") == bare("${{ vars.a }}") == bare(" ${{ vars.a }} ")
    assert bare(True) == bare("true")
    for wrong in ("x ${{ vars.a }}", 3, None, ["a"]):
        with pytest.raises(ValueError, match="expected a single expression"):
            bare(wrong)
