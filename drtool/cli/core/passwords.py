"""The repository's password: its origins, reading it, asking for it, and proposing a new one."""

import os
import shlex
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from drtool.cli.core.options import Options
from drtool.config import Config
from drtool.errors import NoPassword, UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_PASSWORDS = ("DRTOOL_PASSWORD", "DRTOOL_PASSWORD_FILE", "DRTOOL_PASSWORD_COMMAND")


def inherited(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for programs that a source runs: everything except the repository's password settings."""
    return {name: value for name, value in environ.items() if name not in _PASSWORDS}


class PasswordOrigin(Struct, frozen=True, kw_only=True):
    """The origin of a password. Exactly one of `value`, `file` and `command` is set."""

    told: str
    """The origin in words, for people."""
    value: str | None = None
    file: Path | None = None
    command: str | tuple[str, ...] | None = None


def password_origin(
    options: Options, environ: Mapping[str, str], config: Config, config_path: Path | None
) -> PasswordOrigin | None:
    """Return the first given origin in the documented order, or None to ask."""
    beside = config_path.parent if config_path else Path()
    if options.password_file:
        return PasswordOrigin(told="--password-file", file=Path(options.password_file))
    if environ.get("DRTOOL_PASSWORD"):
        return PasswordOrigin(told="$DRTOOL_PASSWORD", value=environ["DRTOOL_PASSWORD"])
    if environ.get("DRTOOL_PASSWORD_FILE"):
        return PasswordOrigin(told="$DRTOOL_PASSWORD_FILE", file=Path(environ["DRTOOL_PASSWORD_FILE"]))
    if environ.get("DRTOOL_PASSWORD_COMMAND"):
        return PasswordOrigin(told="$DRTOOL_PASSWORD_COMMAND", command=environ["DRTOOL_PASSWORD_COMMAND"])
    if config.password_file:
        return PasswordOrigin(told="the configuration's password_file", file=beside / config.password_file)
    if config.password_command:
        return PasswordOrigin(told="the configuration's password_command", command=config.password_command)
    return None


def password_source(
    options: Options,
    environ: Mapping[str, str],
    config: Config,
    config_path: Path | None,
    warn: Callable[[str], None] = lambda _: None,
) -> Callable[[], bytes] | None:
    """Return a reader of the password from its origin, or None to ask."""
    origin = password_origin(options, environ, config, config_path)
    if origin is None:
        return None
    if origin.file is not None:
        return password_from_file(origin.file, warn)
    if origin.command is not None:
        return _from_command(origin.command)
    value = os.fsencode(origin.value or "")
    return lambda: first_line(value, origin.told)


def first_line(data: bytes, origin: str) -> bytes:
    """Return a password: the first line without its end. Raise NoPassword if it is empty."""
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise NoPassword(f"the password from {origin} is empty", hint="put it in the first line")
    return line


def password_from_file(path: Path, warn: Callable[[str], None] = lambda _: None) -> Callable[[], bytes]:
    """Return a reader of the password file. It refuses a world-writable file, and calls `warn` for a world-readable one."""

    def read() -> bytes:
        try:
            with path.open("rb") as file:
                _check_password_mode(path, os.fstat(file.fileno()).st_mode, warn)
                return first_line(file.read(), str(path))
        except OSError as error:
            raise NoPassword(f"the password file {path} cannot be read: {error.strerror}") from None

    return read


def _check_password_mode(path: Path, mode: int, warn: Callable[[str], None]) -> None:
    if not stat.S_ISREG(mode):
        return
    remedy = f"chmod 600 {shlex.quote(str(path))}"
    if mode & stat.S_IWOTH:
        raise NoPassword(
            f"the password file {path} is not used: every user of this host can write it (mode {mode & 0o7777:04o})",
            hint=remedy,
        )
    if mode & stat.S_IROTH:
        warn(f"every user of this host can read the password file {path} (mode {mode & 0o7777:04o}): {remedy}")


def _from_command(command: str | tuple[str, ...]) -> Callable[[], bytes]:
    def run() -> bytes:
        import subprocess

        try:
            words = shlex.split(command) if isinstance(command, str) else list(command)
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
        except (OSError, ValueError) as error:
            raise NoPassword(f"the password command cannot be run: {error}") from None
        if done.returncode:
            raise NoPassword(f"the password command {words[0]} failed with exit code {done.returncode}")
        return first_line(done.stdout, f"the command {words[0]}")

    return run


def ask_password(question: str = "Password: ") -> bytes:
    """Ask on the terminal without echo. Raise NoPassword if there is no terminal."""
    if not sys.stdin.isatty():
        raise NoPassword(
            "no password: none is configured, and there is no terminal to ask on",
            hint="give --password-file FILE, set DRTOOL_PASSWORD_FILE, or put password_file into the configuration",
        )
    import getpass

    try:
        return first_line(os.fsencode(getpass.getpass(question)), "the terminal")
    except EOFError:
        raise NoPassword("no password was given") from None


def given_password(call: "Call") -> bytes:
    """Return the password of a new repository from where it was given. Warn if it is trivial."""
    from drtool.crypto.strength import weakness

    password = call.settings.password()
    if weak := weakness(password):
        call.warn(
            f"this password is too easy to guess: it {weak}; before you store anything, add one of five or more random "
            "words (drtool key add) and remove this one (drtool key remove)"
        )
    return password


def new_password(call: "Call") -> bytes:
    """Ask for a password twice, or propose one. Raise UsageError without a terminal."""
    from drtool.crypto.strength import weakness

    call.screen.end_progress()
    first = ask_password_or_none("New password (empty: propose one): ")
    if first is None:
        return _proposed(call)
    if weak := weakness(first):
        raise UsageError(
            f"this password is too easy to guess: it {weak}; nothing was done",
            hint="take five or more random words, or press Enter to use a proposed password",
        )
    if ask_password("Repeat the password: ") != first:
        raise UsageError("the two passwords differ; nothing was done")
    return first


def ask_password_or_none(question: str) -> bytes | None:
    import getpass
    import sys

    if not sys.stdin.isatty():
        return ask_password()
    return os.fsencode(getpass.getpass(question)) or None


def _proposed(call: "Call") -> bytes:
    """Propose a password of 130 bits, in letters that are hard to confuse."""
    import secrets

    letters = "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(26))
    text = "-".join(letters[start : start + 5] for start in range(0, 26, 5))
    call.screen.say(
        f"\n    {text}\n\nWrite it down or keep it in a password manager: nothing can be restored without it."
    )
    if ask_password("Type it to confirm: ") != text.encode():
        raise UsageError("that is not the proposed password; nothing was done")
    return text.encode()
