"""Conversion of a YAML file to a typed, frozen value. Errors give file, line, column, path and the nearest known name.

Used for the configuration and for plans. Types are msgspec Structs. A field marked `LATER` is known but refused.

Invariants
    All problems of a file are reported at once, in the order of the file.
    An unknown key of a mapping is an error, whatever the struct's own `forbid_unknown_fields` is.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path as FilePath
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from drtool.config.yaml import Parsed, Path, Value, parse
from drtool.errors import ConfigError

T = TypeVar("T")
TypeForm = Any
"""A type for msgspec: a class, `int | None`, `dict[str, X]`, `Annotated[…]`. typing has no common name for these yet."""

LATER = msgspec.Meta(extra={"later": True})
"""Marks a key that the contract names and this version refuses: `Annotated[Any, LATER]`."""


def read_as(read: Callable[[Any], Any]) -> msgspec.Meta:
    """Mark a value with its own text form: `Annotated[int, read_as(size_of)]`. `read` raises ValueError."""
    return msgspec.Meta(extra={"read": read})


def load_document(path: FilePath, kind: type[T]) -> T:
    """Read a file as a `kind`. Raises ConfigError, also if the file is unreadable."""
    return convert(read_document(path), kind)


def read_document(path: FilePath) -> Parsed:
    """Return a file's plain value with the place of each part, for callers with checks beyond types."""
    try:
        return parse(path.read_bytes(), os.fspath(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def convert(document: Parsed, kind: type[T]) -> T:
    """Convert a document to a `kind`. Raises one ConfigError that lists every problem."""
    examined = examine(document.value, kind)
    if examined.problems:
        problems = sorted(examined.problems, key=lambda problem: document.place(problem.path))
        sentences = [document.sentence(path, message) for path, message in problems]
        raise ConfigError(*sentences, hint=examined.hint)
    return cast("T", examined.value)


class Problem(NamedTuple):
    """An error, and its path in the document."""

    path: Path
    message: str


class Examined(NamedTuple):
    """A value of the requested type, or the problems."""

    value: Any
    problems: tuple[Problem, ...]
    hint: str | None


def examine(value: Value, kind: TypeForm, at: Path = ()) -> Examined:
    """Convert a value at path `at` to a `kind`, or return all its problems."""
    checker = _Checker()
    visited = checker.visit(value, kind, at)
    if checker.problems:
        return Examined(None, tuple(checker.problems), checker.hint)
    return Examined(msgspec.convert(visited, kind), (), None)


class Placeholder(str):  # noqa: SLOT000 - a text cannot have slots with something in them
    """A stand-in for a value that is not known yet.

    It fits where a text or a list of texts is allowed. A number falls back to the field's default. Words from a fixed set must
    be written out.
    """

    needs: frozenset[str]
    """The steps that must run first."""
    several: bool | None
    """Whether it will be a list. None: unknown."""

    def __new__(cls, text: str, needs: frozenset[str], *, several: bool | None = None) -> Self:
        made = super().__new__(cls, text)
        made.needs = needs
        made.several = several
        return made


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; the nearest known one is 'x'`, or all known words if none is near."""
    import difflib  # takes 10 ms, and is needed only for errors

    names = sorted(known)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    if close:
        return f"; the nearest known one is {close[0]!r}"
    return f"; known are {', '.join(names)}" if names else ""


class _Checker:
    """A walk over a value and its type. It collects problems instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.hint: str | None = None

    def visit(self, value: Value, kind: TypeForm, path: Path) -> Value:
        """Return `value` prepared for msgspec.convert. Problems are recorded, never raised."""
        limited, (kind, reads) = kind, _bare(kind)
        if isinstance(value, Placeholder):
            return self._placeholder(value, kind, path, read=bool(reads))
        for read in reads:
            value = self._read(value, read, path)
        kind = self._member(value, kind, path)
        arguments = get_args(kind)
        if _is_struct(kind) and isinstance(value, dict):
            return self._struct(value, kind, path)
        if _origin(kind) is dict and isinstance(value, dict):
            return self._mapping(value, arguments, path)
        if _origin(kind) in (list, tuple) and isinstance(value, list) and arguments[1:] in ((), (...,)):
            return self._list(value, arguments[0], limited, path)
        return self._leaf(value, kind, path)

    def _list(self, value: list[Value], item: TypeForm, limited: TypeForm, path: Path) -> Value:
        before = len(self.problems)
        items = [self.visit(each, item, (*path, index)) for index, each in enumerate(value)]
        if _metas(limited) and len(self.problems) == before:
            self._leaf(items, limited, path)  # checks the length
        return items

    def _mapping(self, value: dict[str, Value], arguments: tuple[TypeForm, ...], path: Path) -> Value:
        for key in value:
            self._leaf(key, arguments[0], (*path, key))
        return {key: self.visit(item, arguments[1], (*path, key)) for key, item in value.items()}

    def _placeholder(self, value: Placeholder, kind: TypeForm, path: Path, *, read: bool) -> Value:
        members = [_bare(member)[0] for member in _members(kind)]
        plain = [get_args(member)[0] if _origin(member) is Annotated else member for member in members]
        if any(_origin(member) in (list, tuple) and get_args(member)[0] is str for member in plain):
            return [value]
        if str in plain:
            if value.several:
                self._problem(path, "expected text, but this is a list")
            return value
        if not set(plain) & {int, float} and not read:
            self._problem(path, "must be written out; expressions are not allowed here")
        return _DROPPED

    def _read(self, value: Value, read: Callable[[Any], Any], path: Path) -> Value:
        try:
            return read(value)
        except ValueError as error:
            self._problem(path, str(error))
            return value

    def _member(self, value: Value, kind: TypeForm, path: Path) -> TypeForm:
        """Return the union member that a mapping or list stands for, or the union if msgspec can decide."""
        if _origin(kind) not in (Union, UnionType) or not isinstance(value, dict | list):
            return kind
        members = [_bare(member)[0] for member in get_args(kind)]
        structs = [member for member in members if _is_struct(member)]
        if isinstance(value, dict) and len(structs) > 1:
            return self._tagged(value, structs, path) or kind
        if isinstance(value, dict) and structs:
            return structs[0]
        wanted = (dict,) if isinstance(value, dict) else (list, tuple)
        return next((member for member in members if _origin(member) in wanted), kind)

    def _tagged(self, value: dict[str, Value], structs: list[TypeForm], path: Path) -> TypeForm:
        field = structs[0].__struct_config__.tag_field
        known = {str(struct.__struct_config__.tag): struct for struct in structs}
        tag = value.get(field)
        if isinstance(tag, str) and tag not in known:
            self._problem((*path, field), f"unknown {field} {tag!r}{nearest(tag, known)}")
            return Any
        return known.get(tag) if isinstance(tag, str) else None

    def _struct(self, value: dict[str, Value], kind: TypeForm, path: Path) -> Value:
        before = len(self.problems)
        known = {field.encode_name: field for field in fields(kind)}
        tag_field = kind.__struct_config__.tag_field
        names = (*known, tag_field) if tag_field else tuple(known)
        result = {}
        for key, item in value.items():
            if key in known:
                visited = self._field(item, known[key], (*path, key))
                if visited is not _DROPPED:
                    result[key] = visited
            elif key == tag_field:
                result[key] = item
            else:
                self._problem((*path, key), f"unknown key {key!r}{nearest(key, names)}")
        for name, field in known.items():
            if field.required and name not in value and not self._refused_below(path):
                self._problem(path, f"the key {name!r} is missing")
        if len(self.problems) == before:
            self._leaf(result, kind, path)  # a struct's own __post_init__ may refuse a combination of good fields
        return result

    def _refused_below(self, path: Path) -> bool:
        """Return whether a problem exists below `path`: a key refused as not built may replace a missing one."""
        return any(problem[0][: len(path)] == path for problem in self.problems)

    def _field(self, value: Value, field: FieldInfo, path: Path) -> Value:
        if any((meta.extra or {}).get("later") for meta in _metas(field.type)):
            self.hint = "remove it; drtool refuses settings that it cannot honour yet"
            self._problem(path, "not built yet in this version")
            return value
        return self.visit(value, field.type, path)

    def _leaf(self, value: Value, kind: TypeForm, path: Path) -> Value:
        before = len(self.problems)
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            if len(self.problems) == before and path not in [problem[0] for problem in self.problems]:
                self._problem(path, _choice(kind, value) or _plain(error, value))
        return value

    def _problem(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path, message))


def _metas(kind: TypeForm) -> list[msgspec.Meta]:
    return [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]


def _bare(kind: TypeForm) -> tuple[TypeForm, list[Callable[[Any], Any]]]:
    """Return a type without our marks, and their readers. Other limits stay for msgspec to check."""
    readers = [meta.extra["read"] for meta in _metas(kind) if meta.extra and "read" in meta.extra]
    while _origin(kind) is Annotated and (readers or _is_container(get_args(kind)[0])):
        kind = get_args(kind)[0]
    return kind, readers


def _origin(kind: TypeForm) -> object:
    return get_origin(kind)


def _members(kind: TypeForm) -> tuple[TypeForm, ...]:
    return get_args(kind) if _origin(kind) in (Union, UnionType) else (kind,)


def _is_container(kind: TypeForm) -> bool:
    return _is_struct(kind) or _origin(kind) in (dict, list, tuple, Union, UnionType)


def _is_struct(kind: TypeForm) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _choice(kind: TypeForm, value: Value) -> str:
    """Return a suggestion if one of a few words was expected, else an empty string."""
    known = [word for member in _members(kind) if _origin(member) is Literal for word in get_args(member)]
    if not known or not isinstance(value, str) or not all(isinstance(word, str) for word in known):
        return ""
    words = known[0] if len(known) == 1 else f"{', '.join(known[:-1])} or {known[-1]}"
    near = nearest(value, known)
    return f"expected {words}, not {value!r}{near if 'nearest' in near else ''}"


def _plain(error: msgspec.ValidationError, value: Value) -> str:
    """Return msgspec's error in plain words, without its path, and with the given value."""
    message = str(error).partition(" - at `")[0].replace("`", "")
    message = message[:1].lower() + message[1:]
    message = " ".join(_WORDS.get(word, word) for word in message.replace(",", " ,").split(" ")).replace(" ,", ",")
    return message if isinstance(value, dict | list) or value is None else f"{message}: {_shown(value)}"


_DROPPED: Any = object()
"""A field that keeps its default."""

_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "bool": "true or false",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "null": "nothing",
}


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
