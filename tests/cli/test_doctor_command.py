"""`drtool doctor` as text and JSON: each finding is provoked for real, and --read-only writes nothing."""

import glob
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import seaweed
import sshd
from command_shell import shell_in
from hanging_mount import hung_mount
from three_sites import portrait

from drtool.stores.scratch import OLD_S, new_label


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    """A repository at a, b and c, copied for each test that changes something."""
    made = shell_in(tmp_path_factory.mktemp("founded"))
    assert made("init", *(word for site in "abc" for word in ("--target", f"{site}={site}"))).code == 0
    # Moved to a place that no catalogue names, since otherwise each copy would be a duplicated target.
    for site in "abc":
        (made.directory / site).rename(made.directory / f"{site}-apart")
    return made


@pytest.fixture
def shell(founded, tmp_path):
    made = shell_in(tmp_path)
    made.environ["HOME"] = str(tmp_path)
    for name in ("a-apart", "b-apart", "c-apart", "state", "drtool.yaml"):
        place = founded.directory / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, tmp_path / name.removesuffix("-apart"))
    config = tmp_path / "drtool.yaml"
    config.write_text(config.read_text().replace(str(founded.directory), str(tmp_path)))
    return made


def found(done, what, level=None):
    """Return the findings of one kind."""
    return [row for row in done.document["findings"] if row["what"] == what and level in (None, row["level"])]


def append(shell, text):
    with (shell.directory / "drtool.yaml").open("a") as config:
        config.write(text)


def test_a_healthy_repository_and_measurements_of_every_target(shell):
    done = shell("doctor", "--json")
    assert (done.code, done.document["healthy"]) == (0, True), done.out
    assert [row["name"] for row in done.document["targets"]] == ["a/main", "b/main", "c/main"]
    for row in done.document["targets"]:
        assert (row["reachable"], row["conditional_writes"], row["votes"]) == (True, True, True)
        assert 0 < row["latency_seconds"] < 10
        assert abs(row["clock_skew_seconds"]) < 5
        assert row["free_bytes"] > 0
    assert len(found(done, "write", "ok")) == 3
    assert found(done, "quorum", "ok")
    versions = {row["where"] for row in found(done, "version", "note")}
    assert {"drtool", "python", "blake3", "zstandard"} <= versions
    assert not (shell.directory / "a/probe").exists()


def test_the_text_has_a_table_and_advice(shell):
    (shell.directory / "b").rename(shell.directory / "elsewhere")
    done = shell("doctor")
    assert done.code == 1
    assert "error: b/main: there is no directory" in done.out
    assert "    mount it" in done.out
    assert "needs attention: 1 error" in done.out
    assert "TARGET" in done.out


def test_sites_on_one_device_are_one_failure_domain(shell):
    (row,) = found(shell("doctor", "--json"), "one-failure-domain", "warning")
    assert row["where"] == "a, b, c"
    assert "one file system, mounted at /" in row["message"]


def test_read_only_changes_no_byte_and_makes_no_directory(shell):
    shutil.rmtree(shell.directory / "state")
    before = portrait(shell.directory)
    done = shell("doctor", "--read-only", "--json")
    assert done.code == 0, done.out
    assert portrait(shell.directory) == before
    assert {row["conditional_writes"] for row in done.document["targets"]} == {None}
    assert {row["clock_skew_seconds"] for row in done.document["targets"]} == {None}
    assert not found(done, "write")


def test_without_read_only_only_probe_is_touched_and_nothing_is_left_behind(shell):
    def contents():
        return {name: entry[:3] for name, entry in portrait(shell.directory).items()}

    before = contents()
    assert shell("doctor").code == 0
    assert contents().keys() == before.keys()


def test_faults_of_the_configuration_are_reported_by_line_and_the_other_checks_run(shell):
    append(shell, "redundnacy: {copies: 2}\nlimits: {workers: many}\n")
    done = shell("doctor", "--json")
    assert done.code == 2
    rows = found(done, "config", "error")
    lines = (shell.directory / "drtool.yaml").read_text().count("\n")
    assert [row["where"].split(":")[1] for row in rows] == [str(lines - 1), str(lines)]
    assert "nearest known one is 'redundancy'" in rows[0]["message"]
    assert all(row["reachable"] for row in done.document["targets"])
    assert found(done, "quorum", "ok")


