"""The compared tools, and their commands to create a repository, back up, restore and verify.

Every tool encrypts, compresses with its default, and stores to one directory on the same disk. drtool is measured
with one copy, like the others, and as `drtool-2` with two copies on three sites.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks import peers
from benchmarks.workloads import Unavailable

PASSWORD = "correct horse battery staple"


class Tool:
    """One tool with one workload. Everything that it writes is below `root`."""

    name = ""

    def __init__(self, root: Path, source: Path, program: str) -> None:
        self.root = root
        self.source = source
        self.program = program
        self.repository = root / "repository"
        self.archives = 0

    @classmethod
    def find(cls, downloads: Path) -> str:
        """Return the program to run. Raises Unavailable with the reason."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
        return kept | {"HOME": str(self.root / "home"), "TMPDIR": str(self.root / "tmp"), "LC_ALL": "C.UTF-8"}

    def begin(self) -> None:
        """A fresh, empty repository."""
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in ("home", "tmp", "cache"):
            (self.root / folder).mkdir(parents=True)
        self.archives = 0
        self.run(self.init())

    def run(self, words: list[str]) -> None:
        """Run a command that is not measured."""
        subprocess.run(
            words,
            env=self.environment(),
            cwd=self.root,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )

    def version(self) -> str:
        words = [self.program, "version" if self.name == "restic" else "--version"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")[0]

    def init(self) -> list[str]:
        raise NotImplementedError

    def backup(self) -> list[str]:
        raise NotImplementedError

    def restore(self, destination: Path) -> list[str]:
        """Runs in `destination`."""
        raise NotImplementedError

    def verify(self) -> list[str]:
        """Return the command that reads and checks every stored byte."""
        raise NotImplementedError

    def forget(self, keep_last: int) -> list[str]:
        """Return the command that forgets all snapshots except the newest, without freeing space."""
        raise NotImplementedError

    def prune(self) -> list[str]:
        """Return the command that frees unneeded data."""
        raise NotImplementedError

    def restored(self, destination: Path) -> Path:
        """Return the directory into which `restore` writes the source's contents."""
        return destination / self.source.relative_to("/")


class Drtool(Tool):
    name = "drtool"
    copies = 1
    sites: tuple[str, ...] = ("a",)

    @classmethod
    def find(cls, downloads: Path) -> str:  # noqa: ARG003 - it is installed, never downloaded
        beside = Path(sys.executable).with_name("drtool")
        if not beside.exists():
            raise Unavailable("drtool is not installed beside this Python; `make bench` installs it")
        return str(beside)

    def environment(self) -> Mapping[str, str]:
        return {
            **super().environment(),
            "DRTOOL_PASSWORD": PASSWORD,
            "DRTOOL_CONFIG": str(self.root / "drtool.yaml"),
            "DRTOOL_CACHE_DIR": str(self.root / "cache"),
            "DRTOOL_STATE_DIR": str(self.root / "state"),
        }

    def init(self) -> list[str]:
        targets = [word for site in self.sites for word in ("--target", f"{site}={self.repository / site}")]
        return [self.program, "init", *targets, "--copies", str(self.copies)]

    def backup(self) -> list[str]:
        return [self.program, "backup", str(self.source)]

    def restore(self, destination: Path) -> list[str]:
        return [self.program, "restore", "latest", "--to", str(destination)]

    def verify(self) -> list[str]:
        return [self.program, "verify", "--level", "full"]

    def forget(self, keep_last: int) -> list[str]:
        return [self.program, "forget", "--keep-last", str(keep_last)]

    def prune(self) -> list[str]:
        return [self.program, "prune"]


class DrtoolTwoCopies(Drtool):
    name = "drtool-2"
    copies = 2
    sites = ("a", "b", "c")


class Restic(Tool):
    name = "restic"

    @classmethod
    def find(cls, downloads: Path) -> str:
        return peers.restic(downloads)

    def environment(self) -> Mapping[str, str]:
        return {
            **super().environment(),
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_CACHE_DIR": str(self.root / "cache"),
        }

    def init(self) -> list[str]:
        return [self.program, "init", "--repository-version", "2"]

    def backup(self) -> list[str]:
        return [self.program, "backup", "--compression", "auto", str(self.source)]

    def restore(self, destination: Path) -> list[str]:
        return [self.program, "restore", "latest", "--target", str(destination)]

    def verify(self) -> list[str]:
        return [self.program, "check", "--read-data"]

    def forget(self, keep_last: int) -> list[str]:
        return [self.program, "forget", "--keep-last", str(keep_last)]

    def prune(self) -> list[str]:
        return [self.program, "prune"]


class Borg(Tool):
    name = "borg"

    @classmethod
    def find(cls, downloads: Path) -> str:
        return peers.borg(downloads)

    def environment(self) -> Mapping[str, str]:
        return {
            **super().environment(),
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": str(self.root / "cache"),
            "BORG_REPO": str(self.repository),
        }

    def init(self) -> list[str]:
        return [self.program, "init", "--encryption", "repokey-blake2", str(self.repository)]

    def backup(self) -> list[str]:
        self.archives += 1
        return [self.program, "create", "--compression", "zstd,3", f"::{self.archives:03d}", str(self.source)]

    def restore(self, destination: Path) -> list[str]:
        return [self.program, "extract", f"{self.repository}::{self.archives:03d}"]

    def verify(self) -> list[str]:
        return [self.program, "check", "--verify-data", str(self.repository)]

    def forget(self, keep_last: int) -> list[str]:
        return [self.program, "prune", "--keep-last", str(keep_last), str(self.repository)]

    def prune(self) -> list[str]:
        return [self.program, "compact", str(self.repository)]


TOOLS: dict[str, type[Tool]] = {tool.name: tool for tool in (Drtool, DrtoolTwoCopies, Restic, Borg)}
