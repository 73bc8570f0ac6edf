"""The plans in a directory, and the lookup of a plan by id or file name.

Invariants
    A broken plan is listed with its error. It hides neither other plans nor the command that lists them.
    A plan found in the directory, and every file it includes, passed `check_trusted`.
"""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from drtool.config import nearest
from drtool.config.trust import Trust, check_trusted
from drtool.config.yaml import parse
from drtool.errors import ConfigError, UsageError
from drtool.plans.language.loading import load_plan
from drtool.plans.language.model import Plan
from drtool.plans.language.reading import Read

SUFFIXES = (".yaml", ".yml")


class Listed(Struct, frozen=True, kw_only=True):
    """One file of a directory: its plan, or its error."""

    file: Path
    plan: Plan | None
    error: str = ""

    @property
    def id(self) -> str:
        return self.plan.id if self.plan is not None else self.file.stem


def list_plans(directory: Path, trust: Trust) -> tuple[Listed, ...]:
    """Return every plan in a directory, by file name, without files that are only for inclusion. Raises UsageError."""
    return tuple(_listed(file, trust) for file in plan_files(directory))


def read_trusted(trust: Trust) -> Read:
    """Return a reader of plan files that refuses what an untrusted user could have written."""

    def read(path: Path) -> bytes:
        try:
            check_trusted(path, "plan", trust)
        except ConfigError as error:
            raise ConfigError(f"{error.message}; {error.hint}") from None
        return path.read_bytes()

    return read


def plan_files(directory: Path) -> tuple[Path, ...]:
    try:
        names = sorted(file for file in directory.iterdir() if file.suffix in SUFFIXES and file.is_file())
    except OSError as error:
        raise UsageError(f"the directory of plans {directory} cannot be read: {error.strerror}") from None
    return tuple(file for file in names if not file.name.startswith(".") and not _is_fragment(file))


def _listed(file: Path, trust: Trust) -> Listed:
    try:
        return Listed(file=file, plan=load_plan(file, read_trusted(trust)))
    except ConfigError as error:
        return Listed(file=file, plan=None, error=error.message)


def _is_fragment(file: Path) -> bool:
    """Return whether a file is only for inclusion: it has parts of a plan, but no id."""
    try:
        value = parse(file.read_bytes(), str(file)).value
    except (OSError, ConfigError):
        return False  # it is listed as broken
    return isinstance(value, dict) and "id" not in value and "version" in value


def find_plan(word: str, here: Path, directory: Path | None) -> Path:
    """Return the file of a plan: `word` is a path, or the id of a plan in the plans directory. Raises UsageError."""
    path = here / word
    if "/" in word or path.suffix in SUFFIXES:
        return path
    if directory is None:
        raise UsageError(
            f"there is no plan {word!r}: no directory of plans is configured",
            hint="name the file, as in ./drill.yaml, or set `plans: DIRECTORY` in the configuration",
        )
    found = _with_id(word, directory)
    if len(found) > 1:
        raise UsageError(f"several plans have the id {word!r}: {', '.join(str(file) for file in found)}")
    if not found:
        known = [*_ids(directory)]
        raise UsageError(f"there is no plan {word!r} in {directory}{nearest(word, known)}", hint="drtool plan list")
    return found[0]


def _with_id(word: str, directory: Path) -> list[Path]:
    """Return the plans with this id. A file that cannot be parsed goes by its file name."""
    return [file for file in plan_files(directory) if _id_of(file) == word]


def _ids(directory: Path) -> Iterator[str]:
    return (_id_of(file) for file in plan_files(directory))


def _id_of(file: Path) -> str:
    try:
        value = parse(file.read_bytes(), str(file)).value
    except (OSError, ConfigError):
        return file.stem
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str) else file.stem
