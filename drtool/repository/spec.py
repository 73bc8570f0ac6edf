"""The parameters for reaching a repository from this host. The caller passes them, and no environment is read here."""

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
    """One target as this host reaches it. `url` is in full (`config.urls`), and a plain path is a directory."""

    name: TargetName
    url: str
    access: Access = NO_ACCESS
    weight: int = 1
    keys: bool = True
    """Whether key slots are kept there. Without them, a reader of the site has nothing to guess passwords against."""
    vote: Vote = "auto"
    """Whether its site may vote through it: if its file system is known to be safe, always, never, or vote only."""

    @property
    def site(self) -> SiteName:
        return site_of(self.name)


class RepositorySpec(Struct, frozen=True, kw_only=True):
    """A repository in terms of this host's configuration."""

    label: str
    targets: tuple[TargetSpec, ...]
    cache_dir: Path
    state_dir: Path
    password: Callable[[], bytes]
    host: str
    user: str = ""
    timezone: str = "UTC"
    manifest_from: tuple[str, ...] = ()
    """Read without a quorum from these sites, or from `any`. Empty: read with certainty."""
    anyhow: bool = False
    """Without a quorum, continue with the data of any site. The repository records why."""
    anywhere: bool = False
    """Try every directory in the manifest, on any host, since its marker proves it."""
    declares: bool = False
    """For the command that selects one of two copies of a target: it uses the catalogue's instead of being refused."""
    rerun: str = "the same command"
    """The command line to repeat, for hints."""
    reading: str = "the same command with --manifest-from any"
    """The command line that reads without a quorum, for hints."""
    config: str = "drtool.yaml"
    """The file that names `targets`, for hints."""
    trace: Callable[[Note], None] | None = None
    """Receives a note for each phase of consensus. None: no trace."""
    read_only: bool = False
    """Every store refuses to write. `state_dir` is then a copy, which is thrown away."""
    faults_dir: Path | None = None
    """The state directory whose faults are applied. None: `state_dir`."""
    rates: Rates = UNLIMITED
    """The limits on writing to and reading from each target."""
    patience_s: float = 0.0
    """How long to wait for a server that stopped answering, if no other target can serve."""


def local_path(url: str) -> Path:
    """Return the directory behind a `file://` URL or a plain path."""
    path = url.removeprefix(FILE_SCHEME)
    if not path.startswith("/"):
        raise UsageError(f"target URL {url!r} is not an absolute path", hint="write file:///path/to/directory")
    return Path(path)
