"""A person's yes or no, given at the terminal or by `drtool plan approve RUN STEP` from elsewhere.

Invariants
    An answer is a private file `answers/STEP.json` in the run's folder, complete or absent. The first answer counts.
    Each answer is used once; a step that asks again needs another one. Used answers stay as evidence.
    Silence is not an answer. Input typed before the question was shown is ignored.
"""

import os
import select
import socket
import stat
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

import msgspec

from drtool.errors import DrtoolError, Refused
from drtool.escaping import printable_lines
from drtool.plans.actions.port import Answer, Work

LOOK_S = 0.2
FOLDER = "answers"
_BYTES_MAX = 64 << 10
_TTY = Path("/dev/tty")
_WORDS = {"yes": True, "y": True, "no": False, "n": False}


class Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer as stored in the run's folder."""

    yes: bool
    by: str
    at_ns: int
    note: str = ""


def answer(folder: Path, key: str, *, yes: bool, note: str = "") -> None:
    """Record an answer in the name of the current user. Raises Refused if there already is one."""
    directory = folder / FOLDER
    directory.mkdir(mode=0o700, exist_ok=True)
    target = directory / _name(key)
    draft = directory / f".{os.getpid()}-{time.monotonic_ns()}"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(Written(yes=yes, by=who(), at_ns=time.time_ns(), note=note[:4096])))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, target)  # not rename: a second answer must not replace the first
    except FileExistsError:
        raise Refused(f"{key} already has an answer", hint="the run will read it shortly") from None
    finally:
        draft.unlink(missing_ok=True)


def who() -> str:
    """`ann@host`."""
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}"


def take(folder: Path, key: str) -> Written | None:
    """Return the stored answer and mark it as used, or None. Raises DrtoolError if another user could have written it."""
    path = folder / FOLDER / _name(key)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DrtoolError(f"{path} cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        found, data = os.fstat(descriptor), file.read(_BYTES_MAX)
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise DrtoolError(f"{path} was not written by this user", hint="remove it")
    try:
        written = msgspec.json.decode(data, type=Written)
    except msgspec.MsgspecError as error:
        raise DrtoolError(
            f"{path} is not an answer: {error}", hint="remove it; drtool plan approve writes it"
        ) from None
    os.rename(path, path.with_name(f"used-{written.at_ns}-{path.name}"))
    return written


def _name(key: str) -> str:
    return quote(key, safe="") + ".json"


class Approver:
    """An implementation of `RunContext.ask` and `RunContext.can_ask`."""

    def __init__(
        self,
        folder: Path,
        tell: Callable[[str, str, str], str] | None = None,
        can_tell: Callable[[str], str] | None = None,
        *,
        terminal: Path = _TTY,
        at_terminal: Callable[[], bool] | None = None,
    ) -> None:
        self._folder, self._tell, self._can_tell = folder, tell, can_tell
        self._terminal = terminal
        self._at_terminal = at_terminal or _stdin_is_a_terminal
        self._turn = threading.Lock()

    def can_ask(self, channel: str | None) -> str:
        """Return why no person can answer, or an empty string."""
        if channel is not None:
            return self._can_tell(channel) if self._can_tell is not None else f"there is no channel {channel!r}"
        if self._at_terminal():
            return ""
        return "there is no terminal, and no channel is named for the question"

    def ask(self, key: str, prompt: str, shown: Sequence[str], channel: str | None, work: Work) -> Answer | None:
        """Wait for the first answer from any source. None if the time ran out or the run was cancelled."""
        began_at = time.monotonic()
        if channel is not None:
            self._announce(channel, key, prompt, shown)
        with _Prompt(self._terminal, self._at_terminal, self._turn) as at_terminal:
            while time.monotonic() < work.ends_at and not work.cancelled.is_set():
                written = take(self._folder, key)
                waited_s = time.monotonic() - began_at
                if written is not None:
                    return Answer(yes=written.yes, by=written.by, channel="plan approve", waited_s=waited_s)
                word = at_terminal.heard(key, prompt, shown)
                if word is not None:
                    return Answer(yes=word, by=who(), channel="terminal", waited_s=time.monotonic() - began_at)
        return None

    def _announce(self, channel: str, key: str, prompt: str, shown: Sequence[str]) -> None:
        command = f"drtool plan approve {self._folder.name} {key}"
        problem = (
            self._tell(channel, "approval", "\n".join([prompt, *shown, f"To answer: {command} [--no]"]))
            if self._tell is not None
            else "there are no channels"
        )
        if problem and not self._at_terminal():
            raise DrtoolError(f"the question could not be sent through channel {channel}: {problem}")


def _stdin_is_a_terminal() -> bool:
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


class _Prompt:
    """One question at a time at the terminal. `heard` waits briefly for an answer, or just waits if there is no terminal."""

    def __init__(self, terminal: Path, at_terminal: Callable[[], bool], turn: threading.Lock) -> None:
        self._terminal, self._at_terminal, self._turn = terminal, at_terminal, turn
        self._descriptor: int | None = None
        self._has_turn = False
        self._typed = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._has_turn:
            self._turn.release()

    def heard(self, key: str, prompt: str, shown: Sequence[str]) -> bool | None:
        if self._descriptor is None and not self._opened(key, prompt, shown):
            time.sleep(LOOK_S)
            return None
        assert self._descriptor is not None
        ready = select.poll()  # select(2) accepts no descriptor above 1023
        ready.register(self._descriptor, select.POLLIN)
        if not ready.poll(LOOK_S * 1000):
            return None
        part = os.read(self._descriptor, 4096)
        if not part:  # hung up
            self._at_terminal = lambda: False
            os.close(self._descriptor)
            self._descriptor = None
            return None
        self._typed += part
        return self._judged()

    def _judged(self) -> bool | None:
        line, newline, self._typed = self._typed.rpartition(b"\n")
        if not newline:
            self._typed = self._typed[-4096:]
            return None
        word = line.decode("utf-8", "replace").strip().lower()
        if word not in _WORDS:
            self._write("yes or no? ")
        return _WORDS.get(word)

    def _opened(self, key: str, prompt: str, shown: Sequence[str]) -> bool:
        """Show the question, if there is a terminal and no other question is shown there."""
        if not self._at_terminal():
            return False
        self._has_turn = self._has_turn or self._turn.acquire(blocking=False)
        if not self._has_turn:
            return False
        try:
            self._descriptor = os.open(self._terminal, os.O_RDWR | os.O_NOCTTY)
            termios.tcflush(self._descriptor, termios.TCIFLUSH)
        except (OSError, termios.error):
            self._at_terminal = lambda: False
            return False
        self._write("\n".join([f"\n[{key}]", *shown, f"{prompt} [yes/no] "]))
        return True

    def _write(self, text: str) -> None:
        assert self._descriptor is not None
        os.write(self._descriptor, printable_lines(text).encode())
