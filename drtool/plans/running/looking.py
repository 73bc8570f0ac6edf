"""Read-only access to the repository for dry runs. Nothing is kept, neither at the sites nor on this host.

Invariants
    Stores raise on a write. Local state that reading updates (the confirmed changes) goes to a temporary copy of the state
    directory. The faults of drills still apply.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec.structs import replace

from drtool.events import Emit
from drtool.repository import Repository, RepositorySpec, open_repository


@contextmanager
def read_only(spec: Callable[[], RepositorySpec], emit: Emit) -> Iterator[Repository]:
    """Open the repository. `spec` is called on entry, because it may prompt for a password. Raises DrtoolError."""
    asked = spec()
    with tempfile.TemporaryDirectory(prefix="drtool-plan-") as scratch:
        state_dir = Path(scratch) / "state"
        _copy(asked.state_dir, state_dir)
        own = replace(asked, state_dir=state_dir, faults_dir=asked.state_dir, read_only=True, anyhow=True)
        with closing(open_repository(own, emit)) as repository:
            yield repository


def _copy(state_dir: Path, to: Path) -> None:
    to.mkdir(mode=0o700)
    if (state_dir / "repositories").is_dir():
        shutil.copytree(state_dir / "repositories", to / "repositories", symlinks=True)
    if (state_dir / "host.json").is_file():
        shutil.copy2(state_dir / "host.json", to / "host.json")
