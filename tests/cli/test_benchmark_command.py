"""`drtool benchmark`: real measurements at real targets, which are bounded, removed afterwards, and harmless if left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import seaweed
import sshd
from command_shell import shell_in

from drtool.stores.scratch import OLD_S, new_label

QUICK = ("--seconds", "0.4", "--size", "8MiB")
RATES = (
    *("put_bytes_per_second", "parallel_put_bytes_per_second"),
    *("get_bytes_per_second", "parallel_get_bytes_per_second"),
)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A repository at a, b and c with a snapshot. Tests leave it unchanged."""
    made = shell_in(tmp_path_factory.mktemp("benchmark"))
    assert made("init", *(word for site in "abc" for word in ("--target", f"{site}={site}"))).code == 0
    (made.directory / "tree").mkdir()
    (made.directory / "tree/file").write_bytes(os.urandom(2_000_000))
    assert made("backup", "tree").code == 0
    del made.environ["DRTOOL_PASSWORD"]
    return made


def test_only_the_machine_is_measured(shell):
    done = shell("benchmark", "--no-targets", "--json")
    assert done.code == 0, done.err
    machine, targets = done.document["machine"], done.document["targets"]
    assert targets == []
    rates = [name for name in machine if name.endswith("_bytes_per_second")]
    assert len(rates) == 8
    assert all(machine[name] > 100_000 for name in rates)
    assert [row["level"] for row in machine["compression"] if row["used"]] == [3]
    assert all(row["ratio"] > 2 for row in machine["compression"])
    assert "a/main, b/main, c/main not measured" in done.document["advice"][-1]


def test_every_target_is_measured_and_nothing_is_left_behind(shell):
    done = shell("benchmark", *QUICK, "--json")
    assert done.code == 0, done.out
    assert [row["name"] for row in done.document["targets"]] == ["a/main", "b/main", "c/main"]
    for row in done.document["targets"]:
        assert all(row[name] > 10_000 for name in RATES)
        assert 0 < row["latency_seconds"] <= row["latency_p95_seconds"]
        assert row["parallel"] == 3
    assert all(text.startswith(("measured: ", "computed: ")) for text in done.document["advice"])
    assert "100 GiB" in done.document["advice"][-1]
    assert not any((shell.directory / site / "probe").exists() for site in "abc")


@pytest.mark.thorough
def test_chosen_targets_as_text(shell):
    done = shell("benchmark", "--target", "b/main", *QUICK)
    assert done.code == 0
    assert "b/main" in done.out
    assert "a/main  " not in done.out
    assert "MiB/s" in done.out
    assert "compress text, level 3" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "b/mian"), "nearest known one is 'b/main'"),
        (("--size", "12"), "at least 1MiB"),
        (("--size", "big"), "not a size"),
        (("--seconds", "0"), "more than 0"),
    ],
)
def test_invalid_options_exit_with_2(shell, words, message):
    done = shell("benchmark", *words, "--json")
    assert (done.code, message in done.error["message"]) == (2, True), done.out


def test_an_unreachable_target_exits_with_1_and_the_others_are_measured(shell):
    (shell.directory / "b").rename(shell.directory / "gone")
    try:
        done = shell("benchmark", *QUICK, "--json")
    finally:
        (shell.directory / "gone").rename(shell.directory / "b")
    assert done.code == 1
    by_name = {row["name"]: row for row in done.document["targets"]}
    assert "no directory" in by_name["b/main"]["problem"]
    assert by_name["b/main"]["put_bytes_per_second"] is None
    assert by_name["c/main"]["problem"] is None
    assert "b/main not measured" in done.document["advice"][-1]


def test_nothing_is_written_without_the_marker_of_the_target(shell, tmp_path):
    config = (shell.directory / "drtool.yaml").read_text()
    (tmp_path / "empty").mkdir()
    swapped = config.replace(str(shell.directory / "a"), str(tmp_path / "empty"))
    swapped = swapped.replace(str(shell.directory / "b"), str(shell.directory / "c"))
    (shell.directory / "other.yaml").write_text(swapped)
    done = shell("--config", "other.yaml", "benchmark", *QUICK, "--json")
    assert done.code == 1
    assert [bool(row["problem"]) for row in done.document["targets"]] == [True, True, False]
    assert "its marker says that it is c/main" in done.document["targets"][1]["problem"]
    assert list((tmp_path / "empty").iterdir()) == []


def begun(shell, *words):
    """A run that is in the middle of writing to a."""
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "drtool",
            "benchmark",
            "--target",
            "a/main",
            "--seconds",
            "60",
            "--size",
            "64MiB",
            *words,
        ],
        cwd=shell.directory,
        env={**os.environ, **shell.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ends_at = time.monotonic() + 60
    while not list((shell.directory / "a").glob("probe/*/one-*")):
        assert time.monotonic() < ends_at
        assert running.poll() is None
        time.sleep(0.002)
    return running


@pytest.mark.thorough
def test_an_interruption_leaves_nothing_behind(shell):
    running = begun(shell)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert not (shell.directory / "a/probe").exists()


@pytest.mark.thorough
def test_leftovers_of_a_killed_run_are_harmless_and_the_next_run_removes_them(shell):
    running = begun(shell)
    running.kill()
    running.wait()
    (left,) = (shell.directory / "a/probe").iterdir()
    assert list(left.iterdir())
    with_password = {"DRTOOL_PASSWORD": "correct horse"}
    assert shell("status", **with_password).code == 0
    assert shell("verify", "--level", "full", **with_password).code == 0
    done = shell("prune", "--json", **with_password)
    assert done.code == 0, done.out
    assert list(left.iterdir())
    assert shell("repair", **with_password).code == 0
    assert shell("restore", "latest", "--to", "restored", **with_password).code == 0
    left.rename(left.with_name(new_label(time.time() - OLD_S - 60)))
    assert shell("benchmark", "--target", "a/main", *QUICK).code == 0
    assert not (shell.directory / "a/probe").exists()
    shutil.rmtree(shell.directory / "restored")


@pytest.mark.thorough
def test_servers(tmp_path):
    shell = shell_in(tmp_path)
    shell.environ |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    shell.environ |= {"AWS_ACCESS_KEY_ID": seaweed.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET_KEY}
    bucket = f"s3://{seaweed.BUCKET}/{tmp_path.name.replace('_', '-')}?endpoint={seaweed.shared().endpoint}"
    box = sshd.shared().url(tmp_path / "box")
    rows = [f"  a: {{main: {{url: '{tmp_path}/a'}}}}"]
    rows += [f"  {site}: {{main: {{url: '{url}', vote: false}}}}" for site, url in (("b", bucket), ("c", box))]
    (tmp_path / "drtool.yaml").write_text("\n".join(["sites:", *rows, ""]))
    done = shell("init")
    assert done.code == 0, done.err
    done = shell("benchmark", "--target", "b/main", "--target", "c/main", *QUICK, "--json")
    assert done.code == 0, done.out
    for row in done.document["targets"]:
        assert all(row[name] > 10_000 for name in RATES)
    assert "transfers at once to b/main" in " ".join(done.document["advice"])
    assert not (tmp_path / "box/probe").exists()
    rows = (
        seaweed.shared()
        .client()
        .list_objects_v2(Bucket=seaweed.BUCKET, Prefix=f"{tmp_path.name.replace('_', '-')}/probe")
    )
    assert rows.get("KeyCount", 0) == 0
