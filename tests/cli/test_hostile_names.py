"""Names, labels and messages that try to draw on the terminal, reverse text, or forge lines of drtool.

Every command runs on a repository full of them, into a pipe and on a terminal.
"""

import os
import pty
import re
import shutil
import termios
import threading
from html.parser import HTMLParser
from pathlib import Path

import command_zygote
import pytest
from command_shell import TIMEOUT_S, Ran, Shell, shell_in

import drtool
from drtool.cli.core.registry import COMMANDS
from drtool.errors import DrtoolError
from drtool.escaping import printable, printable_lines

FORGED = "FORGED: all is well"
HOSTILE = f"x\n{FORGED}\r\x1b[31m\x9b1A\u202e\u2028y\u200b\x07\x7f"
HOST = ("--host", HOSTILE)

WORDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("init",): ("--target", f"{HOSTILE}=z"),
    ("connect",): ("a", "--write-config", "other.yaml"),
    ("backup",): (f"t{HOSTILE}", f"no{HOSTILE}", "--tag", HOSTILE, *HOST),
    ("restore",): ("latest", *HOST, "--to", f"r{HOSTILE}"),
    ("snapshots",): (),
    ("ls",): ("-R", "latest", *HOST),
    ("find",): ("f*", *HOST),
    ("diff",): ("FIRST", "latest", *HOST),
    ("drift",): (f"latest:/{HOSTILE}", *HOST),
    ("dump",): (f"latest:/{HOSTILE}", *HOST),
    ("mount",): (f"no{HOSTILE}",),
    ("browse",): HOST,
    ("stats",): (),
    ("status",): (),
    ("report",): ("--html", "report.html"),
    ("survive",): ("--lose", HOSTILE),
    ("forget",): (*HOST, "--keep-last", "1", "--dry-run"),
    ("tag",): ("latest", *HOST, "--add", f"more{HOSTILE}"),
    ("hold",): ("latest", *HOST, "--reason", HOSTILE),
    ("verify",): (),
    ("repair",): (),
    ("rebalance",): (),
    ("prune",): (),
    ("doctor",): ("--read-only",),
    ("benchmark",): ("--seconds", HOSTILE),
    ("key", "list"): (),
    ("key", "add"): ("--label", HOSTILE),
    ("key", "remove"): (HOSTILE,),
    ("key", "kit"): ("--print", "--html", "kit.html"),
    ("key", "rotate"): (HOSTILE,),
    ("target", "list"): (),
    ("target", "add"): (f"{HOSTILE}=z",),
    ("target", "set"): (HOSTILE, "--weight", "2"),
    ("target", "drain"): (HOSTILE,),
    ("target", "remove"): (HOSTILE,),
    ("ring", "show"): (),
    ("ring", "preview"): ("--remove", HOSTILE),
    ("site", "list"): (),
    ("site", "add"): (HOSTILE,),
    ("site", "replace"): (HOSTILE, f"{HOSTILE}=z"),
    ("site", "remove"): (HOSTILE,),
    ("session", "list"): (),
    ("session", "expire"): (HOSTILE,),
    ("plan", "list"): (),
    ("plan", "check"): (f"plans/{HOSTILE}.yaml",),
    ("plan", "run"): (f"plans/{HOSTILE}.yaml",),
    ("plan", "resume"): (HOSTILE,),
    ("plan", "history"): (),
    ("plan", "report"): (HOSTILE,),
    ("plan", "approve"): (HOSTILE, HOSTILE),
    ("schedule", "show"): (),
    ("schedule", "install"): ("--units", HOSTILE),
    ("schedule", "remove"): ("--units", HOSTILE),
    ("scratch", "list"): (),
    ("scratch", "remove"): ("--run", HOSTILE),
    ("fault", "list"): (),
    ("fault", "clear"): ("--run", HOSTILE),
    ("manifest", "status"): (),
    ("manifest", "log"): (),
    ("manifest", "check"): (),
    ("manifest", "compact"): (),
    ("manifest", "recover"): ("--from", HOSTILE),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Shell:
    """Hosts, tags, reasons, paths, the label and an open session are hostile."""
    made = shell_in(tmp_path_factory.mktemp("repository"))
    config = made.directory / "drtool.yaml"
    config.write_text(f'repository: "l\\n{FORGED}\\e[31m"\n')
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets).code == 0
    config.write_text(
        config.read_text()
        + "sites:\n"
        + "".join(f"  {site}: {{main: {{url: {made.directory / site}}}}}\n" for site in "abc")
    )
    (made.directory / f"t{HOSTILE}").mkdir()
    (made.directory / f"t{HOSTILE}" / f"f{HOSTILE}").write_text("1")
    first = made("--json", "backup", f"t{HOSTILE}", "--tag", HOSTILE, *HOST)
    assert first.code == 0, first.out
    assert first.document["snapshots"][0]["host"] == HOSTILE, "JSON keeps every character"
    (made.directory / "first").write_text(first.document["snapshots"][0]["id"])
    (made.directory / f"t{HOSTILE}" / f"g{HOSTILE}").write_text("2")
    assert made("backup", f"t{HOSTILE}", *HOST).code == 0
    assert made("hold", "latest", *HOST, "--reason", HOSTILE).code == 0
    (made.directory / "plans").mkdir()
    (made.directory / f"plans/{HOSTILE}.yaml").write_text(f'version: 1\nid: "q\\n{FORGED}"\n')
    return made


