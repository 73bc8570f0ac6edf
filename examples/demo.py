"""Three sites on this machine: back up, lose one, restore, compare byte for byte; then lose another one.

Everything happens in a temporary directory, as the user who runs it, without a network. The demo prints each command before
it runs, shows its real output and checks every exit code. It fails if a command behaves differently from the text.
`make demo` runs it.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

SITES = ("paris", "oslo", "rome")
SMALL_PARTS = ("json", "email", "encodings", "xml")


class Outcome(NamedTuple):
    """The output and exit code of a command."""

    code: int
    stdout: str


class Demo:
    """The demo: one directory on disk, one configuration, one `drtool`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.program = find_program()
        (root / "password").write_text("correct horse battery staple\n")
        (root / "password").chmod(0o600)
        # Neither read nor change the user's own configuration.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("DRTOOL_", "XDG_"))} | {
            "DRTOOL_CONFIG": str(root / "drtool.yaml"),
            "DRTOOL_PASSWORD_FILE": str(root / "password"),
            "DRTOOL_STATE_DIR": str(root / "state"),
            "DRTOOL_CACHE_DIR": str(root / "cache"),
        }

    def drtool(self, *words: str | Path, expect: int = 0) -> Outcome:
        """Run one command, and fail unless it exits with `expect`."""
        print(f"\n  $ drtool {self.shown(*words)}", flush=True)
        done = subprocess.run(
            [self.program, *map(str, words)],
            env=self.environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if "--json" not in words else subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            check=False,
        )
        print_indented(done.stdout)
        print_indented(done.stderr or "")
        print(f"    [exit {done.returncode}]")
        if done.returncode != expect:
            fail(f"the exit code should have been {expect}, not {done.returncode}")
        return Outcome(done.returncode, done.stdout)

    def ask(self, *words: str | Path, expect: int = 0) -> dict[str, Any]:
        """Run `drtool` with `--json` and return its document."""
        document = json.loads(self.drtool("--json", *words, expect=expect).stdout)
        if not isinstance(document, dict):
            fail("the JSON document is not an object")
        return document

    def shown(self, *words: str | Path) -> str:
        """Return the command line with the demo's directory as `.`, as it can be typed there.

        SNAPSHOT:PATH is an exception, because paths in a snapshot are absolute.
        """
        line = shlex.join(str(word) for word in words)
        return re.sub(rf"(?<!:){re.escape(str(self.root))}", ".", line)

    def site(self, name: str) -> Path:
        """Return the directory of a site."""
        return self.root / "sites" / name

    def play(self, *, small: bool) -> None:
        """Run all parts of the demo in order."""
        self.prepare(small=small)
        self.found()
        self.back_up_twice()
        self.lose_one_site()
        self.lose_another()

    def prepare(self, *, small: bool) -> None:
        tell(
            "Data to back up",
            "A copy of Python's standard library, and a few files that backup tools often get wrong:",
            "unusual names, links, extended attributes, a FIFO, times to the nanosecond.",
        )
        copy_standard_library(self.home / "python", small=small)
        make_awkward_files(self.home / "awkward")
        files, size_bytes = measure(self.home)
        print(f"\n  {files:,} files, {size_bytes / 1e6:,.0f} MB in ./home")

    def found(self) -> None:
        tell(
            "A repository on three sites",
            "Here each site is a directory. In real use it is a disk, a NAS or a bucket somewhere else.",
            "With three copies each site alone holds everything. (With --copies 2 any one of the three may be lost.)",
        )
        targets = [word for name in SITES for word in ("--target", f"{name}={self.site(name)}")]
        self.drtool("init", *targets, "--copies", "3")

    def back_up_twice(self) -> None:
        tell("The first backup", "Files are cut into chunks, compressed, encrypted and stored on all three sites.")
        first = self.ask("backup", self.home)["snapshots"][0]
        expect(first["errors"] == [], "every file could be read")
        expect(first["copies"]["minimum_written"] == 3, "every chunk is on three sites")
        tell("The second backup", "Nothing has changed, so almost nothing is read and nothing is added.")
        second = self.ask("backup", self.home)["snapshots"][0]
        expect(second["files"]["new"] == 0, "no file is new")
        expect(second["added_bytes"] <= 4096, f"{second['added_bytes']:,} bytes of data were added")
        self.drtool("snapshots")
        self.drtool("ls", "-l", f"latest:{self.home}/awkward")

    def lose_one_site(self) -> None:
        lost = SITES[0]
        tell(f"Losing {lost}", f"The demo moves the directory of {lost} away, as if the disk had failed.")
        self.move_away(lost)
        tell("Restore everything from the other two sites")
        self.restore_and_compare("restored-from-two")
        tell(
            "The missing copies",
            "`verify` checks that every object is in its place. Exit code 5 means fewer copies than promised.",
            "`status` is the screen for every morning. Exit code 7 means that there is a problem.",
        )
        self.drtool("verify", expect=5)
        self.drtool("status", expect=7)
        tell(
            "Backups go on",
            "Two of three sites agree, so the catalogue can be changed. Exit code 5 means: one copy short.",
        )
        (self.home / "written-after-the-loss.txt").write_text("still here\n")
        self.drtool("backup", self.home, expect=5)

    def lose_another(self) -> None:
        lost, left = SITES[1], SITES[2]
        tell(
            f"Losing {lost}, too",
            "One site of three cannot tell whether the others went on without it. So nothing is written any more,",
            "and no read counts as certain. The exit code is 6, and the hint says what to do.",
        )
        self.move_away(lost)
        self.drtool("backup", self.home, expect=6)
        self.drtool("snapshots", expect=6)
        tell(
            "The remaining data can be restored",
            f"With --manifest-from {left}, drtool reads the catalogue of that site.",
        )
        self.drtool("snapshots", "--manifest-from", left)
        self.restore_and_compare("restored-from-one", "--manifest-from", left)

    def move_away(self, name: str) -> None:
        aside = self.site(name).with_name(f"{name}.gone")
        print(f"\n  $ mv ./sites/{name} ./sites/{aside.name}")
        self.site(name).rename(aside)

    def restore_and_compare(self, name: str, *options: str) -> None:
        destination = self.root / name
        self.drtool("restore", f"latest:{self.home}", "--to", destination, *options)
        differences = list(differences_between(self.home, destination))
        for difference in differences[:20]:
            print(f"    {difference}")
        files, size_bytes = measure(destination)
        expect(
            not differences,
            f"compared {files:,} files, {size_bytes / 1e6:,.0f} MB, byte for byte, and their type, mode, owner, times,"
            f" links and extended attributes: {len(differences) or 'no'} differences",
        )
        shutil.rmtree(destination)


