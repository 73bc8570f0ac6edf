"""The reasons for an exit code other than 0 in one line, for hooks, channels and logs.

Invariants
    Pure: the reasons are read from the document that was shown. Each names a source, a file, a target or an object.
    At most `_NAMED` faults are named, and the others are counted. A line has at most `_LINE_MAX` characters.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from drtool.cli.core.text import Document

_SHORT_ID = 8
_NAMED = 3
_LINE_MAX = 800


def reason_of(command: str, document: object) -> str:
    """Return what is wrong according to the `document` of backup, verify or prune. Return "" if nothing is."""
    if not isinstance(document, dict):
        return ""
    faults = {"backup": _of_backup, "verify": _of_verify, "prune": _of_prune}.get(command)
    return "" if faults is None else _one_line(list(faults(document)))


def _of_backup(document: Document) -> Iterator[str]:
    for row in document.get("failed", ()):
        yield f"source {row['path']} was not stored: {row['message']}"
    for snapshot in document.get("snapshots", ()):
        source, errors = snapshot["source"], snapshot["errors"]
        for error in errors:
            yield f"{_of_source(source)}{error['path']}: {error['message']}"
    owed = {row["target"]: row["reason"] for snapshot in document.get("snapshots", ()) for row in snapshot["owed"]}
    yield from _targets(owed.items())


def _of_source(source: str) -> str:
    return f"source {source}: " if source else ""


def _of_verify(document: Document) -> Iterator[str]:
    headline = document.get("lost", {}).get("headline")
    if headline:
        yield headline
    mended = {(row["target"], row["object"]) for row in document.get("repaired", ())}
    for row in chain(document.get("damaged", ()), document.get("missing", ())):
        if (row["target"], row["object"]) not in mended:
            yield f"{row['object']} at {row['target']}: {row.get('reason', 'it is missing')}"
    for row in document.get("differing", ()):
        yield f"trial restore of snapshot {row['snapshot'][:_SHORT_ID]}: {row['path']}: {row['reason']}"
    silent = chain(document.get("offline", ()), document.get("refusing", ()))
    yield from _targets((row["target"], row["reason"]) for row in silent)


def _of_prune(document: Document) -> Iterator[str]:
    found = document.get("prune", document)
    yield from (row["message"] for row in found.get("objections", ()))
    yield from (row["reason"] for row in found.get("waiting", ()))


def _targets(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for target, reason in rows:
        yield f"target {target}: {reason}"


def _one_line(faults: list[str]) -> str:
    distinct = list(dict.fromkeys(faults))
    more = len(distinct) - _NAMED
    named = "; ".join(distinct[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
    line = " ".join(named.split())
    return line if len(line) <= _LINE_MAX else line[: _LINE_MAX - 1] + "…"
