"""What is installed, what should be, and the way from one to the other.

Invariants
    A change is computed first, shown by a dry run, and is exactly what is done without it.
    A file that `schedule install` did not write is never replaced or removed, and neither is what belongs to another
    configuration. Each file appears whole or not at all.
"""

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from drtool.errors import DrtoolError, Refused
from drtool.operations.scheduling.crontab import block_of, owners, with_block, with_file_block
from drtool.operations.scheduling.jobs import own_prefix
from drtool.operations.scheduling.systemd import owner, owner_of

CRON_FILE = "drtool"
_CRONTAB_S = 30


class Change(Struct, frozen=True, kw_only=True):
    """One file, or the crontab of this user (`path` is None): as it is, as it shall be; None: not there."""

    path: Path | None
    before: str | None
    after: str | None
    installed: bool
    """Whether there is something of this configuration in it now."""

    @property
    def verb(self) -> str:
        if self.before == self.after:
            return "keep"
        return "write" if self.before is None else "remove" if self.after is None else "change"


def installed(directory: Path) -> dict[str, str]:
    """Return the files there that `schedule install` made, for any configuration: units of systemd, and cron's file."""
    if not directory.is_dir():
        return {}
    found = [*sorted(directory.glob("drtool-*.service")), *sorted(directory.glob("drtool-*.timer"))]
    found += [directory / CRON_FILE]
    texts = {path.name: path.read_text(encoding="utf-8", errors="surrogateescape") for path in found if path.is_file()}
    return {name: text for name, text in texts.items() if owner_of(text)}


def configurations(directory: Path | None) -> list[str]:
    """Return the configurations, as marks name them, that have timers there. None: in this user's crontab."""
    texts = [_crontab("-l", None)] if directory is None else list(installed(directory).values())
    return sorted({name for text in texts for name in (owners(text) or [owner_of(text)]) if name})


def prefix_for(directory: Path, wanted: Iterable[str], config: Path, repository: str) -> str:
    """Return what the names of a configuration's units begin with: `drtool`, unless another configuration has such names."""
    here = installed(directory)
    taken = any(name in here and owner_of(here[name]) != owner(config) for name in wanted)
    return own_prefix(repository, config) if taken else "drtool"


def unit_changes(directory: Path, wanted: Mapping[str, str], config: str | None) -> list[Change]:
    """Return the way from the units that a configuration has to those that are wanted, and nothing else.

    `config`: as marks name it; None is every configuration. Raises Refused where another file is in the way.
    """
    here = installed(directory)
    for name in wanted:
        if name not in here:
            _check_free(directory / name)
    own = [name for name in here if name != CRON_FILE and (config is None or owner_of(here[name]) == config)]
    names = [*wanted, *(name for name in own if name not in wanted)]
    return [
        Change(path=directory / name, before=here.get(name), after=wanted.get(name), installed=name in own)
        for name in names
    ]


def cron_file_change(directory: Path, block: str, config: str | None) -> list[Change]:
    """Return the change to cron's file of the system; an empty `block` takes that of the configuration away.

    Raises Refused where another file is in the way.
    """
    path = directory / CRON_FILE
    before = installed(directory).get(CRON_FILE)
    if before is None:
        if not block:
            return []
        _check_free(path)
    has = config is None or bool(block_of(before or "", config))
    return [Change(path=path, before=before, after=with_file_block(before or "", block, config), installed=has)]


def crontab_change(block: str, config: str | None) -> Change:
    """Return the change to the crontab of this user; an empty `block` takes that of the configuration away."""
    before = _crontab("-l", None)
    has = config is None or bool(block_of(before, config))
    return Change(path=None, before=before, after=with_block(before, block, config), installed=has)


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise Refused(
            f"{path} was not made by `drtool schedule install`, and stays as it is",
            hint="move it away, then run this again",
        )


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
