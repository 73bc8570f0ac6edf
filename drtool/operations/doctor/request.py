"""What doctor is to look at; handed in by the command line, which alone reads the environment."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from drtool.config.schema import SourceConfig
from drtool.repository.spec import RepositorySpec, TargetSpec


class ConfigProblem(Struct, frozen=True, kw_only=True):
    """What is wrong with the configuration; `where` is the file, with line and column where they are known."""

    where: str
    message: str
    hint: str | None = None


class PasswordSource(Struct, frozen=True, kw_only=True):
    """Where the password comes from, in words; `file`, if it is one; and why none could be had."""

    told: str
    file: Path | None = None
    problem: str | None = None
    hint: str | None = None


class DoctorRequest(Struct, frozen=True, kw_only=True):
    """`spec` is None where there is no password, or no target: then the catalogue is not looked at."""

    config_path: Path | None
    config_problems: tuple[ConfigProblem, ...]
    targets: tuple[TargetSpec, ...]
    sources: tuple[tuple[str, Path], ...]
    """Each source's name with each of its paths."""
    directories: tuple[tuple[str, Path], ...]
    """What drtool writes on this host: what it is for, and where."""
    password: PasswordSource
    programs: tuple[tuple[str, str], ...]
    """A program that the configuration needs, and what for."""
    has_agent: bool
    """Whether an SSH agent is offered to this process."""
    home: Path
    spec: RepositorySpec | None
    read_only: bool = False
    captures: tuple[tuple[str, SourceConfig], ...] = ()
    """Sources that are more than files."""
    beside: Path = Path()
    """The directory of the configuration."""
    environ: Mapping[str, str] = {}
    """What programs that a source runs inherit."""
