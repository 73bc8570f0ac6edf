"""Running a program as an ordinary user while the suite runs as root.

The Python of the suite may lie in a directory of root's that others may not enter. In a mount namespace of its own the program
finds an empty directory in that place, with nothing in it but the way to Python and to the checkout.
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

UID = 12_345
CHECKOUT = Path(__file__).parents[1]


def demand_another_user() -> None:
    """Skip, with the reason, where nothing can be run as another user."""
    if os.geteuid() != 0:
        pytest.skip("the whole suite runs as an ordinary user already")
    for program in ("unshare", "setpriv", "mount"):
        if shutil.which(program) is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not here: apt-get install util-linux")
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespaces here: {tried.stderr.strip()}")


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for `as_user`. pytest's own temporary directories are closed for other users."""
    demand_another_user()
    with tempfile.TemporaryDirectory(prefix="drtool-user-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        home.chmod(0o755)
        for inside in (home / "own", home / "keep"):
            inside.mkdir()
        os.chown(home / "own", UID, UID)
        yield home


def as_user(words: Sequence[str], home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program as an ordinary user, whose files go into `home / "own"`."""
    own, keep = home / "own", home / "keep"
    paths = {Path(sys.base_prefix), Path(sys.prefix), CHECKOUT}
    become = f"setpriv --reuid {UID} --regid {UID} --clear-groups --inh-caps=-all"
    script = "\n".join(
        ("set -e", "umask 022", "mount --make-rprivate /", *_openings(paths, keep), f'exec {become} "$@"')
    )
    place = {"HOME": str(own), "TMPDIR": str(own), "HYPOTHESIS_STORAGE_DIRECTORY": str(own / "hypothesis")}
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words],
        cwd=CHECKOUT,
        env={**os.environ, **place, "PYTHONDONTWRITEBYTECODE": "1", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _openings(paths: Iterable[Path], keep: Path) -> list[str]:
    """Return the commands that replace each closed directory on the way to `paths` by one with just the way to them."""
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        for above in reversed(path.parents):
            if above.stat().st_mode & stat.S_IXOTH == 0:
                closed.setdefault(above, []).append(path)
                break
    lines = []
    for directory, inside in closed.items():
        lines += [f"mount --bind '{directory}' '{keep}'", f"mount -t tmpfs -o mode=755 tmpfs '{directory}'"]
        for path in inside:
            lines += [f"mkdir -p '{path}'", f"mount --bind '{keep / path.relative_to(directory)}' '{path}'"]
        lines.append(f"umount -l '{keep}'")
    return lines
