"""On a host with other users, drtool trusts only files of root and of the user that runs it."""

import os
import shlex
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
from command_shell import Ran, Shell, shell_in

from drtool.cli.core.options import Options
from drtool.cli.core.settings import load_trusted
from drtool.errors import ConfigError

STRANGER = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Shell:
    made = shell_in(tmp_path_factory.mktemp("repository"))
    assert made("init", "--target", f"a={made.directory}/a").code == 0
    return made


@pytest.fixture
def shell(repository, tmp_path) -> Shell:
    """A directory of the user with a configuration that a command finds."""
    here = Shell(tmp_path / "own", dict(repository.environ))
    here.directory.mkdir(mode=0o755)
    write(here, "")
    return here


def write(shell: Shell, more: str) -> Path:
    path = shell.directory / "drtool.yaml"
    repository = Path(shell.environ["DRTOOL_STATE_DIR"]).parent
    path.write_text(f"sites: {{a: {{main: {{url: {repository}/a}}}}}}\n{more}")
    path.chmod(0o600)
    return path


def program(path: Path, mode: int = 0o755) -> Path:
    path.write_text(f"#!/bin/sh\ntouch {path}.ran\necho correct horse\n")
    path.chmod(mode)
    return path


def refused(ran: Ran, path: Path) -> None:
    """Check for exit 2 with the file, the reason and the command that removes the cause."""
    assert ran.code == 2, ran.err
    assert f"{path} is not used: " in ran.err
    assert "hint: " in ran.err
    assert not list(path.parent.glob("*.ran")), "it ran anyway"


@as_root
def test_a_configuration_of_another_user_runs_nothing(shell):
    """In a directory for all users, such as /tmp."""
    script = program(shell.directory / "script")
    path = write(shell, f"password_command: [{script}]\nhooks: {{before_backup: [{script}]}}\n")
    os.chown(path, STRANGER, STRANGER)
    shell.directory.chmod(0o1777)
    for words in (["snapshots"], ["status"], ["backup", "/etc/hostname"], ["init"], ["connect", "a"], ["plan", "list"]):
        ran = shell(*words, DRTOOL_PASSWORD="")
        refused(ran, path)
        assert f"chown -h 0 {path}, or to use it as it is: drtool --config {path} …" in ran.err
    ran = shell("--json", "doctor", DRTOOL_PASSWORD="correct horse")
    assert ran.code == 2
    assert [row["what"] for row in ran.document["findings"] if row["level"] == "error"] == ["config"]
    assert not list(shell.directory.glob("*.ran"))
    assert shell("--config", "drtool.yaml", "snapshots").code == 0, "it was named, so it is used"
    assert shell("snapshots", DRTOOL_CONFIG=str(path)).code == 0


def test_a_configuration_that_others_may_write_is_refused_also_if_it_was_named(shell):
    path = shell.directory / "drtool.yaml"
    path.chmod(0o666)
    refused(shell("snapshots"), path)
    named = shell("--config", str(path), "snapshots")
    refused(named, path)
    remedy = next(line for line in named.err.splitlines() if line.startswith("hint: "))
    subprocess.run(shlex.split(remedy.removeprefix("hint: ").split(", or ")[0]), check=True)
    assert shell("--config", str(path), "snapshots").code == 0
    assert "chmod go-w" not in shell("snapshots").err


@pytest.mark.parametrize("variable", ["HOME", "XDG_CONFIG_HOME"])
def test_the_configuration_in_the_home_directory_is_checked_too(shell, variable, tmp_path):
    base = tmp_path / "base"
    place = base / {"HOME": ".config/drtool", "XDG_CONFIG_HOME": "drtool"}[variable]
    place.mkdir(parents=True, mode=0o755)
    (shell.directory / "drtool.yaml").rename(place / "drtool.yaml")
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "", variable: str(base)}
    assert shell("snapshots", **environ).code == 0
    (place / "drtool.yaml").chmod(0o662)
    refused(shell("snapshots", **environ), place / "drtool.yaml")


@pytest.mark.parametrize("kind", ["directory", "FIFO", "link"])
def test_something_else_of_that_name_is_reported_and_not_ignored(shell, kind):
    path = shell.directory / "drtool.yaml"
    path.unlink()
    {"directory": path.mkdir, "FIFO": lambda: os.mkfifo(path), "link": lambda: path.symlink_to("nothing")}[kind]()
    ran = shell("snapshots")
    assert ran.code == 2
    assert f"{path} is a {kind}" in ran.err
    ran = shell("--config", str(path), "snapshots")
    assert ran.code == 2, "it neither hangs nor reads the next configuration"


