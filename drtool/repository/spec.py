"""What it takes to reach a repository from this host: handed in by the caller, never read from the environment here."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.config.urls import FILE_SCHEME, NO_ACCESS, Access
from drtool.errors import UsageError
from drtool.manifest.ports import Note
from drtool.model import SiteName, TargetName, site_of
from drtool.stores import UNLIMITED, Rates

Vote: TypeAlias = Literal["auto", "true", "false", "only"]


class TargetSpec(Struct, frozen=True, kw_only=True):
    """One target as this host reaches it. `url` is in full (`config.urls`); a plain path is a directory's."""

    name: TargetName
    url: str
    access: Access = NO_ACCESS
    weight: int = 1
    keys: bool = True
    """Whether key slots are kept there; without, somebody who reads the site has nothing to guess passwords against."""
    vote: Vote = "auto"
    """Whether its site may vote through it: if its file system is known to be safe; vouched for; never; and nothing else."""

    @property
    def site(self) -> SiteName:
        return site_of(self.name)


class RepositorySpec(Struct, frozen=True, kw_only=True):
    """A repository as this host knows it."""

    label: str
    targets: tuple[TargetSpec, ...]
    cache_dir: Path
    state_dir: Path
    password: Callable[[], bytes]
    host: str
    user: str = ""
    timezone: str = "UTC"
    manifest_from: tuple[str, ...] = ()
    """Read without a quorum from these sites, or from `any`; empty: read for certain."""
    anyhow: bool = False
    """Without a quorum, go on with what any site knows; the repository says why."""
    anywhere: bool = False
    """Try every directory that the manifest names, whichever host's it is: its marker proves it."""
    declares: bool = False
    """For the command that says which of two copies of a target goes on: it uses the catalogue's, instead of being refused."""
    rerun: str = "the same command"
    """The command line to repeat, for hints."""
    reading: str = "the same command with --manifest-from any"
    """The command line that reads without a quorum, for hints."""
    config: str = "drtool.yaml"
    """The file that names `targets`, for hints."""
    trace: Callable[[Note], None] | None = None
    """Receives a note for each phase of consensus; None: nobody watches."""
    read_only: bool = False
    """Every store refuses to write; `state_dir` is then a copy, which is thrown away."""
    faults_dir: Path | None = None
    """The state directory whose faults are heeded; None: `state_dir`."""
    rates: Rates = UNLIMITED
    """How fast each target may be written to and read from."""
    patience_s: float = 0.0
    """How long a server that stopped answering is waited for, where no other target can serve."""


def local_path(url: str) -> Path:
    """The directory behind a `file://` URL or a plain path."""
    path = url.removeprefix(FILE_SCHEME)
    if not path.startswith("/"):
        raise UsageError(f"target URL {url!r} is not an absolute path", hint="write file:///path/to/directory")
    return Path(path)
