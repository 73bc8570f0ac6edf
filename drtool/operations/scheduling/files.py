"""The installed timer files, the wanted ones, and the changes from one to the other.

Invariants
    A change is computed first. A dry run shows it, and a real run carries out exactly that value.
    A file that `schedule install` did not write, or that belongs to another configuration, is never replaced or
    removed.
    Each file appears whole or not at all.
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
    """A change to one file, or to this user's crontab (`path` None).

    `before` and `after` are None where it does not exist.
    """

    path: Path | None
    before: str | None
    after: str | None
    installed: bool
    """Whether it currently contains anything of this configuration."""

    @property
    def verb(self) -> str:
        if self.before == self.after:
            return "keep"
        return "write" if self.before is None else "remove" if self.after is None else "change"


def installed(directory: Path) -> dict[str, str]:
    """Return the files in `directory` that `schedule install` wrote for any configuration: systemd units and cron's
    file.
    """
    if not directory.is_dir():
        return {}
    found = [*sorted(directory.glob("drtool-*.service")), *sorted(directory.glob("drtool-*.timer"))]
    found += [directory / CRON_FILE]
    texts = {path.name: path.read_text(encoding="utf-8", errors="surrogateescape") for path in found if path.is_file()}
    return {name: text for name, text in texts.items() if owner_of(text)}


def configurations(directory: Path | None) -> list[str]:
    """Return the configurations, in the form of `owner_of`, with timers in `directory` (None: in this user's crontab)."""
    texts = [_crontab("-l", None)] if directory is None else list(installed(directory).values())
    return sorted({name for text in texts for name in (owners(text) or [owner_of(text)]) if name})


def prefix_for(directory: Path, wanted: Iterable[str], config: Path, repository: str) -> str:
    """Return the prefix of a configuration's unit names: `drtool`, unless another configuration already uses such a
    name.
    """
    here = installed(directory)
    taken = any(name in here and owner_of(here[name]) != owner(config) for name in wanted)
    return own_prefix(repository, config) if taken else "drtool"


def unit_changes(directory: Path, wanted: Mapping[str, str], config: str | None) -> list[Change]:
    """Return the changes that turn the configuration's installed units into the wanted ones.

    `config` is in the form of `owner_of`, and None means every configuration. Raises Refused if another file is in the
    way.
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
    """Return the change to the system's cron file. An empty `block` removes the block of the configuration.

    Raises Refused if another file is in the way.
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
    """Return the change to this user's crontab. An empty `block` removes the block of the configuration."""
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
    """Carry out one change."""
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
    """Write a temporary file and rename it, so that a reader sees either the old file or the new one."""
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
    """Run `crontab -l`, or `crontab -` with a new table. A user without a crontab has an empty one."""
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
        raise DrtoolError("cron is not installed: the program crontab is missing", hint="take --systemd") from None
    except subprocess.TimeoutExpired:
        raise DrtoolError("crontab did not finish in time") from None
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode and not (text is None and "no crontab" in said):
        raise DrtoolError(f"crontab {word} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", "surrogateescape")
