"""A page of the documentation, followed: its commands run as they stand, at a terminal, and must print what the page shows.

`sh` blocks show no output, and each must succeed. In `console` blocks a line that begins with `$ ` is a command and the lines
after it are what it prints; a line `…` stands for any that were left out. Times, sizes, durations and names that drtool draws
are different each time: those are compared by kind.
"""

import fcntl
import grp
import os
import pty
import pwd
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

from command_shell import shell_in
from msgspec import Struct

ROOT = Path(__file__).parents[1]
HOME = "/home/ann"
"""What pages call the directory in which a reader follows them."""
SILENCE_S = 120.0
"""After so long without a word a shell is taken to hang."""
_BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(\r|\n)")
_KINDS = (
    (re.compile(r"mounted at /\S*?:"), "mounted at /MOUNT:"),
    (re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b"), "RUN"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "NAME"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "ID"),
    (re.compile(r"\bpacks/[0-9a-f]+…"), "PACKS"),
    (re.compile(r"\b\d+ directories|\b\d+ packs|\bchange \d+|\b\d+ of \d+ copies, \d+ bytes"), "SOME"),
    (re.compile(r"\b(\d+ (d|h|min) \d+ (h|min|s)|\d+(\.\d+)? s)\b"), "DURATION"),
    (re.compile(r"\b\d+(\.\d+)? ([KMGT]iB|B)\b"), "SIZE"),
    (re.compile(r" +"), " "),
    (re.compile(r"\b(yes|no) \d+ SIZE\b"), "HOLDS"),
)


class Command(Struct, frozen=True):
    """What is typed, and what the page shows of it; None: nothing is shown, and it must succeed."""

    text: str
    shown: tuple[str, ...] | None


class Answer(Struct, frozen=True):
    """What stood on the screen, and the exit code."""

    lines: tuple[str, ...]
    code: int


def commands_of(name: str) -> list[Command]:
    """The commands of a page, by its path in the project."""
    found: list[Command] = []
    for kind, block in _BLOCK.findall((ROOT / name).read_text()):
        if kind == "sh":
            found.append(Command(block, None))
        elif block.startswith("$ "):
            found += _typed(block)
    return found


def _typed(block: str) -> Iterator[Command]:
    for part in block.removeprefix("$ ").split("\n$ "):
        text, *shown = part.rstrip("\n").split("\n")
        yield Command(text + "\n", tuple(shown))


def follow(commands: list[Command], directory: Path) -> list[Answer]:
    """Runs them in one shell at a terminal, in an empty directory and with nothing of this host's configuration."""
    script = directory / "script"
    marked = (
        f"{'set -e' if command.shown is None else 'set +e'}\n{command.text}printf '\\036%s\\n' \"$?\"\n"
        for command in commands
    )
    script.write_text("".join(marked))
    environ = _environ(directory)
    place = directory / "home"
    said = _at_a_terminal(["bash", str(script)], place, environ)
    found = []
    *answers, rest = re.split(r"\x1e(\d+)\r\n", said)
    for command, text, code in zip(commands, answers[::2], answers[1::2], strict=False):
        found.append(Answer(tuple(screen(text.replace(str(place), HOME))), int(code)))
        assert command.shown is not None or found[-1].code == 0, f"{command.text}{text}"
    assert len(found) == len(commands), f"the shell ended at {commands[len(found)].text}{rest}"
    return found


def program_in(directory: Path) -> Path:
    """The program `drtool` in a directory, as installing it puts it there."""
    program = directory / "drtool"
    directory.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nfrom drtool.cli.main import main\n\nmain()\n")
    program.chmod(0o755)
    return program


def _environ(directory: Path) -> dict[str, str]:
    program = program_in(directory / "home/drtool/bin")
    environ = os.environ | shell_in(directory).environ
    environ |= {"PATH": f"{program.parent}:{os.environ['PATH']}", "TERM": "xterm", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    for name in ("DRTOOL_PASSWORD", "DRTOOL_CONFIG"):
        environ.pop(name, None)
    return environ


def _at_a_terminal(words: list[str], place: Path, environ: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    said = bytearray()
    with subprocess.Popen(words, cwd=place, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as shell:
        os.close(theirs)
        try:
            while chunk := os.read(ours, 1 << 16) if select.select([ours], [], [], SILENCE_S)[0] else b"":
                said += chunk
        except OSError:  # the last process that had the terminal has ended
            shell.wait(10)
        finally:
            os.close(ours)
            shell.kill()
    return said.decode()


def screen(text: str) -> list[str]:
    """What is left on a screen after all that was drawn and taken away again."""
    lines, row, begin = [""], 0, 0
    for found in _CONTROL.finditer(text):
        lines[row] += text[begin : found.start()]
        begin = found.end()
        count, verb, move = found.groups()
        if move == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif verb == "A":
            row = max(row - int(count or 1), 0)
        elif verb == "K":
            lines[row] = ""
    lines[row] += text[begin:]
    return [line.rstrip() for line in (*lines[:row], *filter(None, lines[row : row + 1]))]


def agrees(shown: tuple[str, ...], printed: tuple[str, ...]) -> bool:
    """Whether a page shows what was printed."""
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "…" else re.escape(_by_kind(line)) + r"\n" for line in shown)
    return re.fullmatch(pattern, "".join(f"{_by_kind(line)}\n" for line in printed)) is not None


def _by_kind(line: str) -> str:
    names = {
        os.uname().nodename: "laptop",
        pwd.getpwuid(os.geteuid()).pw_name: "ann",
        grp.getgrgid(os.getegid()).gr_name: "ann",
    }
    for name, shown in names.items():
        line = re.sub(rf"\b{re.escape(name)}\b", shown, line.rstrip())
    for pattern, kind in _KINDS:
        line = pattern.sub(kind, line)
    return line
