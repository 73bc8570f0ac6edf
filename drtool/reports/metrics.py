"""Figures for Prometheus, as a text file for node_exporter's textfile collector.

Invariants
    The file holds the results of the newest run of each command: see `remembered_runs`. Configurations that name the same
    metrics file share it.
    Every sample has labels for its repository and configuration, so no two configurations of a host share a series.
    A series ends when its source is no longer configured, or its configuration is gone.
    A reader sees the old file or the new one, and may be another user (0644).
    The time of each sample is a figure of its own, because the collector refuses timestamps in the file.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from drtool.escaping import printable
from drtool.reports.remembered_runs import Json, Owner, forget_unnamed, remember

__all__ = ["Owner", "known_metrics", "publish", "run_of", "text_of", "withdraw"]
_GOOD = (0, 3, 5)
"""The exit codes of `backup` with which snapshots are stored."""


_HELP = {
    "last_run_timestamp_seconds": "When the command last ended.",
    "last_run_exit_code": "Its exit code: 0 done, 3 incomplete, 5 too few copies, others see docs/cli.md.",
    "last_run_duration_seconds": "How long it took.",
    "last_success_timestamp_seconds": "When it last ended with 0, or for backup with 3 or 5.",
    "backup_last_success_timestamp_seconds": "When a snapshot of the source was last stored.",
    "backup_duration_seconds": "How long the last snapshot of the source took.",
    "backup_exit_code": "Exit code of the last backup of the source: 0 done, 3 incomplete, 5 too few copies, others failed.",
    "backup_copies": "The smallest number of sites with a copy of any part of the source, as written or seen by its last backup.",
    "backup_files": "Files in the last snapshot of the source.",
    "backup_errors": "Items of the source that could not be read.",
    "backup_processed_bytes": "Bytes that the last backup of the source processed.",
    "backup_added_bytes": "New unique bytes in it.",
    "backup_stored_bytes": "Bytes written for it, over all copies.",
    "verify_missing": "Objects that the last verify found missing.",
    "verify_damaged": "Objects that the last verify found damaged.",
    "verify_checked_bytes": "Bytes that the last verify checked.",
    "prune_removed_bytes": "Bytes that the last prune freed.",
    "status_timestamp_seconds": "When the figures of status were taken.",
    "healthy": "Whether status found no problem.",
    "problems": "How many problems status found.",
    "notices": "How many notices status gave; they need no action.",
    "quorum_needed": "Voters that a change needs.",
    "quorum_reachable": "Reachable voters.",
    "site_up": "Whether the site answers.",
    "target_writable": "Whether the target accepted a test object.",
    "target_free_bytes": "Free space at the target.",
    "target_last_backup_bytes": "Bytes that the last backup stored there, by the ring's shares.",
    "source_newest_timestamp_seconds": "Time of the newest snapshot of the source.",
    "source_last_verified_timestamp_seconds": "When everything that its newest proven snapshot needs had last been read whole.",
    "source_proven_timestamp_seconds": "Time of the newest snapshot of the source that was read whole.",
    "source_copies": "The smallest number of sites with a copy of any part of it.",
    "source_objective_met": "Whether its objectives are met.",
}


def known_metrics() -> frozenset[str]:
    """Return the names of all figures, without the prefix `drtool_`."""
    return frozenset(_HELP)


def publish(state_dir: Path, owner: Owner, command: str, run: Json) -> None:
    """Remember the newest run of one command, and write the file of figures. Raises OSError."""
    remember(state_dir, owner, command, run, text_of)


def withdraw(state_dir: Path, config: str) -> None:
    """Remove the figures of a configuration that no longer names a metrics file. Raises OSError."""
    forget_unnamed(state_dir, config, text_of)


def run_of(command: str, document: object, *, exit_code: int, began_s: float, ended_s: float, host: str = "") -> Json:
    """Return one run to remember: the figures from its document. `host` is where it ran."""
    found = document if isinstance(document, dict) else {}
    sources = {}
    if command == "backup":
        sources = {f"{row['host']}\0{row['source']}": _backed_up(row, ended_s) for row in found.get("snapshots", [])}
        sources |= {f"{host}\0{row['path']}": {"exit_code": row["exit_code"]} for row in found.get("failed", [])}
    figures = {}
    if command == "verify" and "checked" in found:
        figures = {
            "missing": len(found["missing"]),
            "damaged": len(found["damaged"]),
            "checked_bytes": found["checked"]["bytes"],
        }
    if command == "prune" and "removed" in found:
        figures = {"removed_bytes": found["removed"]["bytes"]}
    return {
        "time_s": round(ended_s, 3),
        "seconds": round(max(0.0, ended_s - began_s), 3),
        "exit_code": exit_code,
        "succeeded": exit_code in _GOOD if command == "backup" else exit_code == 0,
        "figures": figures,
        "sources": sources,
        "status": _of_status(found) if command == "status" and "sites" in found else None,
    }


def _backed_up(row: Json, ended_s: float) -> Json:
    return {
        "last_success_timestamp_seconds": round(ended_s, 3),
        "exit_code": 3 if row["errors"] else 5 if row["degraded"] else 0,
        "duration_seconds": row["wall_seconds"],
        "copies": row["copies"]["minimum_written"],
        "files": sum(row["files"].values()),
        "errors": len(row["errors"]),
        "processed_bytes": row["processed_bytes"],
        "added_bytes": row["added_bytes"],
        "stored_bytes": row["stored_bytes"],
    }


_SITE, _TARGET = ("name", "reachable"), ("name", "writable", "free_bytes", "last_backup_bytes")
_SOURCE = ("name", "host", "age_seconds", "last_verified", "proven_age_seconds", "copies", "met")


def _of_status(found: Json) -> Json:
    """Return the parts of a status that have figures, without the texts: every user can read the file."""
    sites = [
        {**_only(site, _SITE), "targets": [_only(row, _TARGET) for row in site.get("targets", ())]}
        for site in found["sites"]
    ]
    texts: Json = {key: [""] * len(found[key]) for key in ("problems", "notices") if key in found}
    return {
        **_only(found, ("healthy", "quorum")),
        **texts,
        "sites": sites,
        "sources": [_only(row, _SOURCE) for row in found.get("sources", ())],
    }


def _only(row: Json, keys: Iterable[str]) -> Json:
    return {key: row[key] for key in keys if key in row}


def text_of(memories: Iterable[Json]) -> str:
    """Return the exposition format: each metric's help and type once, then its samples."""
    samples: dict[str, list[str]] = {}
    for memory in memories:
        whose = {"repository": memory["repository"], "config": memory["config"]}
        for name, labels, value in _samples(memory):
            samples.setdefault(name, []).append(f"drtool_{name}{_labels(labels | whose)} {_number(value)}")
    lines = []
    for name, told in _HELP.items():
        if name in samples:
            lines += [f"# HELP drtool_{name} {told}", f"# TYPE drtool_{name} gauge", *samples[name]]
    return "\n".join(lines) + "\n"


