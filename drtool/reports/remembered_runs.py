"""The newest run of each command, by configuration, from which the figures for Prometheus are made.

Invariants
    A metrics file holds, in comments, the runs of its samples. Commands with separate state directories that write the same
    file therefore keep each other's figures. The newest run of each command counts.
    A metrics file holds only figures of configurations that name it. They are removed if the configuration is gone or names
    another file.
    A row written by another user is only data. It is dropped if no samples can be made of it.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from drtool.operations.scheduling.files import write_whole

Json = dict[str, Any]
Render = Callable[[Iterable[Json]], str]
"""Makes the samples of some rows. Raises KeyError, TypeError, ValueError or AttributeError for an invalid row."""
_FOLDER, _LOCK = "metrics", "lock"
_COMMENT = "# drtool remembers "
_PATIENCE_S = 5.0
_NO_ROW = (KeyError, TypeError, ValueError, AttributeError)


class Owner(Struct, frozen=True, kw_only=True):
    """The configuration that a run belongs to."""

    config: str
    """Its canonical path."""
    repository: str
    """The label of its repository."""
    host: str
    sources: frozenset[str]
    """The names of its sources."""
    file: Path
    """The metrics file of this run."""
    configured: Path | None = None
    """The file that the configuration names. None: the command line requested the figures of this run."""


def remember(state_dir: Path, owner: Owner, command: str, run: Json, render: Render) -> None:
    """Remember the newest run of one command, and write the file of figures. Raises OSError."""
    folder = state_dir / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    with _locked(folder / _LOCK):
        own = folder / _name(owner.config)
        before = _read(own)
        with _patiently_locked(owner.file.parent):
            rows = _rows_in(owner.file, render)
            runs = _newest(before.get("runs", {}), rows.get(owner.config, {}).get("runs", {}))
            row = _row(owner, with_run(runs, owner, command, run))
            write_whole(own, json.dumps(row).encode(), mode=0o600)
            here = {each["config"]: each for each in _all(folder) if each["file"] == str(owner.file)}
            _write(owner.file, {**rows, **here, owner.config: row}, render)
        if owner.configured is not None and before.get("file") not in (None, str(owner.file), str(owner.configured)):
            _take_out(Path(before["file"]), owner.config, render)
        _forget_gone(folder, render)


def forget_unnamed(state_dir: Path, config: str, render: Render) -> None:
    """Remove the figures of a configuration that no longer names a metrics file. Raises OSError."""
    own = state_dir / _FOLDER / _name(config)
    row = _read(own)
    if row.get("file") is None or not row.get("is_configured"):
        return
    with _locked(own.parent / _LOCK):
        _take_out(Path(row["file"]), config, render)
        own.unlink(missing_ok=True)


def with_run(runs: Json, owner: Owner, command: str, run: Json) -> Json:
    """Return the runs with a newer run of one command."""
    before = runs.get(command, {})
    succeeded = run["time_s"] if run["succeeded"] else before.get("last_success_s")
    earlier = {key: row for key, row in before.get("sources", {}).items() if _source(key) in owner.sources}
    sources = {key: {**earlier.get(key, {}), **row} for key, row in {**earlier, **run.get("sources", {})}.items()}
    return {**runs, command: {**run, "last_success_s": succeeded, "sources": sources}}


def _row(owner: Owner, runs: Json) -> Json:
    return {
        "config": owner.config,
        "repository": owner.repository,
        "host": owner.host,
        "configured": sorted(owner.sources),
        "file": str(owner.configured or owner.file),
        "is_configured": owner.configured is not None,
        "runs": runs,
    }


def _newest(here: Json, there: Json) -> Json:
    """Return the newer run of each command, with the later of both successes."""
    found = dict(here)
    for command, run in there.items():
        known = found.get(command)
        if known is None or run["time_s"] > known["time_s"]:
            found[command] = run
        if known is not None:
            successes = [row["last_success_s"] for row in (known, run) if row.get("last_success_s") is not None]
            found[command] = {**found[command], "last_success_s": max(successes, default=None)}
    return found


def _write(file: Path, rows: Mapping[str, Json], render: Render) -> None:
    """Write the figures of existing configurations, or remove a file without any."""
    shown = [row for _, row in sorted(rows.items()) if not _is_gone(row["config"])]
    if not shown:
        file.unlink(missing_ok=True)
        return
    remembered = "".join(f"{_COMMENT}{json.dumps(row)}\n" for row in shown)
    write_whole(file, (render(shown) + remembered).encode("utf-8", "replace"), mode=0o644)


def _take_out(file: Path, config: str, render: Render) -> None:
    """Remove the figures of one configuration from a file that it no longer names. Raises OSError."""
    if not file.parent.is_dir():
        return
    with _patiently_locked(file.parent):
        if not _is_ours(file):
            return
        _write(file, {name: row for name, row in _rows_in(file, render).items() if name != config}, render)


def _forget_gone(folder: Path, render: Render) -> None:
    """Remove the figures of deleted configurations, because none of their own runs will do so."""
    for path in folder.glob("*.json"):
        row = _read(path)
        if "config" in row and "file" in row and _is_gone(row["config"]):
            with suppress(OSError):  # its directory may be read-only or gone; the next run tries again
                _take_out(Path(row["file"]), row["config"], render)
                path.unlink(missing_ok=True)


def _is_ours(file: Path) -> bool:
    """Return whether a file contains only figures of drtool."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    begins = ("drtool_", "# HELP drtool_", "# TYPE drtool_", _COMMENT)
    return bool(lines) and all(line.startswith(begins) for line in lines)


def _rows_in(file: Path, render: Render) -> dict[str, Json]:
    """Return the runs in a metrics file, by configuration."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        if line.startswith(_COMMENT):
            with suppress(*_NO_ROW):
                row = json.loads(line.removeprefix(_COMMENT))
                render([row])
                found[str(row["config"])] = row
    return found


def _all(folder: Path) -> list[Json]:
    """Return the remembered runs of each configuration that still exists."""
    found = [_read(path) for path in sorted(folder.glob("*.json"))]
    return [row for row in found if {"config", "file", "runs"} <= set(row) and not _is_gone(row["config"])]


def _is_gone(config: str) -> bool:
    """Return whether a configuration was deleted. One that this user may not see counts as existing."""
    try:
        os.lstat(config)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _name(config: str) -> str:
    """Return the name of the file that remembers the runs of a configuration."""
    return hashlib.sha256(os.fsencode(config)).hexdigest()[:16] + ".json"


def _source(key: str) -> str:
    return key.partition("\0")[2]


def _read(path: Path) -> Json:
    """Return the remembered runs, or nothing if the file is unreadable."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the folder, so that two commands that end at the same time keep both runs."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _patiently_locked(directory: Path) -> Iterator[None]:
    """Lock a directory, with a time limit, because other programs may hold the lock as well."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ends_at = time.monotonic() + _PATIENCE_S
    try:
        while time.monotonic() < ends_at:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