def test_a_configuration_may_come_through_a_pipe(shell):
    line = f"python=$1; shift; exec $python -m drtool --config <(cat {shell.directory}/drtool.yaml) snapshots"
    done = subprocess.run(
        ["bash", "-c", line, "bash", sys.executable],
        cwd=shell.directory,
        env=shell.whole_environ(),
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


NAMED = {
    "password_file: named": "password file",
    "password_command: [./named]": "password command",
    "hooks: {after_backup: [./named]}": "hook",
    "hooks: {on_failure: [[sh, ./named]]}": "script of a hook",
    "sources: {s: {stream: {command: [./named]}}}": "command of a source",
    "sources: {s: {mysql: {defaults_file: named}}}": "option file",
    "sources: {s: {postgresql: {programs: named}}}": "directory of programs",
    "notify: {channels: {c: {command: [./named]}}}": "command of a channel",
    "notify: {channels: {c: {webhook: 'https://x', headers: {A: {file: named}}}}}": "header file",
    "plans: named": "directory of plans",
}


@pytest.mark.parametrize("text", NAMED)
@pytest.mark.parametrize("how", ["found", "named"])
def test_files_that_a_configuration_names_are_checked_too(shell, text, how):
    path = write(shell, text + "\n")
    named = program(shell.directory / "named", 0o777)
    load = load_trusted(Options(config="drtool.yaml" if how == "named" else None), {}, shell.directory)
    with pytest.raises(ConfigError, match=f"^the {NAMED[text]} .*named is not used: .*0777"):
        load(path)
    named.chmod(0o700)
    load(path)


def test_keys_of_ssh_targets_are_checked_too(shell):
    path = shell.directory / "drtool.yaml"
    path.write_text("sites: {a: {main: {url: 'sftp://x@h/p', identity_file: key, known_hosts: hosts}}}\n")
    for name in ("key", "hosts"):
        program(shell.directory / name, 0o666)
        refused(shell("snapshots"), shell.directory / name)
        (shell.directory / name).chmod(0o600)


@as_root
def test_plans_of_another_user_are_not_found(shell):
    plans = shell.directory / "plans"
    plans.mkdir()
    plan = plans / "drill.yaml"
    plan.write_text(
        "version: 1\nid: drill\ntitle: A drill\nscope: sandbox\nsteps: [{id: s, action: command, with: {command: ['true']}}]\n"
    )
    plan.chmod(0o600)
    checked = shell("plan", "check", "drill")
    os.chown(plan, STRANGER, STRANGER)
    for words in (["plan", "check", "drill"], ["plan", "run", "drill"]):
        ran = shell(*words)
        assert ran.code == 2, (ran, checked)
        assert f"the plan {plan} is not used" in ran.err
    listed = shell("--json", "plan", "list").document["plans"]
    assert "is not used" in listed[0]["error"]
    assert "is not used" not in shell("plan", "check", str(plan)).err, "it was named"


def test_a_world_writable_password_file_is_refused_and_a_readable_one_is_reported(shell):
    path = shell.directory / "password"
    path.write_text("correct horse\n")
    path.chmod(0o644)
    ran = shell("--password-file", str(path), "snapshots")
    assert ran.code == 0
    assert f"every user of this host can read the password file {path} (mode 0644): chmod 600 {path}" in ran.err
    path.chmod(0o640)
    assert shell("--password-file", str(path), "snapshots").err == ""
    path.chmod(0o622)
    ran = shell("snapshots", DRTOOL_PASSWORD="", DRTOOL_PASSWORD_FILE=str(path))
    refused(ran, path)


@as_root
def test_init_warns_when_its_configuration_will_not_be_used(repository, tmp_path):
    """As under sudo, in the home directory of the user."""
    here = Shell(tmp_path / "home", {**repository.environ, "DRTOOL_STATE_DIR": str(tmp_path / "state")})
    here.directory.mkdir(mode=0o755)
    os.chown(here.directory, STRANGER, STRANGER)
    ran = here("init", "--target", f"b={here.directory}/b")
    assert ran.code == 0
    assert f"drtool --config {here.directory}/drtool.yaml …" in ran.err
    assert here("snapshots").code == 2
    assert here("-c", "drtool.yaml", "snapshots").code == 0


@as_root
def test_jobs_that_another_user_could_change_are_reported(shell):
    path = shell.directory / "drtool.yaml"
    words = ("-c", str(path), "schedule", "install", "--cron", "--directory", str(shell.directory), "--dry-run")
    assert "another user" not in shell(*words).err
    os.chown(path, STRANGER, STRANGER)
    ran = shell(*words)
    assert ran.code == 0
    assert f"another user can change what these jobs run: {path} belongs to " in ran.err


def test_init_makes_no_directory_that_others_may_write(repository, tmp_path):
    here = Shell(tmp_path, {**repository.environ, "DRTOOL_STATE_DIR": str(tmp_path / "state")})
    before = os.umask(0)
    try:
        ran = here(
            "-c", "etc/drtool.yaml", "init", "--target", f"b={tmp_path}/b", LANG="C.UTF-8"
        )  # not a fork with another umask
    finally:
        os.umask(before)
    assert ran.code == 0
    assert (tmp_path / "etc").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/drtool.yaml").stat().st_mode & 0o777 == 0o600


@as_root
def test_an_ordinary_user_works_in_their_own_directory():
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        path = home / "drtool.yaml"
        path.write_text("password_file: password\n")
        (home / "password").write_text("correct horse\n")
        for each in (home, path, home / "password"):
            os.chown(each, STRANGER, STRANGER)
        read = partial(load_trusted, Options(), {}, home)
        read_by_root = read()
        os.seteuid(STRANGER)
        try:
            assert read()(path).password_file == "password"
        finally:
            os.seteuid(0)
        with pytest.raises(ConfigError, match="not to root"):
            read_by_root(path)