def test_a_faulty_target_does_not_stop_the_checks_of_the_others(shell):
    config = shell.directory / "drtool.yaml"
    config.write_text(config.read_text().replace("sites:", "sites:\n  x: {main: {url: s3://, weight: 0}}", 1))
    done = shell("doctor", "--json")
    assert done.code == 2
    assert [row["name"] for row in done.document["targets"]] == ["a/main", "b/main", "c/main"]


def test_invalid_yaml_does_not_stop_the_checks_of_this_host(shell):
    (shell.directory / "drtool.yaml").write_text("sites: [\n")
    done = shell("doctor", "--json")
    assert done.code == 2
    assert "not YAML" in found(done, "config", "error")[0]["message"]
    assert found(done, "version")
    assert done.document["targets"] == []


def test_no_configuration_is_a_finding(tmp_path):
    shell = shell_in(tmp_path)
    shell.environ |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "none")}
    done = shell("doctor", "--json")
    assert done.code == 2
    assert "no configuration found" in found(done, "config", "error")[0]["message"]


def test_a_wrong_password_does_not_stop_the_checks_of_the_targets(shell):
    done = shell("doctor", "--json", DRTOOL_PASSWORD="battery staple")
    assert done.code == 1
    assert found(done, "wrong-password", "error")
    assert all(row["reachable"] and row["votes"] is None for row in done.document["targets"])
    assert len(found(done, "write", "ok")) == 3


def test_no_password_at_all(shell):
    del shell.environ["DRTOOL_PASSWORD"]
    done = shell("doctor", "--json")
    assert done.code == 1
    (row,) = found(done, "password", "error")
    assert "--password-file" in row["hint"]
    assert all(row["reachable"] for row in done.document["targets"])


def test_modes_of_secret_files(shell):
    secret = shell.directory / "secret"
    secret.write_text("correct horse\n")
    secret.chmod(0o644)
    (shell.directory / "state").chmod(0o755)
    done = shell("--password-file", "secret", "doctor", "--json")
    assert done.code == 0
    assert found(done, "password-file-mode", "warning")[0]["hint"] == f"chmod 600 {secret.name}"
    assert found(done, "state-directory-mode", "warning")
    secret.chmod(0o600)
    (shell.directory / "state").chmod(0o700)
    done = shell("--password-file", "secret", "doctor", "--json")
    assert not found(done, "password-file-mode")
    assert not found(done, "state-directory-mode")


def test_a_missing_password_program_and_missing_files(shell):
    del shell.environ["DRTOOL_PASSWORD"]
    append(shell, "password_command: [no-such-program, x]\n")
    done = shell("doctor", "--json")
    assert found(done, "tool-missing", "error")[0]["where"] == "no-such-program"
    done = shell("--password-file", "nowhere", "doctor", "--json")
    assert "cannot be read" in found(done, "password", "error")[0]["message"]


def test_no_quorum_is_a_finding_and_one_voter_less_a_warning(shell):
    (shell.directory / "a").rename(shell.directory / "gone")
    done = shell("doctor", "--json")
    assert found(done, "quorum", "warning")
    assert [row["where"] for row in found(done, "unreachable", "error")] == ["a/main"]
    (shell.directory / "b").rename(shell.directory / "gone-too")
    done = shell("doctor", "--json")
    assert done.code == 1
    assert "2 voters, and 1 of 3" in found(done, "no-quorum", "error")[0]["message"]


def test_an_unmounted_disk_is_not_written_to(shell):
    shutil.rmtree(shell.directory / "c")
    (shell.directory / "c").mkdir()
    done = shell("doctor", "--json")
    assert [row["where"] for row in found(done, "no-repository", "error")] == ["c/main"]
    assert list((shell.directory / "c").iterdir()) == []


