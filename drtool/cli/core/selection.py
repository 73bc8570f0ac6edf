"""The choice of a snapshot by name, and the rows that documents show of snapshots and holds."""

import os
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from drtool.cli.core.text import Document, utc
from drtool.operations.selection import Narrowing, choice_words, select

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.manifest import Snapshot
    from drtool.manifest.records import Mark
    from drtool.model import SnapshotId
    from drtool.operations.selection import Selected
    from drtool.repository import Repository

SHORT_ID = 8


def chosen_snapshot(
    call: "Call", repository: "Repository", name: str, narrow: Narrowing, path: bytes | None = None
) -> "Snapshot":
    """Return the snapshot that the user named, and report ambiguities of the choice.

    `latest` selects among the snapshots that have `path`.
    """
    from drtool.operations.holding import holder_of

    rows = list(repository.view.state.snapshots)
    holds = holder_of(repository.trees, path) if path else None
    selected = select(rows, name, now_ns=time.time_ns(), narrowing=narrow, holds=holds)
    for warning in filter(None, (*selected.warnings, choice_words(selected))):
        call.note(warning)
    if selected.by_latest:
        call.choices.append(choice_row(name, selected))
    return selected.snapshot


def choice_row(name: str, selected: "Selected[Snapshot]") -> Document:
    """Return the record of a choice by `latest`: the snapshot, and the newest one of each other source that matched."""
    return {"asked": name, **_brief(selected.snapshot), "others": [_brief(row) for row in selected.others]}


def _brief(row: "Snapshot") -> Document:
    whole = snapshot_row(row)
    return {"snapshot": whole["id"], **{key: whole[key] for key in ("time", "host", "source", "paths")}}


def snapshot_row(row: "Snapshot", listed: "Collection[SnapshotId] | None" = None) -> Document:
    """Return a snapshot's row for documents. A parent that is not `listed` was forgotten, so its id is left out."""
    parent = row.parent if listed is None or row.parent in listed else None
    return {
        "id": row.id.hex(),
        "time": utc(row.time_ns),
        "host": row.host,
        "user": row.user,
        "source": row.source,
        "paths": [os.fsdecode(path) for path in row.paths],
        "tags": list(row.tags),
        "files": row.counts.files,
        "bytes": row.counts.bytes,
        "parent": parent.hex() if parent else None,
        "sequence": row.sequence,
    }


def hold_row(mark: "Mark | None", now_ns: int | None = None) -> Document:
    """Return a hold's fields for documents."""
    if mark is None or not mark.holds(time.time_ns() if now_ns is None else now_ns):
        return {"held": False, "hold_reason": None, "hold_until": None}
    return {"held": True, "hold_reason": mark.reason, "hold_until": utc(mark.until_ns) if mark.until_ns else None}
