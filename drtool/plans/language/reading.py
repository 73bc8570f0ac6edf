"""A plan's files: the file itself and its includes, each with its digest.

Invariants
    The contents of an included file come before those of the including one. A name that two files declare is refused:
    nothing is overridden silently. No file is read twice, so there are no cycles.
    All problems of all files are collected before any is reported.
"""

import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any

from msgspec import Struct

from drtool.config.document import Placeholder, Problem, examine, nearest
from drtool.config.yaml import Parsed, Path, parse
from drtool.errors import ConfigError
from drtool.plans.language.actions import KINDS
from drtool.plans.language.filling import BARE
from drtool.plans.language.model import Digest, FragmentForm, Include, PlanForm
from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.templates import has_holes, parse_template

MAX_FILES = 32
NOT_FILLED = "expressions are not allowed here"
Read = Callable[[FilePath], bytes]
_LISTS = ("preconditions", "steps", "always")


class Complaints:
    """The problems of all files, collected until they are raised."""

    def __init__(self) -> None:
        self._found: list[tuple[Parsed, Problem]] = []
        self._sentences: list[str] = []
        self.hint: str | None = None

    def add(self, parsed: Parsed, path: Path, message: str) -> None:
        problem = Problem(path, message)
        if (parsed, problem) not in self._found:
            self._found.append((parsed, problem))

    def add_sentence(self, sentence: str) -> None:
        """Add a sentence that already names its place."""
        self._sentences.append(sentence)

    def raise_if_any(self) -> None:
        files = list(dict.fromkeys(parsed.file for parsed, _ in self._found))
        ordered = sorted(self._found, key=lambda each: (files.index(each[0].file), each[0].place(each[1].path)))
        sentences = [parsed.sentence(*problem) for parsed, problem in ordered]
        if self._sentences or sentences:
            raise ConfigError(*self._sentences, *sentences, hint=self.hint)


class PlanFile(Struct, frozen=True, kw_only=True):
    """One file: its document, and the form that it was read into."""

    parsed: Parsed
    form: PlanForm | FragmentForm
    digest: Digest


def read_files(path: FilePath, complaints: Complaints, read: Read = FilePath.read_bytes) -> list[PlanFile]:
    """Return the plan's own file first, then its includes in the order of merging."""
    return _Reading(path.parent, complaints, read).files(path)


class _Reading:
    """One plan's files. It keeps track of the files already read, so that none is read twice."""

    def __init__(self, directory: FilePath, complaints: Complaints, read: Read) -> None:
        self._directory = directory
        self._complaints = complaints
        self._read = read
        self._stack: list[str] = []
        self._seen: set[str] = set()

    def files(self, path: FilePath) -> list[PlanFile]:
        return self._file(path, PlanForm, None)

    def _file(self, path: FilePath, kind: type, pin: str | None) -> list[PlanFile]:
        self._seen.add(os.path.realpath(path))
        self._stack.append(os.path.realpath(path))
        try:
            return self._parsed(path, kind, pin, self._read(path))
        except OSError as error:
            self._complaints.add_sentence(f"{path}: cannot be read: {error.strerror}")
        except ConfigError as error:
            for problem in error.problems:
                self._complaints.add_sentence(problem)
        finally:
            self._stack.pop()
        return []

    def _parsed(self, path: FilePath, kind: type, pin: str | None, data: bytes) -> list[PlanFile]:
        parsed = parse(data, os.fspath(path))
        digest = sha256(data).hexdigest()
        if pin is not None and pin != digest:
            self._complaints.add(
                parsed, (), f"the file's SHA-256 is {digest}, but the plan that includes it pins {pin}"
            )
        form = self._form(parsed, kind)
        if form is None:
            return []
        own = PlanFile(parsed=parsed, form=form, digest=Digest(file=self._name(path), sha256=digest))
        included = [file for number, each in enumerate(form.include) for file in self._included(own, number, each)]
        return [own, *included] if kind is PlanForm else [*included, own]

    def _name(self, path: FilePath) -> str:
        return os.path.relpath(path, self._directory)

    def _form(self, parsed: Parsed, kind: type) -> Any:  # noqa: ANN401 - a `kind`, or None
        examined = examine(parsed.value, kind)
        for problem in examined.problems:
            self._complaints.add(parsed, *problem)
        for path, step in raw_steps(parsed.value):
            for problem in _with_problems(step, path):
                self._complaints.add(parsed, *problem)
        return examined.value

    def _included(self, own: PlanFile, number: int, include: Include) -> list[PlanFile]:
        path = FilePath(own.parsed.file).parent / include.file
        problem = self._refusal(path, include)
        if problem:
            self._complaints.add(own.parsed, ("include", number), problem)
            return []
        return self._file(path, FragmentForm, include.sha256)

    def _refusal(self, path: FilePath, include: Include) -> str:
        place = os.path.realpath(path)
        if os.path.isabs(include.file):
            return f"{include.file!r} must be relative to the file that includes it"
        if leaves_directory(self._name(path)):
            return f"{include.file!r} must be in the plan's directory or below it"
        if place in self._stack:
            return f"{include.file!r} includes itself, directly or through other files"
        if place in self._seen:
            return f"{include.file!r} is included twice"
        return f"a plan has at most {MAX_FILES} files" if len(self._seen) >= MAX_FILES else ""