def test_swapped_targets_and_another_repository(shell, tmp_path_factory):
    config = shell.directory / "drtool.yaml"
    text = config.read_text()
    other = shell_in(tmp_path_factory.mktemp("other"))
    assert other("init", "--target", "c=c", "--copies", "1").code == 0
    before = portrait(other.directory / "c")
    config.write_text(text.replace(str(shell.directory / "c"), str(other.directory / "c")))
    done = shell("doctor", "--json")
    assert [row["where"] for row in found(done, "another-repository", "error")] == ["c/main"]
    assert portrait(other.directory / "c") == before
    a, b = str(shell.directory / "a"), str(shell.directory / "b")
    config.write_text(text.replace(a, "@").replace(b, a).replace("@", b))
    done = shell("doctor", "--json")
    assert [row["where"] for row in found(done, "wrong-target", "error")] == ["a/main", "b/main"]


def test_nested_places_and_unknown_targets(shell):
    config = shell.directory / "drtool.yaml"
    text = config.read_text()
    inside = f"sites:\n  x: {{main: {{url: {shell.directory}/a/inside}}}}"
    config.write_text(text.replace("sites:", inside, 1))
    done = shell("doctor", "--json")
    assert found(done, "overlap", "error")[0]["where"] == "x/main, a/main"
    config.write_text("".join(line for line in text.splitlines(True)).replace("  c:", "  d:"))
    done = shell("doctor", "--json")
    assert [row["where"] for row in found(done, "unnamed-target", "note")] == ["c/main"]


def test_known_targets_that_the_configuration_does_not_name_are_checked(shell):
    added = shell.directory / "d"
    assert shell("target", "add", "d", str(added)).code == 0
    done = shell("doctor", "--json")
    (row,) = found(done, "known-target", "warning")
    assert (row["where"], str(added) in row["message"], done.code) == ("d/main", True, 0)
    assert [row["reachable"] for row in done.document["targets"]] == [True] * 4
    assert not found(done, "unnamed-target")
    added.rename(shell.directory / "gone")
    done = shell("doctor", "--json")
    assert (done.code, [row["where"] for row in found(done, "unreachable", "error")]) == (1, ["d/main"])


def test_a_target_replaced_under_its_name_is_checked_where_this_host_reached_it(shell):
    new = shell.directory / "new"
    assert shell("site", "replace", "b", f"b={new}").code == 0
    (row,) = found(shell("doctor", "--json"), "known-target", "warning")
    assert (row["where"], str(new) in row["message"], str(shell.directory / "b") in row["message"]) == (
        "b/main",
        True,
        True,
    )


def test_missing_sources_and_sources_that_contain_targets(shell):
    append(shell, f"sources: {{home: {{paths: [nowhere, {shell.directory}]}}}}\n")
    done = shell("doctor", "--json")
    assert done.code == 0
    assert [row["message"].rpartition("/")[2] for row in found(done, "source-missing", "warning")] == [
        "nowhere is not there"
    ]
    told = " ".join(row["message"] for row in found(done, "source-contains", "warning"))
    assert "target a/main" in told
    assert "cache directory" in told


def test_sources_that_could_not_be_captured(shell):
    sources = (
        "{good: {stream: {command: ['true']}}, bad: {stream: {command: [no-such-program]}}, db: {sqlite: {path: x.db}}}"
    )
    append(shell, f"sources: {sources}\n")
    done = shell("doctor", "--json")
    assert done.code == 1
    told = {row["where"]: row["message"] for row in found(done, "source-uncapturable", "error")}
    assert sorted(told) == ["source bad", "source db"]
    assert "no-such-program" in told["source bad"]


@pytest.fixture
def disk(tmp_path_factory):
    """A small file system of its own, which needs root."""
    point = tmp_path_factory.mktemp("disk")
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", point], capture_output=True
    ).returncode:
        pytest.skip("may not mount")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


def make_read_only(disk):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def test_a_full_and_then_read_only_place(shell, disk):
    shutil.copytree(shell.directory / "c", disk, dirs_exist_ok=True)
    shutil.rmtree(shell.directory / "c")
    config = shell.directory / "drtool.yaml"
    config.write_text(config.read_text().replace(str(shell.directory / "c"), str(disk)))
    done = shell("doctor", "--json")
    assert [row["where"] for row in found(done, "room", "warning")] == ["c/main"]
    assert found(done, "one-failure-domain")[0]["where"] == "a, b"
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        while os.statvfs(disk).f_bavail:
            ballast.write(bytes(4096))
    done = shell("doctor", "--json")
    assert "no room left" in found(done, "write", "error")[0]["message"]
    assert list(disk.rglob("probe/*/*")) == []
    (disk / "ballast").unlink()
    make_read_only(disk)
    done = shell("doctor", "--json")
    assert [row["where"] for row in found(done, "write", "error")] == ["c/main"]
    assert "read-only" in found(done, "write", "error")[0]["message"]


