"""Figures for Prometheus, read back by its own parser."""

import stat

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from drtool.reports.metrics import Owner, publish, run_of, withdraw

HOSTILE = 'a"b\\c\nd'
SHOWN = 'a"b\\c\\x0ad'
BACKUP = {
    "snapshots": [
        {
            "source": HOSTILE, "host": "web1", "wall_seconds": 2.5, "files": {"new": 1, "changed": 2, "unmodified": 3},
            "errors": [], "processed_bytes": 10, "added_bytes": 5, "stored_bytes": 10**13,
            "copies": {"wanted": 2, "minimum_written": 1}, "degraded": True,
        }
    ],
    "failed": [{"path": "dump", "message": "no", "exit_code": 1}],
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
    return run_of(command, document, exit_code=code, began_s=at - 3, ended_s=at, host="web1")


class Configuration:
    """A drtool.yaml, and its part of the metrics file."""

    def __init__(self, directory, name="drtool.yaml", sources=(HOSTILE, "home", "dump")):
        self.state = directory / "state"
        self.state.mkdir(exist_ok=True)
        self.path = directory / name
        self.path.touch()
        self.file = directory / "drtool.prom"
        self.owner = Owner(
            config=str(self.path), repository="main", host="web1", sources=frozenset(sources), file=self.file
        )

    def ran(self, command, document, code=0, at=1000.0):
        publish(self.state, self.owner, command, run(command, document, code, at))
        return self.figures()

    def figures(self):
        """Return the samples of this configuration."""
        whose = {"repository": "main", "config": self.owner.config}
        return {
            (row.name, *sorted(item for item in row.labels.items() if item[0] not in whose)): row.value
            for family in text_string_to_metric_families(self.file.read_text())
            for row in family.samples
            if whose.items() <= row.labels.items()
        }


@pytest.fixture
def configuration(tmp_path):
    return Configuration(tmp_path)


def test_every_sample_is_read_back(configuration):
    configuration.ran("backup", BACKUP, 1)
    configuration.ran("verify", {"checked": {"bytes": 7}, "missing": [1], "damaged": []}, 4)
    found = configuration.ran("status", STATUS, 7, at=2000.0)
    web1 = ("host", "web1")
    assert found["drtool_backup_last_success_timestamp_seconds", web1, ("source", SHOWN)] == 1000
    assert found["drtool_backup_files", web1, ("source", SHOWN)] == 6
    assert found["drtool_backup_stored_bytes", web1, ("source", SHOWN)] == 10**13
    assert found["drtool_last_run_exit_code", ("command", "verify")] == 4
    assert found["drtool_backup_copies", web1, ("source", SHOWN)] == 1
    assert found["drtool_backup_exit_code", web1, ("source", SHOWN)] == 5
    assert found["drtool_backup_exit_code", web1, ("source", "dump")] == 1
    assert ("drtool_last_success_timestamp_seconds", ("command", "backup")) not in found
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
    assert ("drtool_source_newest_timestamp_seconds", web1, ("source", "new")) not in found, "no longer configured"
    assert found["drtool_last_run_duration_seconds", ("command", "backup")] == 3


def test_a_failure_keeps_the_time_of_the_last_success(configuration):
    configuration.ran("backup", BACKUP)
    found = configuration.ran("backup", {"error": {}}, 6, at=5000.0)
    assert found["drtool_last_success_timestamp_seconds", ("command", "backup")] == 1000
    assert found["drtool_last_run_timestamp_seconds", ("command", "backup")] == 5000
    assert found["drtool_backup_files", ("host", "web1"), ("source", SHOWN)] == 6


def test_the_file_is_world_readable_and_damaged_memory_starts_over(configuration):
    configuration.ran("verify", {})
    (memory,) = (configuration.state / "metrics").glob("*.json")
    memory.write_text("[")
    found = configuration.ran("prune", {"removed": {"packs": 1, "bytes": 9}})
    assert stat.S_IMODE(configuration.file.stat().st_mode) == 0o644
    assert found["drtool_prune_removed_bytes",] == 9
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600


def test_the_series_of_a_renamed_source_end(tmp_path):
    Configuration(tmp_path, sources=["old"]).ran("backup", backup_of("old"))
    found = Configuration(tmp_path, sources=["new"]).ran("backup", backup_of("new"))
    assert {dict(key[1:])["source"] for key in found if key[0] == "drtool_backup_files"} == {"new"}


def backup_of(source):
    return {"snapshots": [{**BACKUP["snapshots"][0], "source": source}]}


def test_two_configurations_share_a_file_until_one_is_gone(tmp_path):
    first, second = Configuration(tmp_path), Configuration(tmp_path, "second.yaml")
    first.ran("backup", BACKUP)
    second.ran("backup", BACKUP, at=2000.0)
    key = ("drtool_last_run_timestamp_seconds", ("command", "backup"))
    assert (first.figures()[key], second.figures()[key]) == (1000, 2000)
    first.path.unlink()
    second.ran("prune", {"removed": {"packs": 0, "bytes": 0}})
    assert first.figures() == {}
    assert second.figures()[key] == 2000


def test_state_directories_that_write_one_file_keep_each_other_s_figures(tmp_path):
    configuration = Configuration(tmp_path)
    configuration.ran("backup", BACKUP)
    second = Configuration(tmp_path, "second.yaml")
    second.ran("verify", {}, at=1500.0)
    for state in (configuration.state / "other", configuration.state / "third"):
        state.mkdir()
        configuration.state = state
        configuration.ran("verify", {"checked": {"bytes": 7}, "missing": [], "damaged": []}, at=2000.0)
    found = configuration.ran("backup", {"error": {}}, 6, at=3000.0)
    assert found["drtool_last_run_timestamp_seconds", ("command", "verify")] == 2000
    assert found["drtool_last_run_exit_code", ("command", "backup")] == 6
    assert found["drtool_last_success_timestamp_seconds", ("command", "backup")] == 1000
    assert second.figures()["drtool_last_run_timestamp_seconds", ("command", "verify")] == 1500


def test_a_file_that_is_named_no_more_loses_the_figures(tmp_path):
    first, second = Configuration(tmp_path), Configuration(tmp_path, "second.yaml")
    for each in (first, second):
        each.owner = replace(each.owner, configured=each.file)
        each.ran("backup", BACKUP)
    old, new = first.file, tmp_path / "new.prom"
    first.owner = replace(first.owner, file=new, configured=new)
    publish(first.state, first.owner, "backup", run("backup", BACKUP))
    assert first.figures() == {}
    assert second.figures() != {}
    withdraw(second.state, second.owner.config)
    assert not old.exists()
    first.path.unlink()
    second.owner = replace(second.owner, file=old)
    second.ran("backup", BACKUP)
    assert not new.exists(), "its configuration is gone"


def test_another_program_s_file_is_never_removed_and_hostile_rows_are_dropped(tmp_path):
    configuration = Configuration(tmp_path)
    configuration.owner = replace(configuration.owner, configured=configuration.file)
    configuration.ran("backup", BACKUP)
    configuration.file.write_text("node_boot_time_seconds 1\n")
    withdraw(configuration.state, configuration.owner.config)
    assert configuration.file.exists()
    rows = ('{"config": "/", "runs": 7}', "[", '{"config": "/", "repository": "x", "runs": {"backup": {}}}')
    configuration.file.write_text("".join(f"# drtool remembers {row}\n" for row in rows))
    assert configuration.ran("backup", BACKUP)
    assert configuration.file.read_text().count("# drtool remembers ") == 1


def test_the_file_holds_no_text_of_problems(configuration):
    found = configuration.ran("status", {**STATUS, "problems": ["hidden"], "notices": ["hidden", "too"]}, 7)
    assert (found["drtool_problems",], found["drtool_notices",]) == (1, 2)
    assert "hidden" not in configuration.file.read_text()