Sample = tuple[str, dict[str, str], float]


def _samples(memory: Json) -> Iterator[Sample]:
    for command, run in sorted(memory["runs"].items()):
        label = {"command": command}
        yield "last_run_timestamp_seconds", label, run["time_s"]
        yield "last_run_exit_code", label, run["exit_code"]
        yield "last_run_duration_seconds", label, run["seconds"]
        if run.get("last_success_s") is not None:
            yield "last_success_timestamp_seconds", label, run["last_success_s"]
        for name, value in run.get("figures", {}).items():
            yield f"{command}_{name}", {}, value
        for key, figures in sorted(run.get("sources", {}).items()):
            host, _, source = key.partition("\0")
            for name, value in figures.items():
                if value is not None:
                    yield f"backup_{name}", {"host": host, "source": source}, value
        if run.get("status"):
            yield from _status_samples(run["status"], run["time_s"])
            rows = (row for row in run["status"]["sources"] if _is_wanted(row, memory))
            yield from _source_samples(rows, run["time_s"])


def _is_wanted(row: Json, memory: Json) -> bool:
    """Return whether a source has series: it is of another host, or configured here."""
    return row["host"] != memory["host"] or row["name"] in memory["configured"]


def _status_samples(status: Json, time_s: float) -> Iterable[Sample]:
    yield "status_timestamp_seconds", {}, time_s
    yield "healthy", {}, status["healthy"]
    yield "problems", {}, len(status["problems"])
    yield "notices", {}, len(status.get("notices", ()))  # earlier versions recorded no notices
    yield "quorum_needed", {}, status["quorum"]["needed"]
    yield "quorum_reachable", {}, status["quorum"]["reachable"]
    for site in status["sites"]:
        yield "site_up", {"site": site["name"]}, site["reachable"]
        yield from _target_samples(site.get("targets", ()))


def _source_samples(sources: Iterable[Json], time_s: float) -> Iterable[Sample]:
    for row in sources:
        label = {"host": row["host"], "source": row["name"]}
        if row["age_seconds"] is not None:
            yield "source_newest_timestamp_seconds", label, time_s - row["age_seconds"]
        if row.get("last_verified"):
            yield "source_last_verified_timestamp_seconds", label, _seconds(row["last_verified"])
        if row.get("proven_age_seconds") is not None:
            yield "source_proven_timestamp_seconds", label, time_s - row["proven_age_seconds"]
        if row["copies"] is not None:
            yield "source_copies", label, row["copies"]
        if row["met"] is not None:
            yield "source_objective_met", label, row["met"]


def _target_samples(targets: Iterable[Json]) -> Iterable[Sample]:
    """Yield the samples of targets. Unknown or untested values have none."""
    for row in targets:
        for figure in ("writable", "free_bytes", "last_backup_bytes"):
            if row.get(figure) is not None:
                yield f"target_{figure}", {"target": row["name"]}, row[figure]


def _seconds(text: str) -> float:
    if text.startswith("@"):
        return float(text[1:])
    return datetime.fromisoformat(text[:19] + "+00:00").timestamp()


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return printable(value).replace("\\", "\\\\").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
