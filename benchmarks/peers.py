"""The other tools: from the PATH if they are installed, else fetched without root and without changes to the system.

restic comes as Debian trixie's package, unpacked (PyPI has no restic). BorgBackup comes from PyPI into its own environment.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.workloads import Unavailable

_SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def restic(downloads: Path) -> str:
    """Return a restic program, the installed one or 0.18."""
    installed = shutil.which("restic")
    unpacked = downloads / "restic/usr/bin/restic"
    if installed:
        return installed
    if not unpacked.exists():
        if not shutil.which("apt-get") or not Path(_KEYRING).exists():
            raise Unavailable("restic is not installed, and this is not a Debian system with a package of it")
        packages = downloads / "debs"
        packages.mkdir(parents=True, exist_ok=True)
        apt = _private_apt(downloads / "apt")
        _run([*apt, "update", "-qq"], packages)
        _run([*apt, "download", "-qq", "restic"], packages)
        _run(["dpkg", "-x", str(max(packages.glob("restic_*.deb"))), str(downloads / "restic")], packages)
    return str(unpacked)


def borg(downloads: Path) -> str:
    """A BorgBackup 1.4 program."""
    installed = shutil.which("borg")
    environment = downloads / "borg"
    program = environment / "bin/borg"
    if installed:
        return installed
    if not program.exists():
        downloads.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(environment)], downloads)
        try:
            _run([str(environment / "bin/pip"), "install", "--quiet", "borgbackup==1.4.*"], downloads)
        except Unavailable as why:
            needed = "libacl1-dev libssl-dev liblz4-dev libzstd-dev libxxhash-dev pkg-config gcc python3-dev"
            raise Unavailable(f"BorgBackup could not be built ({why}); it needs: apt-get install {needed}") from None
    return str(program)


def _private_apt(root: Path) -> list[str]:
    """Return an apt-get command that uses only Debian trixie and keeps its lists below `root`."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    sources = root / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_debian_mirror()} trixie main\n")
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": root / "lists",
        "Dir::Cache": root / "cache",
        "APT::Sandbox::User": "",
    }
    return ["apt-get", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]


def _debian_mirror() -> str:
    """Return the mirror that this machine's own apt uses."""
    for source in _SOURCES:
        paths = sorted(Path(source).glob("*")) if os.path.isdir(source) else [Path(source)]
        for path in filter(Path.exists, paths):
            for line in path.read_text().splitlines():
                found = re.search(r"(?:https?|file|mirror[a-z+]*):/\S+", line)
                if found and not line.lstrip().startswith("#") and "security" not in line:
                    return found[0]
    raise Unavailable("no Debian mirror is named in the apt sources")


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Unavailable(f"{os.path.basename(command[0])} said: {last}")
