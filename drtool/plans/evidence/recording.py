"""The record of a run in the catalogue, which makes it evidence at every site, and the runs that are not recorded yet.

Invariants
    A run is recorded once it is finished, from its journal alone. A later command records a run that could not do so.
    A run's folder is marked as recorded only after the catalogue has confirmed it.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from drtool.config.identity import one_spelling
from drtool.errors import DrtoolError
from drtool.manifest.records import RecordedRun, RunObjective
from drtool.plans.journal.events import Event, Measured, RunBegan, RunEnded
from drtool.plans.journal.file import is_written, read
from drtool.plans.running.runs import RUNS

MARK = "recorded"
_NAME_CHARACTERS = 200
OBJECTIVES = ("rto", "rpo", "wrt", "detection")


def record_of(events: Sequence[Event], digest: str) -> RecordedRun | None:
    """Return the record of a run, or None while it is unfinished. `digest` is the head of its journal."""
    began = next((event for event in events if isinstance(event, RunBegan)), None)
    ended = next((event for event in reversed(events) if isinstance(event, RunEnded)), None)
    if began is None or ended is None:
        return None
    measured = next((event.values for event in reversed(events) if isinstance(event, Measured)), {})
    return RecordedRun(
        id=began.run,
        plan=began.plan,
        plan_digest=began.digest,
        host=began.host[:_NAME_CHARACTERS],
        user=began.user[:_NAME_CHARACTERS],
        began_ns=_ns(began.at),
        ended_ns=_ns(ended.at),
        verdict=ended.verdict,
        exit_code=ended.exit_code,
        digest=digest,
        objectives=tuple(
            RunObjective(name, measured[name].get("target"), measured[name].get("measured"))
            for name in OBJECTIVES
            if name in measured
        ),
        human_s=measured.get("time", {}).get("human_seconds", 0.0),
        must_pass_every_s=began.must_pass_every_s,
    )


def owed(state_dir: Path, config: str) -> Iterator[tuple[Path, RecordedRun]]:
    """Yield this host's finished but unrecorded runs with this configuration, oldest first. None if `config` is empty."""
    if not config:
        return
    try:
        names = sorted(os.listdir(state_dir / RUNS))
    except FileNotFoundError:
        return
    for name in names:
        folder = state_dir / RUNS / name
        if (folder / MARK).exists():
            continue
        try:
            if is_written(folder):
                continue
            events, digest = read(folder)
        except (DrtoolError, OSError):
            continue  # `plan history` reports it; a damaged run is never recorded
        row = record_of(events, digest)
        began = next(e for e in events if isinstance(e, RunBegan))
        if row is not None and began.config and one_spelling(Path(began.config)) == one_spelling(Path(config)):
            yield folder, row


def mark(folder: Path, sequence: int) -> None:
    """Mark the folder as recorded in the catalogue by change `sequence`."""
    part = folder / f".{MARK}"
    part.write_text(f"{sequence}\n")
    os.replace(part, folder / MARK)


def _ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000) * 1_000_000
