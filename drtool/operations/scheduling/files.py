"""What is installed, what should be, and the way from one to the other.

Invariants
    A change is computed first, shown by a dry run, and is exactly what is done without it.
    A file that `schedule install` did not write is never replaced or removed. Each file appears whole or not at all.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from drtool.errors import DrtoolError, Refused
from drtool.operations.scheduling.crontab import is_ours, with_block

_CRONTAB_S = 30


class Change(Struct, frozen=True, kw_only=True):
    """One file, or the crontab of this user (`path` is None): as it is, as it shall be; None: not there."""

    path: Path | None
    before: str | None
    after: str | None

    @property
    def verb(self) -> str:
        if self.before == self.after:
            return "keep"
        return "write" if self.before is None else "remove" if self.after is None else "change"


def installed(directory: Path) -> dict[str, str]:
    """The files there that are ours, by name: units of systemd, and cron's file."""
    if not directory.is_dir():
        return {}
    found = [*sorted(directory.glob("drtool-*.service")), *sorted(directory.glob("drtool-*.timer"))]
    found += [directory / "drtool"]
    return {path.name: path.read_text(encoding="utf-8") for path in found if path.is_file() and is_ours(path)}


def changes(directory: Path, wanted: Mapping[str, str]) -> list[Change]:
    """From what is installed to what is wanted, and nothing else. Raises Refused where somebody else's file is in the way."""
    here = installed(directory)
    for name in wanted:
        if name not in here and os.path.lexists(directory / name):
            raise Refused(
                f"{directory / name} was not made by `drtool schedule install`, and stays as it is",
                hint="move it away, then run this again",
            )
    names = [*wanted, *(name for name in here if name not in wanted)]
    return [Change(path=directory / name, before=here.get(name), after=wanted.get(name)) for name in names]


def crontab_change(block: str) -> Change:
    """To the crontab of this user; an empty `block` takes ours away."""
    before = _crontab("-l", None)
    return Change(path=None, before=before, after=with_block(before, block))


def apply(change: Change) -> None:
    """Carries one change out."""
    if change.verb == "keep":
        return
    if change.path is None:
        _crontab("-", change.after)
    elif change.after is None:
        change.path.unlink()
    else:
        change.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(change.path, change.after.encode("utf-8", "surrogateescape"), mode=0o644)


def write_whole(path: Path, data: bytes, *, mode: int) -> None:
    """Writes beside, then renames: a reader sees the old file or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
            os.fchmod(out.fileno(), mode)
        os.rename(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _crontab(word: str, text: str | None) -> str:
    """`crontab -l`, or `crontab -` with a new table. A user without one has an empty one."""
    given = None if text is None else text.encode("utf-8", "surrogateescape")
    try:
        done = subprocess.run(
            ["crontab", word],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            check=False,
            timeout=_CRONTAB_S,
        )
    except FileNotFoundError:
        raise DrtoolError("there is no cron here: the program crontab is missing", hint="take --systemd") from None
    except subprocess.TimeoutExpired:
        raise DrtoolError("crontab did not end in time") from None
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode and not (text is None and "no crontab" in said):
        raise DrtoolError(f"crontab {word} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", "surrogateescape")
