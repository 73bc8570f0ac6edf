"""The contract of the command line, on real directories: documents, exit codes, pipes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest

READING = {
    ("snapshots",): {"snapshots"},
    ("ls", "latest"): {"snapshot", "entries"},
    ("ls", "-lR", "latest:/"): {"snapshot", "entries"},
    ("status",): {"healthy", "quorum", "sites", "sources", "problems"},
    ("verify",): {
        "level",
        "checked",
        "missing",
        "damaged",
        "affected",
        "repaired",
        "unrepairable",
        "bound_95",
        "wall_seconds",
    },
    ("verify", "--level", "full"): {"level", "checked", "damaged"},
    ("target", "list"): {"epoch", "targets"},
    ("ring", "show"): {"epoch", "copies", "targets"},
    ("manifest", "status"): {"generation", "sequence", "digest", "acceptors", "quorum"},
    ("manifest", "log"): {"entries"},
    ("manifest", "check"): {"problems"},
}
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


@contextmanager
def away(shell, *sites):
    """Make those sites unreachable: their directories are away while the block runs."""
    for site in sites:
        (shell.directory / site).rename(shell.directory / f"{site}.away")
    try:
        yield
    finally:
        for site in sites:
            (shell.directory / f"{site}.away").rename(shell.directory / site)


@pytest.mark.parametrize("words", list(READING), ids=" ".join)
@pytest.mark.spread(7)
def test_json_is_one_document_and_a_pipe_gets_no_control_codes(stored, words):
    machine = stored(*words, "--json")
    assert (machine.code, machine.err) == (0, "")
    assert machine.out.count("\n") == 1
    assert set(machine.document) >= READING[words]
    person = stored(*words)
    assert person.code == 0
    assert person.out
    assert "\x1b" not in person.out + person.err


def test_quiet_prints_nothing_on_success(stored):
    for words in (("snapshots",), ("backup", "--dry-run")):
        done = stored(*words, "-q")
        assert (done.code, done.out, done.err) == (0, "", "")


def test_a_snapshot_as_a_document(stored):
    (row,) = stored("snapshots", "--json").document["snapshots"]
    assert set(row) >= {"id", "time", "host", "user", "source", "paths", "tags", "files", "bytes"}
    assert re.fullmatch("[0-9a-f]{32}", row["id"])
    assert RFC3339.fullmatch(row["time"])
    assert (row["source"], row["tags"], row["files"]) == ("home", ["first"], 4)
    assert row["paths"] == [str(stored.directory / "tree")]
    assert stored("snapshots", "--source", "none", "--json").document["snapshots"] == []


def test_names_that_are_not_text_are_kept(stored):
    machine = stored("ls", "-R", "latest", "--json")
    paths = [entry["path"] for entry in machine.document["entries"]]
    assert any(path.endswith("caf\udce9\n") for path in paths)
    assert "caf\\udce9\\n" in machine.out
    assert all(RFC3339.fullmatch(entry["mtime"]) for entry in machine.document["entries"])
    person = stored("ls", "-R", f"latest:{stored.directory}/tree").out
    assert "caf\\xe9\\x0a" in person
    assert f"{stored.directory}/tree/link -> file" in person


def test_a_backup_as_a_document_and_as_one_line(stored):
    machine = stored("backup", "--dry-run", "--json")
    (row,) = machine.document["snapshots"]
    assert machine.code == 0
    assert set(row) >= {
        "id",
        "source",
        "host",
        "time",
        "parent",
        "files",
        "dirs",
        "errors",
        "processed_bytes",
        "added_bytes",
    }
    assert set(row) >= {"stored_bytes", "wall_seconds", "copies", "degraded", "owed", "manifest_bytes"}
    assert row["files"] == {"new": 0, "changed": 0, "unmodified": 4}
    person = stored("backup", "--dry-run")
    assert len(person.out.splitlines()) == 1
    assert "would store" in person.out
    assert len(stored("snapshots", "--json").document["snapshots"]) == 1


def test_json_lines_end_with_the_document(stored):
    rows = [json.loads(row) for row in stored("backup", "--dry-run", "--json-lines").out.splitlines()]
    assert "opening" in [row["name"] for row in rows if row.get("event") == "stage"]
    assert "snapshots" in rows[-1]


@pytest.mark.parametrize(
    ("words", "code"),
    [(("restore", "feed", "--to", "out"), 1), (("backup", "--no-such-option"), 2), (("backup", "/nowhere/at/all"), 1)],
)
def test_a_failure_with_json_lines_prints_nothing_else(stored, words, code):
    ran = stored(*words, "--json-lines")
    rows = [json.loads(row) for row in ran.out.splitlines()]
    assert ran.code == code
    assert all("event" in row for row in rows[:-1])
    assert rows[-1].get("error") or rows[-1]["failed"]


def test_a_restore_brings_everything_back(stored, tmp_path):
    done = stored("restore", f"latest:{stored.directory}/tree", "--to", str(tmp_path / "out"), "--json")
    assert done.code == 0
    assert set(done.document) >= {
        "snapshot",
        "files",
        "bytes",
        "written_bytes",
        "skipped",
        "deleted",
        "errors",
        "wall_seconds",
    }
    assert (tmp_path / "out/file").read_text() == "hello\n"
    assert os.readlink(tmp_path / "out/link") == "file"
    again = stored("restore", f"latest:{stored.directory}/tree", "--to", str(tmp_path / "out"))
    assert again.code == 11
    assert "--overwrite" in again.err
    same = stored(
        "restore", f"latest:{stored.directory}/tree", "--to", str(tmp_path / "out"), "--overwrite", "always", "--json"
    )
    assert (same.code, same.document["written_bytes"]) == (0, 0)


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (("ls", "ffffffffffffffffffffffffffffffff"), 1, "no_such_snapshot"),
        (("ls", "latest", "--host", "nobody"), 1, "no_such_snapshot"),
        (("ls", "latest:/nonexistent"), 1, "drtool_error"),
        (("restore", "", "--to", "x"), 2, "usage_error"),
        (("backup", "--source", "hmoe"), 2, "usage_error"),
        (("backup", "--exclude-file", "/nonexistent", "/etc"), 2, "usage_error"),
        (("backup", "--time", "yesterday"), 2, "usage_error"),
        (("backup", "/nonexistent"), 1, None),
        (("init",), 11, "refused"),
        (("--password-file", "/nonexistent", "snapshots"), 2, "usage_error"),
    ],
)
def test_failures(stored, words, code, kind):
    done = stored(*words, "--json")
    assert done.code == code
    assert kind is None or done.error["kind"] == kind


def test_a_failure_is_one_sentence_as_text(stored):
    done = stored("ls", "ffff")
    assert (done.code, done.out) == (1, "")
    assert [row.partition(":")[0] for row in done.err.splitlines()] == ["drtool", "hint"]
    nothing = stored("backup", "/nonexistent")
    assert (nothing.code, nothing.err) == (1, "drtool: nothing to back up: /nonexistent does not exist\n")


def test_a_path_that_is_missing_is_listed_beside_one_that_is_stored(stored):
    done = stored("backup", "--dry-run", "tree", "nix", "--json")
    assert done.code == 3
    assert done.document["snapshots"][0]["errors"][0]["path"] == str(stored.directory / "nix")


def test_a_wrong_password(stored):
    done = stored("snapshots", "--json", DRTOOL_PASSWORD="wrong")
    assert (done.code, done.error["kind"]) == (12, "wrong_password")


def test_no_password_and_no_terminal(stored):
    done = stored("snapshots", DRTOOL_PASSWORD="")
    assert done.code == 2
    assert "hint: give --password-file" in done.err


def test_without_a_quorum_the_hint_is_the_complete_command_line(stored):
    with away(stored, "b", "c"):
        done = stored("snapshots", "--tag", "a b", "--json")
        assert (done.code, done.error["kind"]) == (6, "no_quorum")
        assert done.error["hint"].endswith("drtool snapshots --tag 'a b' --json --manifest-from any")
        write = stored("backup", "--json")
        assert (write.code, write.error["kind"]) == (6, "no_quorum")
        assert write.error["hint"].endswith("drtool --json snapshots --manifest-from any")
        assert "drtool manifest recover" in write.error["message"]
        read = stored("snapshots", "--manifest-from", "a", "--json")
        assert (read.code, len(read.document["snapshots"])) == (0, 1)
        assert "tentative" in read.err
        for words in (("status",), ("manifest", "status")):
            told = stored(*words, "--json")
            assert told.code == 6
            assert told.document["quorum"] == {"needed": 2, "reachable": 1}


def test_one_unreachable_site_is_reported_and_stops_nothing(stored):
    with away(stored, "c"):
        done = stored("status", "--json")
        assert done.code in (0, 7)
        assert any("c/main" in problem for problem in done.document["problems"])
        rows = {row["name"]: row for row in stored("target", "list", "--json").document["targets"]}
        assert [rows[name]["reachable"] for name in ("a/main", "b/main", "c/main")] == [True, True, False]
        assert stored("backup", "--dry-run").code in (0, 5)


def test_no_repository(stored):
    with away(stored, "a", "b", "c"):
        done = stored("snapshots", "--json")
    assert done.code == 10
    assert "mount" in done.error["hint"]
    assert "init" not in done.error["hint"], "this host has opened a repository before"


def test_every_reading_command_reports_its_certainty(stored):
    reading = [words for words in READING if words != ("manifest", "log")]
    with away(stored, "b", "c"):
        for words in (*reading, ("session", "list"), ("site", "list")):
            document = stored(*words, "--manifest-from", "any", "--json").document
            assert document["tentative"] is True, words
            assert document["confirmed_sequence"] > 0
    assert stored("snapshots", "--json").document["tentative"] is False


def test_an_unreachable_site_is_not_called_sound(stored):
    with away(stored, "b"):
        done = stored("verify", "--site", "b")
    assert "nothing missing" not in done.out
    assert done.code == 5


def test_verbose_twice_names_the_phases(stored):
    told = stored("-vv", "snapshots").err
    assert "election: " not in stored("-v", "snapshots").err
    assert "election: " in told
    assert "Note(" not in told


def test_no_configuration(shell):
    done = shell("snapshots", "--json")
    assert done.code == 2
    assert "drtool init" in done.error["hint"]


def test_an_unknown_key_is_reported_with_its_place_and_the_nearest_key(shell):
    (shell.directory / "drtool.yaml").write_text("repository: x\nsitse: {}\n")
    done = shell("snapshots", "--json")
    assert (done.code, done.error["kind"]) == (2, "config_error")
    assert (
        f"{shell.directory}/drtool.yaml:2:1: sitse: unknown key 'sitse'; the nearest known one is 'sites'" in done.out
    )


def test_init_writes_a_readable_configuration_and_never_replaces_one(shell):
    done = shell("init", "--json", "--copies", "3")
    assert done.code == 0
    assert set(done.document) >= {"repository_id", "sites", "config"}
    assert done.document["sites"] == {site: [f"{site}/main"] for site in ("one", "two", "three")}
    assert "demonstration" in done.err
    config = shell.directory / "drtool.yaml"
    assert done.document["config"] == str(config)
    keys = [row.partition(":")[0] for row in config.read_text().splitlines() if row[:1].isalpha()]
    assert keys == ["repository", "sites", "redundancy"]
    assert shell("ring", "show", "--json").document["copies"] == 3
    before = config.read_text()
    assert shell("init").code == 11
    assert config.read_text() == before
    with config.open("a") as more:
        more.write("sources: {here: {paths: [.]}}\n")
    assert (shell.directory / "state").stat().st_mode & 0o777 == 0o700


def test_init_uses_the_sites_of_an_existing_configuration(shell):
    text = "repository: mine\nsites: {x: {one: {url: x}, two: {url: y}}, y: {main: {url: z, keys: false}}}\n"
    (shell.directory / "drtool.yaml").write_text(text)
    done = shell("init", "--json")
    assert done.document["sites"] == {"x": ["x/one", "x/two"], "y": ["y/main"]}
    assert (shell.directory / "drtool.yaml").read_text() == text
    assert [any((shell.directory / name / "keys").glob("*")) for name in ("x", "y", "z")] == [True, True, False]


@pytest.mark.parametrize(
    "words",
    [
        ("--target", "paris"),
        ("--target", "pa ris=/x"),
        ("--target", "paris=ftp://bucket/x"),
        ("--target", "a=x", "--target", "a/main=y"),
        ("--target", "a=x", "--copies", "2"),
        ("--copies", "0"),
    ],
)
def test_init_refuses_invalid_targets(shell, words):
    assert shell("init", *words, "--json").code == 2
    assert not (shell.directory / "drtool.yaml").exists()


def test_a_reader_that_leaves_early_is_not_a_failure(stored):
    command = f"{sys.executable} -m drtool ls -R latest; echo $? >&2"
    environ = {**os.environ, **stored.environ}
    done = subprocess.run(
        ["bash", "-c", f"({command}) | true"],
        cwd=stored.directory,
        env=environ,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == b"0\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.spread(3)
def test_a_signal_ends_it_with_one_sentence(shell, number, code):
    (shell.directory / "drtool.yaml").write_text("sites: {a: {main: {url: a}}}\n")
    environ = {
        **os.environ,
        **shell.environ,
        "DRTOOL_PASSWORD": "",
        "DRTOOL_PASSWORD_COMMAND": "sh -c 'touch asked; sleep 60'",
    }
    running = subprocess.Popen(
        [sys.executable, "-m", "drtool", "--json", "init"],
        cwd=shell.directory,
        env=environ,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509 - the tests may run under nohup
    )
    while not (shell.directory / "asked").exists():
        time.sleep(0.02)
    running.send_signal(number)
    out, _ = running.communicate(timeout=30)
    with suppress(ProcessLookupError):  # the signal may have come before `sleep` began
        os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == code
    assert json.loads(out)["error"]["kind"] == "interrupted"
