"""The weekly proof as the examples have it: their crontab lines are really run as cron runs them, and timers say the same."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from command_shell import Ran, shell_in
from followed_page import program_in
from three_sites import fill, noise

ROOT = Path(__file__).parents[2]
CRONTAB = (ROOT / "examples/cron/drtool.cron").read_text()
SETTING = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)
WEEKLY = "plan run weekly-verify"


def commands():
    """What the crontab runs as root."""
    return [line.split("root", 1)[1].strip() for line in CRONTAB.splitlines() if line[:1].isdigit()]


class Cron:
    """A host whose crontab is the example's."""

    def __init__(self, directory):
        self.shell = shell_in(directory)
        self.shell.environ.pop("DRTOOL_PASSWORD")
        self.told = directory / "told"
        (directory / "password").write_text("correct horse\n")
        (directory / "password").chmod(0o600)
        targets = [word for site in "abc" for word in ("--target", f"{site}={directory / site}")]
        assert self.shell("init", *targets, "--password-file", "password").code == 0
        (directory / "plans").mkdir()
        shutil.copy(ROOT / "plans/weekly-verify.yaml", directory / "plans")
        source = fill(directory / "home", {f"{n}": noise(300_000, n) for n in range(4)})
        with (directory / "drtool.yaml").open("a") as config:
            config.write(f"sources:\n  home: {{paths: [{source}]}}\npassword_file: password\n")
            config.write("retention: {keep_daily: 7}\nschedule: {verify: off, repair: weekly sun 02:00}\n")
            config.write(f"notify:\n  channels:\n    ops: {{command: [sh, -c, 'cat >> {self.told}']}}\n")
        self.bin = program_in(directory / "bin").parent

    def run(self, words):
        """The line of the crontab that ends so: through its shell, with its settings and few others, and without a terminal."""
        (command,) = [command for command in commands() if command.endswith(words)]
        settings = dict(SETTING.findall(CRONTAB))
        directory = self.shell.directory
        environ = self.shell.environ | settings | {"HOME": str(directory), "LOGNAME": "root"}
        environ |= {"PATH": f"{self.bin}:{settings['PATH']}", "DRTOOL_CONFIG": str(directory / "drtool.yaml")}
        done = subprocess.run(
            [settings["SHELL"], "-c", command],
            cwd="/",
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            start_new_session=True,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def pack(self):
        """One of a site's packs."""
        return min(path for path in (self.shell.directory / "a/packs").rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def cron(tmp_path_factory):
    cron = Cron(tmp_path_factory.mktemp("cron"))
    for number in range(4):  # each makes packs: some for each site
        fill(cron.shell.directory / "home", {f"more-{number}": noise(300_000, 100 + number)})
        done = cron.run("-q backup --skip-if-running")
        assert (done.code, done.out, done.err) == (0, "", "")
    return cron


def test_the_proof_is_one_line(cron):
    done = cron.run(WEEKLY)
    assert (done.code, done.err) == (0, ""), done.out
    (line,) = done.out.splitlines()
    assert re.match(r"passed: weekly-verify, run \S+, .*; rto .* of 2 h 00 min$", line)
    done = cron.run("-q status")
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.thorough
def test_a_copy_that_rotted_is_told_and_healed_and_the_next_run_passes(cron):
    pack = cron.pack()
    rotten = bytearray(pack.read_bytes())
    rotten[len(rotten) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(rotten)
    done = cron.run(WEEKLY)
    assert done.code == 1
    # both steps run at once and may read the same copy; the line names the first that failed
    assert re.match(r"failed: weekly-verify, run \S+, .*; (sample|real-restore): 1 damaged\n", done.out), done.out
    assert '"event":"fail"' in cron.told.read_text()
    assert cron.run(WEEKLY).code == 0


@pytest.mark.thorough
def test_what_a_site_misses_fails_the_proof_until_it_is_repaired(cron):
    cron.pack().unlink()
    done = cron.run(WEEKLY)
    assert done.code == 1
    assert "present: 1 missing" in done.out.splitlines()[0]
    done = cron.run("-q repair")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert cron.run(WEEKLY).code == 0


@pytest.mark.thorough
def test_a_site_that_is_away_is_not_proven(cron):
    site = cron.shell.directory / "a"
    site.rename(site.with_name("away"))
    done = cron.run(WEEKLY)
    site.with_name("away").rename(site)
    assert done.code == 9
    assert "present: too few copies were found: a/main unreachable" in done.out.splitlines()[0]


def test_a_wrong_password_is_told_once_and_not_for_each_step(cron):
    done = cron.shell("plan", "run", "weekly-verify", DRTOOL_PASSWORD="wrong")
    assert (done.code, done.out) == (12, ""), done.out + done.err
    assert "password" in done.err


def test_without_a_password_it_says_so_at_once(cron):
    config = cron.shell.directory / "drtool.yaml"
    text = config.read_text()
    config.write_text(text.replace("\npassword_file: password\n", "\n"))
    done = cron.run(WEEKLY)
    config.write_text(text)
    assert (done.code, done.out) == (2, ""), done.out + done.err
    assert done.err.startswith("drtool: no password: ")


def test_schedule_install_and_the_examples_run_the_same(cron):
    shown = cron.shell("schedule", "show", "--cron", "--directory", "timers", "--json").document["jobs"]
    installed = {re.sub(r"\S+/(\S+)\.yaml", r"\1", row["command"]) for row in shown}
    assert installed == {command.replace("drtool -q", "drtool") for command in commands()}
    units = [path.read_text() for path in (ROOT / "examples/systemd").glob("drtool-*.service")]
    started = {
        line.partition("bin/")[2].replace("drtool -q", "drtool")
        for text in units
        for line in text.splitlines()
        if line.startswith("ExecStart=/usr/local/bin/drtool")
    }
    assert started == installed
    times = {row["name"]: row["cron"] for row in shown}
    assert times["plan-weekly-verify"] in CRONTAB
    assert os.path.exists(ROOT / "examples/systemd/drtool-plan-weekly-verify.timer")
