"""The examples are copied as they are: what they say must be a command, and what they tell must hold."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import seaweed
import sshd

from drtool.config import load_config

EXAMPLES = Path(__file__).parents[2] / "examples"
UNITS = sorted((EXAMPLES / "systemd").glob("*.service")) + sorted((EXAMPLES / "systemd").glob("*.timer"))
FIELD = re.compile(r"\*|\d+(-\d+)?(,\d+(-\d+)?)*|\*/\d+")


def lines_of(path):
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def commands():
    """Every drtool command line of the examples."""
    for line in lines_of(EXAMPLES / "cron" / "drtool.cron"):
        if " drtool " in line:
            yield line[line.index("drtool ") :]
    for unit in UNITS:
        for line in lines_of(unit):
            if line.startswith("ExecStart=/usr/local/bin/drtool"):
                yield "drtool" + line.partition("bin/drtool")[2]
    for readme in EXAMPLES.glob("*/README.md"):
        yield from (line.partition("  ")[0] for line in lines_of(readme) if line.startswith("drtool "))


@pytest.mark.parametrize("command", sorted(set(commands())))
@pytest.mark.spread(7)
def test_every_command_line_is_one_that_there_is(command, tmp_path):
    """Read by the program itself: an option or a command that it does not know is exit 2 before anything is opened."""
    words = command.partition("&&")[0].partition("#")[0].split()[1:]
    done = subprocess.run(
        [sys.executable, "-m", "drtool", *words],
        env=os.environ | {"DRTOOL_CONFIG": str(tmp_path / "none.yaml"), "DRTOOL_PASSWORD": "x"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert not re.search(
        "no such (option|command)|missing argument|not built yet|unexpected", done.stderr, re.IGNORECASE
    ), done.stderr


def test_cron_lines_have_five_fields_and_a_user():
    lines = [line for line in lines_of(EXAMPLES / "cron" / "drtool.cron") if "=" not in line.split()[0]]
    assert len(lines) >= 4
    for line in lines:
        *fields, user = line.split()[:6]
        assert all(FIELD.fullmatch(field) for field in fields), line
        assert user == "root"


def test_the_configuration_is_one():
    config = load_config(EXAMPLES / "three-sites" / "drtool.yaml")
    assert sorted(config.sites) == ["attic", "cloud", "desk"]


def test_systemd_understands_the_units(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    for unit in UNITS:
        text = unit.read_text().replace("/usr/local/bin/drtool", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [analyze, "verify", *(tmp_path / unit.name for unit in UNITS if "@" not in unit.name)],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
    )
    told = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "drtool" in line]
    assert [line for line in told if "man page" not in line and "man drtool" not in line] == []


@pytest.fixture
def short():
    """A directory with a short name: the servers' sockets are in it."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    yield place
    shutil.rmtree(place)


@pytest.mark.thorough
def test_three_sites_hold_what_they_tell(short):
    seaweed.demand()
    sshd.demand()
    done = subprocess.run(
        [sys.executable, EXAMPLES / "three-sites" / "run.py"],
        env=os.environ | {"TMPDIR": str(short)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every claim above was checked" in done.stdout
    assert list(short.iterdir()) == []


@pytest.mark.thorough
def test_servers_to_play_with_can_be_used_as_they_are_told(tmp_path, short):
    seaweed.demand()
    sshd.demand()
    child = subprocess.Popen(
        [sys.executable, EXAMPLES / "servers.py"],
        env=os.environ | {"TMPDIR": str(short)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        told = ""
        while "pkill -9 -f -- -s3.port" not in told.rpartition("rome")[0] and (line := child.stdout.readline()):
            told += line
        exports = dict(
            line.removeprefix("export ").split("=", 1) for line in told.splitlines() if line.startswith("export ")
        )
        (tmp_path / "drtool.yaml").write_text(told[told.index("repository:") : told.index("# then")])
        shell = (
            os.environ | exports | {"DRTOOL_CONFIG": str(tmp_path / "drtool.yaml"), "DRTOOL_PASSWORD": "horse battery"}
        )
        shell |= {"DRTOOL_STATE_DIR": str(tmp_path / "state"), "DRTOOL_CACHE_DIR": str(tmp_path / "cache")}
        for words in (["init"], ["backup", str(EXAMPLES)], ["status"]):
            done = subprocess.run([sys.executable, "-m", "drtool", *words], env=shell, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    finally:
        child.send_signal(signal.SIGTERM)
        child.stdout.close()
        assert child.wait(30) == 0
    assert list(short.iterdir()) == []