def find_program() -> str:
    """Return the `drtool` beside this Python, else the one on the PATH."""
    beside = Path(sys.executable).parent / "drtool"
    found = str(beside) if beside.exists() else shutil.which("drtool")
    return found or fail("no drtool beside this Python or on the PATH; `make demo` installs it first")


def copy_standard_library(destination: Path, *, small: bool) -> None:
    """Copy the library's own files, without compiled files and files that pip installed."""
    library = Path(sysconfig.get_path("stdlib"))
    unwanted = shutil.ignore_patterns("site-packages", "dist-packages", "__pycache__")
    if small:
        for part in SMALL_PARTS:
            shutil.copytree(library / part, destination / part, symlinks=True, ignore=unwanted)
    else:
        shutil.copytree(library, destination, symlinks=True, ignore=unwanted)


def make_awkward_files(here: Path) -> None:
    """Make files that backup tools are known to lose."""
    here.mkdir(parents=True)
    (here / "empty").touch()
    (here / "empty directory").mkdir()
    (here / "to nowhere").symlink_to("no/such/file")
    (here / "two names").write_bytes(b"one file, two names\n")
    (here / "two names, the other").hardlink_to(here / "two names")
    (here / "read-only file").write_text("mode 0440\n")
    (here / "read-only file").chmod(0o440)
    (here / "set-group-id").mkdir()
    (here / "set-group-id").chmod(0o2750)
    os.mkfifo(here / "a pipe", 0o600)
    Path(os.fsdecode(os.fsencode(here) + b"/not UTF-8: \xff\xfe")).write_text("names are bytes\n")
    (here / "new\nline").write_text("so is this\n")
    with (here / "sparse").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"in the middle of nothing")
    labelled = here / "labelled"
    labelled.write_text("with an extended attribute\n")
    try:
        os.setxattr(labelled, "user.comment", b"kept \x00 too")
    except OSError as error:
        print(f"  (this file system takes no extended attributes: {error.strerror})")
    os.utime(here / "empty", ns=(0, 981_173_106_123_456_789))
    os.utime(here / "to nowhere", ns=(0, -1_500_000_001), follow_symlinks=False)