@pytest.fixture
def shell(repository, template) -> Shell:
    """The repository, reset to its first state at the same place, because a copy elsewhere is refused."""
    shutil.rmtree(repository.directory)
    shutil.copytree(template, repository.directory, symlinks=True)
    return repository


@pytest.fixture(scope="module")
def template(repository, tmp_path_factory) -> Path:
    return Path(shutil.copytree(repository.directory, tmp_path_factory.mktemp("template") / "kept", symlinks=True))


def on_a_terminal(shell: Shell, *words: str) -> Ran:
    """Run a command with a terminal without control codes as its three streams."""
    ours, theirs = pty.openpty()
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    parts: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 65_536):
                parts.append(part)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    nothing = os.open(os.devnull, os.O_RDONLY)
    environ = shell.whole_environ(NO_COLOR="1", TERM="dumb")
    try:
        code = command_zygote.shared().run(words, shell.directory, environ, [nothing, theirs, theirs], TIMEOUT_S)
    finally:
        os.close(nothing)
        os.close(theirs)
        reader.join()
        os.close(ours)
    return Ran(code, b"".join(parts).decode(), "")


def is_harmless(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text) and not any(
        line.lstrip().startswith(FORGED) for line in text.split("\n")
    )


def test_every_command_is_tried():
    assert set(WORDS) == set(COMMANDS)


@pytest.mark.parametrize("command", WORDS, ids=" ".join)
@pytest.mark.spread(7)
def test_no_command_lets_a_name_draw_or_forge_a_line(shell, command):
    first = (shell.directory / "first").read_text()
    words = [first if word == "FIRST" else word for word in WORDS[command]]
    ran = shell(*command, *words)
    assert is_harmless(ran.out), ran.out
    assert is_harmless(ran.err), ran.err
    assert "this is a bug" not in ran.err
    shown = on_a_terminal(shell, *command, *words).out
    assert is_harmless(shown), shown


def test_most_commands_show_the_name(shell):
    """Otherwise the test above would prove nothing."""
    for words in (
        ["snapshots"],
        ["status"],
        ["find", "f*", *HOST],
        ["ls", "-R", "latest", *HOST],
        ["key", "kit", "--print"],
    ):
        assert FORGED in shell(*words).out, words


def test_pages_and_metrics_hold_it_in_one_line(shell):
    assert "wrote" in shell("report", "--html", "report.html").out
    assert shell("key", "kit", "--html", "kit.html", "--text", "kit.txt").code == 0
    shell("status", "--metrics-file", "drtool.prom")
    for name in ("report.html", "kit.html"):
        texts: list[str] = []
        reader = HTMLParser()
        reader.handle_data = texts.append  # type: ignore[method-assign]
        reader.feed((shell.directory / name).read_text())
        assert FORGED in "".join(texts)
        strange = {letter for letter in "".join(texts) if not letter.isprintable()}
        assert strange <= {"\n", "\xa0"}, "a page has only line feeds and its own non-breaking spaces"
    for name in ("kit.txt", "drtool.prom"):
        text = (shell.directory / name).read_text()
        assert FORGED in text
        assert is_harmless(text)


def test_only_the_screen_writes_to_the_streams():
    """Help, version and man page are drtool's own text, and `dump` writes stored data."""
    package = Path(drtool.__file__).parent
    writing = re.compile(r"sys\.std(out|err)\.(write|buffer)")
    found = {str(file.relative_to(package)) for file in package.rglob("*.py") if writing.search(file.read_text())}
    assert found == {"cli/main.py", "cli/manual.py", "cli/commands/dump.py"}


def test_foreign_text_is_one_line_and_own_text_keeps_its_lines():
    assert printable(HOSTILE).isprintable()
    assert printable("plain ü 漢 \\ text") == "plain ü 漢 \\ text"
    assert printable("\udcff") == "\\xff"
    assert printable_lines("one\r\ntwo\tthree\x1b") == "one\ntwo\tthree\\x1b"


def test_line_feeds_in_a_message_forge_no_line():
    import io

    from drtool.cli.core.render import Form, Screen
    from drtool.events import ItemFailed, TargetFailed, Warned

    err = io.StringIO()
    screen = Screen(Form(verbose=True), io.StringIO(), err)
    screen.emit(Warned(message=HOSTILE))
    screen.emit(ItemFailed(path=HOSTILE, message=HOSTILE))
    screen.emit(TargetFailed(target=HOSTILE, reason=HOSTILE))
    screen.complain(HOSTILE)
    screen.trace(HOSTILE)
    screen.fail(DrtoolError(HOSTILE, hint=HOSTILE))
    assert is_harmless(err.getvalue())
    assert err.getvalue().count("\n") == 7
