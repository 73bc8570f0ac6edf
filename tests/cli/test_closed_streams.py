"""Every command works with closed standard streams, as some daemons and schedulers start it."""

import itertools
import subprocess
import sys

import pytest
from command_shell import TIMEOUT_S, Ran, Shell, shell_in
from thoroughness import spread

CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-"}


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> Shell:
    made = shell_in(tmp_path_factory.mktemp("closed"))
    (made.directory / "tree").mkdir()
    (made.directory / "tree/file").write_text("0")
    program = "for n in 0 1 2; do test -e /proc/self/fd/$n && echo $n; done > hook"
    assert made("init", "--target", f"a={made.directory}/a").code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write(f"hooks: {{before_backup: [sh, -c, '{program}']}}\n")
    return made


def without(shell: Shell, closed: str, *words: str) -> Ran:
    """Run a command line with the real program and these redirections."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "drtool", *words],
        cwd=shell.directory,
        env=shell.whole_environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


COMBINATIONS = [
    pytest.param(names, id="+".join(names)) for count in (1, 2, 3) for names in itertools.combinations(CLOSED, count)
]


@pytest.mark.parametrize("names", spread(COMBINATIONS, 3))
def test_a_backup_is_made_with_any_streams_closed(shell, names):
    text = "without " + ", ".join(names)
    (shell.directory / "tree/file").write_text(text)
    ran = without(shell, " ".join(CLOSED[name] for name in names), "backup", "tree")
    assert (ran.code, ran.err) == (0, "")
    assert shell("dump", f"latest:{shell.directory}/tree/file").out == text
    assert (shell.directory / "hook").read_text() == "0\n1\n2\n", "a hook inherited a closed stream"


def test_no_file_receives_what_was_meant_for_a_closed_stream(shell):
    """Warnings and the result are dropped, and every object still matches its name."""
    (shell.directory / "tree/gone").symlink_to("nowhere")
    without(shell, "<&- >&- 2>&-", "-v", "backup", "tree", "no-such-path")
    done = shell("--json", "verify", "--level", "full")
    assert done.code == 0


@pytest.mark.parametrize(
    "words", spread([["snapshots"], ["--json", "status"], ["--version"], ["--help"], ["frobnicate"]], 2)
)
def test_the_exit_code_is_the_same_as_with_open_streams(shell, words):
    assert without(shell, "<&- >&- 2>&-", *words).code == without(shell, "", *words).code


def test_an_error_document_goes_to_the_stream_that_is_open(shell):
    ran = without(shell, "2>&-", "--json", "restore", "latest")
    assert ran.code == 2
    assert ran.error["kind"] == "usage_error"
    ran = without(shell, ">&-", "restore", "latest")
    assert (ran.code, ran.out) == (2, "")
    assert "--to is missing" in ran.err


@pytest.mark.parametrize(
    ("closed", "words", "name"),
    [
        ("<&-", ["backup", "--stdin"], "stdin"),
        ("<&-", ["backup", "--files-from", "-"], "stdin"),
        ("<&-", ["backup", "--files-from0", "-"], "stdin"),
        (">&-", ["dump", "latest:/tree/file"], "stdout"),
    ],
)
@pytest.mark.spread(4)
def test_a_closed_stream_is_refused_if_the_data_would_pass_through_it(shell, closed, words, name):
    before = shell("--json", "snapshots").document["snapshots"]
    ran = without(shell, closed, *words)
    assert ran.code == 2
    assert f"{name} is closed" in ran.err
    assert shell("--json", "snapshots").document["snapshots"] == before


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2</dev/null"])
def test_a_full_stderr_does_not_end_a_backup(shell, stderr):
    """`no-such-path` makes drtool write a message, so the exit code is 3 (partial), not that of a crash."""
    (shell.directory / "tree/file").write_text(stderr)
    assert without(shell, stderr, "backup", "tree", "no-such-path").code == 3
    assert shell("dump", f"latest:{shell.directory}/tree/file").out == stderr
