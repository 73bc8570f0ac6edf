"""Typed documents: all problems at once, each with its place and the nearest name."""

from typing import Annotated, Any, Literal

import msgspec
import pytest

from drtool.config.document import LATER, convert, load_document, read_as
from drtool.config.yaml import parse
from drtool.errors import ConfigError


def digits(text: object) -> int:
    if not str(text).isdigit():
        raise ValueError(f"not digits: {text!r}")
    return int(str(text)) * 10


class Wait(msgspec.Struct, frozen=True, tag_field="uses", tag="wait"):
    seconds: Annotated[int, msgspec.Meta(ge=1)]


class Say(msgspec.Struct, frozen=True, tag_field="uses", tag="say"):
    words: tuple[str, ...] = ()


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    size: Annotated[int | None, read_as(lambda text: text and digits(text))] = None
    steps: tuple[Wait | Say, ...] = ()
    limit: Annotated[int, msgspec.Meta(ge=1)] | Literal["auto"] = "auto"
    weights: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    future: Annotated[Any, LATER] = None
    low: int = 0
    high: int = 9

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is more than high {self.high}")


def read(text: str) -> Sample:
    return convert(parse(text.encode(), "f.yaml"), Sample)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value.message.splitlines()


def test_a_good_document_is_a_frozen_value():
    assert read("name: a\nsize: 4k".replace("4k", "4")) == Sample(name="a", size=40)
    text = "{name: a, steps: [{uses: wait, seconds: 3}, {uses: say, words: [x]}], limit: 5}"
    assert read(text).steps == (Wait(3), Say(("x",)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nme: a\nname: b", "f.yaml:1:1: nme: unknown key 'nme'; the nearest known one is 'name'"),
        ("{name: 3}", "f.yaml:1:2: name: expected text, got a whole number: 3"),
        ("{name: a, limit: no}", "f.yaml:1:11: limit: "),
        ("{name: a, weights: {x: 0}}", "f.yaml:1:21: weights.x: expected a whole number >= 1"),
        ("{name: a, size: many}", "f.yaml:1:11: size: not digits: 'many'"),
        ("{name: a, low: 5, high: 2}", "f.yaml:1:1: low 5 is more than high 2"),
        ("{low: 1}", "f.yaml:1:1: the key 'name' is missing"),
        ("{name: a, future: 1}", "f.yaml:1:11: future: not built yet"),
        (
            "{name: a, steps: [{uses: wiat}]}",
            "f.yaml:1:20: steps[0].uses: unknown uses 'wiat'; the nearest known one is 'wait'",
        ),
        ("{name: a, steps: [{uses: say, secs: 1}]}", "f.yaml:1:31: steps[0].secs: unknown key 'secs'"),
        ("{name: a, steps: {uses: say}}", "f.yaml:1:11: steps: expected a list, got a mapping"),
        ("- a", "f.yaml:1:1: expected a mapping, got a list"),
        ("", "f.yaml:1:1: expected a mapping, got nothing"),
    ],
)
def test_a_problem_names_its_place(text, sentence):
    assert problems(text)[0].startswith(sentence)


def test_all_problems_come_at_once_in_the_order_of_the_file():
    found = problems("name: 1\nzzz: 1\nlimit: []\nfuture: 2\nweights: {a: x}\n")
    assert [line.split(":")[1] for line in found] == ["1", "2", "3", "4", "5"]


def test_a_missing_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_document(tmp_path / "none.yaml", Sample)
