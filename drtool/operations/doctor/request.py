"""The request of `doctor`. The command line fills it in, since only it reads the environment."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from drtool.config.schema import SourceConfig
from drtool.repository.spec import RepositorySpec, TargetSpec


class ConfigProblem(Struct, frozen=True, kw_only=True):
    """A fault of the configuration. `where` is the file, with line and column if they are known."""

    where: str
    message: str
    hint: str | None = None


class PasswordSource(Struct, frozen=True, kw_only=True):
    """Where the password comes from, in words. `file`: if it comes from one. `problem`: why none could be obtained."""

    told: str
    file: Path | None = None
    problem: str | None = None
    hint: str | None = None


class DoctorRequest(Struct, frozen=True, kw_only=True):
    """`spec` is None without a password or a target: the catalogue is then not inspected."""

    config_path: Path | None
    config_problems: tuple[ConfigProblem, ...]
    targets: tuple[TargetSpec, ...]
    sources: tuple[tuple[str, Path], ...]
    """Each source's name with each of its paths."""
    directories: tuple[tuple[str, Path], ...]
    """The directories that drtool writes on this host: role and path."""
    password: PasswordSource
    programs: tuple[tuple[str, str], ...]
    """The programs that the configuration needs, and for which purpose."""
    has_agent: bool
    """Whether this process has access to an SSH agent."""
    home: Path
    spec: RepositorySpec | None
    read_only: bool = False
    captures: tuple[tuple[str, SourceConfig], ...] = ()
    """Sources other than plain files."""
    beside: Path = Path()
    """The directory of the configuration."""
    environ: Mapping[str, str] = {}
    """The environment of programs that a source runs."""
