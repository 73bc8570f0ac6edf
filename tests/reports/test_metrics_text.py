"""Figures for Prometheus, read back by Prometheus' own parser."""

import stat

from prometheus_client.parser import text_string_to_metric_families

from drtool.reports.metrics import remember, run_of, text_of, write_metrics

HOSTILE = 'a"b\\c\nd'
SHOWN = 'a"b\\c\\x0ad'
BACKUP = {
    "snapshots": [
        {
            "source": HOSTILE, "host": "web1", "wall_seconds": 2.5, "files": {"new": 1, "changed": 2, "unmodified": 3},
            "errors": [], "processed_bytes": 10, "added_bytes": 5, "stored_bytes": 10**13,
        }
    ]
}  # fmt: skip
STATUS = {
    "healthy": False,
    "quorum": {"needed": 2, "reachable": 3},
    "problems": ["one", "two"],
    "notices": ["three"],
    "sites": [
        {"name": "paris", "reachable": True,
         "targets": [{"name": "paris/nas", "writable": False, "free_bytes": 5, "last_backup_bytes": 7}]},
        {"name": "rome", "reachable": False, "targets": [{"name": "rome/nas", "writable": None, "free_bytes": None}]},
    ],
    "sources": [
        {"name": "home", "host": "web1", "age_seconds": 100.0, "copies": 2, "met": True,
         "last_verified": "2026-01-31T22:30:00.000000000Z", "proven_age_seconds": 500.0},
        {"name": "new", "host": "web1", "age_seconds": 1.0, "copies": None, "met": None, "last_verified": None},
    ],
}  # fmt: skip


def run(command, document, code=0, at=1000.0):
    return run_of(command, document, exit_code=code, began_s=at - 3, ended_s=at)


def samples(text):
    return {
        (row.name, *sorted(row.labels.items())): row.value
        for family in text_string_to_metric_families(text)
        for row in family.samples
    }


def test_every_sample_is_read_back(tmp_path):
    remember(tmp_path, "backup", run("backup", BACKUP, 3))
    remember(tmp_path, "verify", run("verify", {"checked": {"bytes": 7}, "missing": [1], "damaged": []}, 4))
    memory = remember(tmp_path, "status", run("status", STATUS, 7, at=2000.0))
    found = samples(text_of(memory))
    web1 = ("host", "web1")
    assert found["drtool_backup_last_success_timestamp_seconds", web1, ("source", SHOWN)] == 1000
    assert found["drtool_backup_files", web1, ("source", SHOWN)] == 6
    assert found["drtool_backup_stored_bytes", web1, ("source", SHOWN)] == 10**13
    assert found["drtool_last_run_exit_code", ("command", "verify")] == 4
    assert found["drtool_last_success_timestamp_seconds", ("command", "backup")] == 1000
    assert ("drtool_last_success_timestamp_seconds", ("command", "verify")) not in found
    assert found["drtool_verify_missing",] == 1
    assert found["drtool_site_up", ("site", "rome")] == 0
    assert (found["drtool_healthy",], found["drtool_problems",], found["drtool_notices",]) == (0, 2, 1)
    nas = ("target", "paris/nas")
    assert [found[f"drtool_target_{name}", nas] for name in ("writable", "free_bytes", "last_backup_bytes")] == [
        0,
        5,
        7,
    ]
    assert ("drtool_target_writable", ("target", "rome/nas")) not in found
    assert found["drtool_source_proven_timestamp_seconds", web1, ("source", "home")] == 1500
    assert found["drtool_source_newest_timestamp_seconds", web1, ("source", "home")] == 1900
    assert found["drtool_source_last_verified_timestamp_seconds", web1, ("source", "home")] == 1769898600
    assert found["drtool_source_objective_met", web1, ("source", "home")] == 1
    assert ("drtool_source_copies", web1, ("source", "new")) not in found
    assert found["drtool_last_run_duration_seconds", ("command", "backup")] == 3


def test_a_failure_keeps_when_it_last_went_well(tmp_path):
    remember(tmp_path, "backup", run("backup", BACKUP))
    found = samples(text_of(remember(tmp_path, "backup", run("backup", {"error": {}}, 6, at=5000.0))))
    assert found["drtool_last_success_timestamp_seconds", ("command", "backup")] == 1000
    assert found["drtool_last_run_timestamp_seconds", ("command", "backup")] == 5000
    assert found["drtool_backup_files", ("host", "web1"), ("source", SHOWN)] == 6


def test_the_file_is_for_everybody_and_memory_that_is_damaged_begins_anew(tmp_path):
    (tmp_path / "metrics.json").write_text("[")
    memory = remember(tmp_path, "prune", run("prune", {"removed": {"packs": 1, "bytes": 9}}))
    write_metrics(tmp_path / "drtool.prom", memory)
    assert stat.S_IMODE((tmp_path / "drtool.prom").stat().st_mode) == 0o644
    assert samples((tmp_path / "drtool.prom").read_text())["drtool_prune_removed_bytes",] == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drtool.prom", "metrics.json"]