def test_the_state_on_a_read_only_disk(shell, disk):
    make_read_only(disk)
    done = shell("doctor", "--json", DRTOOL_STATE_DIR=str(disk / "state"), DRTOOL_CACHE_DIR=str(disk))
    assert done.code == 1
    assert found(done, "state-directory", "error")
    assert found(done, "cache-directory", "error")
    assert found(done, "quorum", "ok")


@pytest.mark.thorough
def test_a_hanging_check_costs_seconds_and_the_others_run(shell):
    point = shell.directory / "hung"
    point.mkdir()
    config = shell.directory / "drtool.yaml"
    config.write_text(config.read_text().replace(str(shell.directory / "c"), str(point)))
    with hung_mount(point):
        began_s = time.monotonic()
        done = shell("doctor", "--json")
        assert time.monotonic() - began_s < 45
    assert [row["where"] for row in found(done, "unreachable", "error")] == ["c/main"]
    assert [row["reachable"] for row in done.document["targets"]] == [True, True, False]
    assert len(found(done, "write", "ok")) == 2


def faketime(shift):
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not libraries:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("faketime is not here: apt-get install faketime")
    return {"LD_PRELOAD": libraries[0], "FAKETIME": shift, "NO_FAKE_STAT": "1"}


def test_a_wrong_clock_is_detected_from_the_times_of_disks(shell):
    done = shell("doctor", "--json", **faketime("+10m"))
    assert done.out, (done.code, done.err)
    assert [row["where"] for row in found(done, "clock", "warning")] == ["a/main", "b/main", "c/main"]
    assert done.document["targets"][0]["clock_skew_seconds"] == pytest.approx(-600, abs=30)
    assert done.code == 0
    assert not found(shell("doctor", "--read-only", "--json", **faketime("+10m")), "clock")


def test_few_open_files_and_core_dumps(shell):
    words = 'ulimit -n 200; ulimit -c unlimited; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", words, "-", sys.executable, "-m", "drtool", "doctor", "--json"],
        cwd=shell.directory,
        env={**os.environ, **shell.environ},
        capture_output=True,
    )
    assert b'"open-files"' in done.stdout
    assert b'"core-dumps"' in done.stdout