def measure(tree: Path) -> tuple[int, int]:
    """Return the number of files and of their bytes."""
    sizes = [p.stat().st_size for p in tree.rglob("*") if p.is_file() and not p.is_symlink()]
    return len(sizes), sum(sizes)


def differences_between(source: Path, restored: Path) -> Iterator[str]:
    """Yield each difference between two directories, in words."""
    names, came_back = relative_paths(source), relative_paths(restored)
    yield from (f"missing: {name!s}" for name in sorted(names - came_back))
    yield from (f"not in the source: {name!s}" for name in sorted(came_back - names))
    links_before: dict[int, set[Path]] = {}
    links_after: dict[int, set[Path]] = {}
    for name in sorted(names & came_back):
        before, after = source / name, restored / name
        yield from (f"{what} of {name!s}" for what in differing(before, after))
        links_before.setdefault(before.lstat().st_ino, set()).add(name)
        links_after.setdefault(after.lstat().st_ino, set()).add(name)
    if sorted(map(sorted, links_before.values())) != sorted(map(sorted, links_after.values())):
        yield "hard links"


def relative_paths(tree: Path) -> set[Path]:
    return {path.relative_to(tree) for path in tree.rglob("*")}


def differing(before: Path, after: Path) -> Iterator[str]:
    """Yield the attributes that differ between two files."""
    was, now = before.lstat(), after.lstat()
    if stat.S_IFMT(was.st_mode) != stat.S_IFMT(now.st_mode):
        yield "type"
        return
    yield from (
        fact for fact in ("st_mode", "st_uid", "st_gid", "st_mtime_ns") if getattr(was, fact) != getattr(now, fact)
    )
    if attributes(before) != attributes(after):
        yield "extended attributes"
    if stat.S_ISLNK(was.st_mode) and os.readlink(before) != os.readlink(after):
        yield "link target"
    if stat.S_ISREG(was.st_mode) and before.read_bytes() != after.read_bytes():
        yield "content"


def attributes(path: Path) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:  # this file system has none
        return {}
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def tell(title: str, *lines: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}== {title}{plain}")
    for line in lines:
        print(line)


def print_indented(text: str) -> None:
    for line in text.rstrip().splitlines():
        print(f"    {line}")


def expect(holds: bool, claim: str) -> None:
    if not holds:
        fail(f"not true: {claim}")
    print(f"  ✓ {claim}")


def fail(message: str) -> NoReturn:
    sys.stdout.flush()
    sys.exit(f"\nThe demo failed: {message}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="a few packages of the library instead of all of it")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory and print its path")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    began = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="drtool-demo-"))
    try:
        Demo(root).play(small=options.small)
        tell(f"Done in {time.monotonic() - began:.0f} s; every claim above was checked")
    finally:
        if options.keep:
            print(f"The files are in {root}")
        else:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
