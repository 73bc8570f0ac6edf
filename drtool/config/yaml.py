"""Strict YAML 1.2: text to plain values, each with its place in the file.

Invariants
    Only `true`/`false` are booleans. `null`/`~`/nothing is null, and `010` is ten. `22:30`, dates, `yes`, `.inf` and `1_000`
    are text.
    Duplicate keys, tags, anchors, aliases, merge keys and a second document are refused, so a file means what it shows.
    Size and depth are checked before any recursion, so no file takes long to read or exhausts the stack.

drtool reads the parser events of ruamel.yaml and resolves scalars on its own: the constructors of ruamel.yaml read dates and
`1_000`, accept tags and merge keys, and obey `%YAML 1.1`.
"""

import re
from collections.abc import Iterator
from typing import Any

from drtool.errors import ConfigError

MAX_DEPTH = 32
MAX_SIZE_BYTES = 256 * 1024
MAX_REFUSED = 20
"""The maximum number of refusals that are reported. A YAML bomb has a hundred thousand."""

Path = tuple[str | int, ...]
"""A path in a document: `("sites", "paris", "nas")`. List items go by index."""

Place = tuple[int, int]
"""Line and column, from 1."""

ParserEvent = Any  # ruamel.yaml's, imported only when a file is read

Value = Any
"""None, bool, int, float, str, list or dict of those."""

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_PREFIXED = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]{1,3})?")
_NULLS = frozenset(("", "~", "null"))


def describe_path(path: Path) -> str:
    """Return a path as people write it: `sources.home.paths[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def scalar(text: str) -> Value:
    """Return the value of an unquoted scalar."""
    if text in _NULLS:
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


class Parsed:
    """One document: its value, and the place of each part."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.value: Value = None
        self.places: dict[Path, Place] = {}
        """The place of each value. A mapping's value has the place of its key."""

    def place(self, path: Path) -> Place:
        """Return the place of `path`, or of its nearest enclosing value."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def error(self, path: Path, message: str, *, hint: str | None = None) -> ConfigError:
        """Return an error about the value at `path`, with file, line and column."""
        return ConfigError(self.sentence(path, message), hint=hint)

    def sentence(self, path: Path, message: str) -> str:
        line, column = self.place(path)
        where = describe_path(path)
        return f"{self.file}:{line}:{column}: {where + ': ' if where else ''}{message}"


def parse(data: bytes, file: str) -> Parsed:
    """Parse one document. Raises ConfigError with file, line and column."""
    if len(data) > MAX_SIZE_BYTES:
        raise ConfigError(f"{file}:1:1: the file has {len(data)} bytes, more than the limit of {MAX_SIZE_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}:1: the file is not UTF-8") from None
    return _Builder(file, text).document()


class _Builder:
    """One walk over the parser's events, with one method for each kind of node."""

    def __init__(self, file: str, text: str) -> None:
        self._parsed = Parsed(file)
        self._refused: list[str] = []
        self._text = text
        self._events: Iterator[Any] = iter(())

    def document(self) -> Parsed:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        self._events = iter(YAML(typ="safe", pure=True).parse(self._text))
        try:
            self._parsed.value = self._whole()
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise self._refusal(place, f"not YAML: {_first_line(error.problem or error.context)}") from None
        except YAMLError as error:
            position = getattr(error, "position", 0)
            line = self._text.count("\n", 0, position) + 1
            raise self._refusal((line, 1), f"not YAML: {_first_line(str(error))}") from None
        if self._refused:
            raise ConfigError(*self._refused)
        return self._parsed

    def _whole(self) -> Value:
        value: Value = None
        documents = 0
        for event in self._events:
            kind = _kind(event)
            if kind == "DocumentStart":
                documents += 1
                self._check_document(event, documents)
                value = self._node(next(self._events), (), None)
        return value

    def _check_document(self, event: ParserEvent, number: int) -> None:
        if number > 1:
            raise self._refusal(_place(event), "a second document begins here; only one is allowed")
        if event.version is not None and tuple(event.version) != (1, 2):
            raise self._refusal(_place(event), "only YAML 1.2 is supported")

    def _node(self, event: ParserEvent, path: Path, place: Place | None) -> Value:
        place = place or _place(event)
        self._parsed.places[path] = place
        kind = _kind(event)
        self._check_node(event, kind, path, place)
        if kind == "Alias":
            return None
        if kind == "Scalar":
            return scalar(event.value) if event.implicit[0] else _joined(event.value)
        return self._sequence(path) if kind == "SequenceStart" else self._mapping(path)

    def _check_node(self, event: ParserEvent, kind: str, path: Path, place: Place) -> None:
        if kind == "Alias" or event.anchor is not None:
            self._refuse(place, "anchors and aliases (& and *) are not supported; write the value out", path)
        if kind != "Alias" and event.ctag is not None:
            self._refuse(place, f"tags (here {event.ctag}) are not supported", path)
        if len(path) > MAX_DEPTH:
            raise self._refusal(place, f"nested deeper than {MAX_DEPTH} levels")

    def _sequence(self, path: Path) -> list[Value]:
        items: list[Value] = []
        while _kind(event := next(self._events)) != "SequenceEnd":
            items.append(self._node(event, (*path, len(items)), None))
        return items

    def _mapping(self, path: Path) -> dict[str, Value]:
        items: dict[str, Value] = {}
        while _kind(event := next(self._events)) != "MappingEnd":
            key = self._key(event, path)
            if key in items:
                first = self._parsed.places[(*path, key)][0]
                self._refuse(_place(event), f"the key {key!r} is given twice (first on line {first})", path)
            items[key] = self._node(next(self._events), (*path, key), _place(event))
        return items

    def _key(self, event: ParserEvent, path: Path) -> str:
        place = _place(event)
        if _kind(event) != "Scalar":
            raise self._refusal(place, "a key must be plain text", path)
        self._check_node(event, "Scalar", path, place)
        if event.value == "<<" and event.implicit[0]:
            self._refuse(place, "merge keys (<<) are not supported; write the keys out", path)
        return _joined(event.value)

    def _refuse(self, place: Place, message: str, path: Path) -> None:
        """Record a refusal and go on, so that all are reported at once. The document is then never returned."""
        self._refused.append(self._refusal(place, message, path).message)
        if len(self._refused) == MAX_REFUSED:
            raise ConfigError(*self._refused, "… and perhaps more")

    def _refusal(self, place: Place, message: str, path: Path = ()) -> ConfigError:
        where = describe_path(path)
        return ConfigError(f"{self._parsed.file}:{place[0]}:{place[1]}: {where + ': ' if where else ''}{message}")


def _joined(text: str) -> str:
    r"""Join surrogate pairs: JSON writes a letter beyond U+FFFF as `"\ud83d\ude00"`, and ruamel.yaml leaves it as two."""
    if not any("\ud800" <= letter <= "\udbff" for letter in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _kind(event: ParserEvent) -> str:
    return type(event).__name__.removesuffix("Event")


def _place(event: ParserEvent) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _first_line(message: object) -> str:
    return str(message).partition("\n")[0]