def test_old_remains_of_probes_are_removed_and_new_ones_stay(shell):
    for label in (new_label(time.time() - OLD_S - 60), new_label(time.time())):
        place = shell.directory / "a/probe" / label
        place.mkdir(parents=True)
        (place / "several-1").write_bytes(b"x" * 1000)
        (place / ".tmp-0123456789abcdef").write_bytes(b"x" * 1000)
    done = shell("doctor", "--json")
    assert [row["where"] for row in found(done, "leftovers", "note")] == ["a/main"]
    assert [path.name for path in (shell.directory / "a/probe").iterdir()] == [label]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A disk, a bucket and an SSH server. Tests leave them unchanged."""
    servers = seaweed.shared(), sshd.shared()
    shell = shell_in(directory := tmp_path_factory.mktemp("mixed"))
    shell.environ |= {"HOME": str(directory), "AWS_EC2_METADATA_DISABLED": "true"}
    shell.environ |= {"AWS_ACCESS_KEY_ID": seaweed.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET_KEY}
    bucket = f"s3://{seaweed.BUCKET}/{directory.name}?endpoint={servers[0].endpoint}"
    (directory / "key").write_bytes(servers[1].identity.read_bytes())
    (directory / "key").chmod(0o600)
    url = servers[1].url(directory / "box").replace(str(servers[1].identity), str(directory / "key"))
    done = shell(
        "init", "--target", f"a={directory / 'a'}", "--target", f"b={bucket}", "--target", f"c={url}", "--json"
    )
    assert done.code == 0, done.out
    return shell


@pytest.mark.thorough
def test_servers_are_measured_and_tried(mixed):
    done = mixed("doctor", "--json")
    assert done.code == 0, done.out
    by_name = {row["name"]: row for row in done.document["targets"]}
    for row in by_name.values():
        assert (row["reachable"], row["conditional_writes"], row["votes"]) == (True, True, True)
        assert abs(row["clock_skew_seconds"]) < 5
    assert by_name["b/main"]["free_bytes"] is None
    assert by_name["c/main"]["free_bytes"] > 0
    assert not (mixed.directory / "box/probe").exists()
    assert not found(done, "one-failure-domain")
    for row in mixed("doctor", "--read-only", "--json").document["targets"]:
        assert (row["reachable"], row["conditional_writes"]) == (True, None)


@pytest.mark.thorough
def test_an_hour_off_is_an_error_where_requests_are_signed(mixed):
    done = mixed("doctor", "--json", **faketime("+1h"))
    assert done.code == 1
    assert [row["where"] for row in found(done, "clock", "error")] == ["b/main"]
    assert {row["where"] for row in found(done, "clock", "warning")} == {"a/main", "c/main"}


@pytest.mark.thorough
def test_an_ssh_key_that_others_may_read_or_that_is_missing(mixed):
    (mixed.directory / "key").chmod(0o644)
    assert found(mixed("doctor", "--read-only", "--json"), "ssh-files-mode", "warning")
    (mixed.directory / "key").rename(mixed.directory / "kept")
    done = mixed("doctor", "--read-only", "--json")
    (mixed.directory / "kept").rename(mixed.directory / "key")
    (mixed.directory / "key").chmod(0o600)
    assert found(done, "ssh-files", "error")
    assert [row["where"] for row in found(done, "unreachable", "error")] == ["c/main"]


@pytest.mark.thorough
def test_old_remains_at_servers_are_removed(mixed):
    label = new_label(time.time() - OLD_S - 60)
    (mixed.directory / "box/probe" / label).mkdir(parents=True)
    (mixed.directory / "box/probe" / label / ".tmp-0123456789abcdef").write_bytes(b"x")
    key = f"{mixed.directory.name}/probe/{label}/several-1"
    client = seaweed.shared().client()
    client.put_object(Bucket=seaweed.BUCKET, Key=key, Body=b"x")
    done = mixed("doctor", "--json")
    assert {row["where"] for row in found(done, "leftovers", "note")} == {"b/main", "c/main"}
    assert not (mixed.directory / "box/probe").exists()
    assert client.list_objects_v2(Bucket=seaweed.BUCKET, Prefix=key).get("KeyCount", 0) == 0


def spoil(marker):
    marker.write_bytes(marker.read_bytes()[:100])


@pytest.mark.parametrize("damage", [spoil, Path.unlink])
def test_a_damaged_marker_is_an_error_that_repair_corrects(shell, damage):
    damage(shell.directory / "b" / "drtool.json")
    done = shell("doctor", "--json")
    assert (done.code, done.document["healthy"]) == (1, False)
    assert [(row["where"], row["hint"]) for row in found(done, "marker", "error")] == [("b/main", "drtool repair")]
    assert not found(done, "no-repository")
    assert "to repair: drtool.json at b/main would be written again" in shell("repair", "--dry-run").out
    assert shell("doctor").code == 1
    assert shell("repair").code == 0
    assert shell("doctor").code == 0


def test_the_advice_for_a_wiped_site_works_when_it_is_pasted(shell):
    shutil.rmtree(shell.directory / "b")
    (shell.directory / "b").mkdir()
    (row,) = found(shell("doctor", "--json"), "no-repository", "error")
    advised = shlex.split(row["hint"].partition("exchanged: ")[2].partition(", and then")[0])
    assert advised[:4] == ["drtool", "site", "replace", "b"]
    done = shell(*advised[1:])
    assert done.code == 0, done.err
    assert "`drtool repair` makes the copies that the new place lacks" in done.out
    assert shell("repair").code == 0
    assert shell("status").code == 0