def leaves_directory(name: str) -> bool:
    """Return whether a relative path leads outside its directory. A run stores its plan's files under these paths."""
    return os.path.isabs(name) or os.path.normpath(name).split("/")[0] == ".."


def raw_steps(document: Any) -> Iterator[tuple[Path, dict[str, Any]]]:  # noqa: ANN401 - any document
    """Yield every mapping in a document at a place for a step, including nested ones, with its path."""
    if not isinstance(document, dict):
        return
    for key in _LISTS:
        yield from _raw_list(document.get(key), (key,))
    steady = document.get("steady_state")
    if isinstance(steady, dict):
        yield from _raw_list(steady.get("probes"), ("steady_state", "probes"))


def _raw_list(items: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:  # noqa: ANN401
    for number, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield from _raw_step(item, (*path, number))


def _raw_step(step: dict[str, Any], path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    yield path, step
    undo = step.get("compensate")
    if isinstance(undo, dict):
        yield from _raw_step(undo, (*path, "compensate"))
    yield from _raw_list(undo, (*path, "compensate"))
    if isinstance(step.get("confirm"), dict):
        yield from _raw_step(step["confirm"], (*path, "confirm"))


def _with_problems(step: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Yield the mismatches between `with` and `uses` that do not depend on the values of expressions."""
    uses, inputs = step.get("uses"), step.get("with", {})
    if not isinstance(uses, str) or not isinstance(inputs, dict):
        return
    if uses not in KINDS:
        yield Problem((*path, "uses"), f"unknown uses {uses!r}{nearest(uses, KINDS)}")
        return
    place = (*path, "with") if "with" in step else path
    problems: list[Problem] = []
    standing = {
        key: value if (uses, key) in BARE else _standing(value, (*place, key), problems)
        for key, value in inputs.items()
    }
    yield from problems
    yield from examine(standing, KINDS[uses], place).problems


def _standing(value: Any, path: Path, problems: list[Problem]) -> Any:  # noqa: ANN401
    """Return the document with a placeholder for each text that contains expressions."""
    if isinstance(value, dict):
        problems += [Problem((*path, key), NOT_FILLED) for key in value if has_holes(key)]
        return {key: _standing(item, (*path, key), problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_standing(item, (*path, number), problems) for number, item in enumerate(value)]
    if not isinstance(value, str) or not has_holes(value):
        return value
    try:
        parse_template(value)
    except ExpressionError as error:
        problems.append(Problem(path, f"{error.message} (in {value!r})"))
    return Placeholder(f"‹{value}›", frozenset())
