"""A disk, a bucket and an SSH server as three sites on this machine: back up, lose one during a backup, restore, repair.

The servers are real (SeaweedFS and OpenSSH). The script starts and stops them, prints each command before it runs, shows its
real output and checks every claim. It exits with 1 if a claim is not true. `make three-sites` runs it.
"""

import filecmp
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from servers import Servers

SIZE_BYTES = 32 << 20


class Story:
    """One repository and one `drtool`, separate from the user's configuration."""

    def __init__(self, root: Path, servers: Servers) -> None:
        self.root, self.servers = root, servers
        (root / "password").write_text("correct horse battery staple\n")
        (root / "password").chmod(0o600)
        beside = Path(sysconfig.get_path("scripts")) / "drtool"
        self.program = [str(beside)] if beside.exists() else [sys.executable, "-m", "drtool"]
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("DRTOOL_", "XDG_"))} | {
            "DRTOOL_CONFIG": str(root / "drtool.yaml"),
            "DRTOOL_PASSWORD_FILE": str(root / "password"),
            "DRTOOL_STATE_DIR": str(root / "state"),
            "DRTOOL_CACHE_DIR": str(root / "cache"),
            **servers.environment,
        }

    def drtool(self, *words: str | Path, expect: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run a command and print it with its output."""
        print(f"\n  $ drtool {shlex.join(map(str, words))}", flush=True)
        done = subprocess.run(
            [*self.program, *map(str, words)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            check=False,
            capture_output=True,
            text=True,
        )
        for line in (done.stdout + done.stderr).splitlines():
            print(f"    {line}")
        print(f"    [exit {done.returncode}]", flush=True)
        if done.returncode not in expect:
            fail(f"the exit code should have been {' or '.join(map(str, expect))}, not {done.returncode}")
        return done

    def asked(self, *words: str | Path, expect: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Return the document of a command, without printing it."""
        done = subprocess.run(
            [*self.program, "--json", *map(str, words)],
            check=False,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        if done.returncode not in expect:
            fail(f"drtool {shlex.join(map(str, words))} exited with {done.returncode}: {done.stderr}")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def play(self) -> None:
        disk = self.root / "disk"
        source = self.root / "home"
        fill(source / "letters", 40, 20_000)
        tell("One repository over a disk, a bucket and an SSH server, with two copies of everything")
        targets = {"desk": disk, "cloud": self.servers.url("paris"), "attic": self.servers.attic}
        self.drtool("init", *(word for name, url in targets.items() for word in ("--target", f"{name}={url}")))
        self.drtool("backup", source)

        tell("A larger backup; the S3 server is killed with -9 during it")
        fill(source / "films", 6, SIZE_BYTES // 6)
        code = self.backup_with_a_death(source)
        print(f"    [exit {code}: 0, or 5 if copies are still owed]")
        if code not in (0, 5):
            fail("a backup must go on when a site fails, and report the number of copies")
        self.drtool("status", expect=(0, 7))  # 7 if the ring places a copy there

        tell("Restore everything without that server")
        self.restored(source, "without")

        tell("The server is back. repair completes the copies, and verify reads and checks everything")
        self.servers.buckets["paris"].start()
        self.drtool("repair")
        self.drtool("verify", "--level", "full")
        found = self.asked("status")
        if not found["healthy"]:
            fail(f"the repository is not healthy: {found['problems']}")

        tell("The disk is lost. Restore everything from the bucket and the SSH server")
        shutil.rmtree(disk)
        self.restored(source, "after the fire")
        print("\nEvery claim above was checked, byte for byte.")

    def backup_with_a_death(self, source: Path) -> int:
        print(f"\n  $ drtool backup {source}    # and kill -9 the S3 server during it", flush=True)
        before = self.servers.buckets["paris"]
        child = subprocess.Popen([*self.program, "backup", str(source)], env=self.environment, stdin=subprocess.DEVNULL)
        time.sleep(1.0)
        before.kill()
        return child.wait()

    def restored(self, source: Path, name: str) -> None:
        to = self.root / name
        self.drtool("restore", f"latest:{source}", "--to", to)
        different = list(differences(source, to))
        if different:
            fail(f"the restored data differs: {', '.join(different[:5])}")


def differences(one: Path, other: Path) -> list[str]:
    """Return the names that differ between two directories, by content."""
    found = filecmp.dircmp(one, other)
    names = [str(one / name) for name in (*found.left_only, *found.right_only, *found.funny_files)]
    _, wrong, errors = filecmp.cmpfiles(one, other, found.common_files, shallow=False)
    names += [str(one / name) for name in (*wrong, *errors)]
    return names + [name for below in found.common_dirs for name in differences(one / below, other / below)]


def fill(directory: Path, files: int, size_bytes: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        (directory / f"{number:03}").write_bytes(os.urandom(size_bytes))


def tell(text: str) -> None:
    print(f"\n{text}", flush=True)


def fail(why: str) -> NoReturn:
    print(f"\nnot true: {why}", file=sys.stderr)
    sys.exit(1)


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="drtool-three-sites-"))
    servers: Servers | None = None
    try:
        (root / "servers").mkdir()
        servers = Servers(root / "servers", buckets=1)
        servers.start()
        Story(root, servers).play()
    finally:
        if servers is not None:
            servers.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
