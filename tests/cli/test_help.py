"""Every command of the contract exists: built ones have help, and the others report that they are not built yet."""

import json
import re
import shlex

import pytest

from drtool import errors
from drtool.cli.core import parser, registry
from drtool.cli.main import run


@pytest.fixture(autouse=True)
def signals():
    """Restore the signal handlers, because `run` installs its own."""
    import signal

    from drtool.errors import INTERRUPTS

    kept = {number: signal.getsignal(number) for number in INTERRUPTS}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("path", list(registry.COMMANDS), ids=" ".join)
def test_help_shows_examples_and_the_exit_codes_that_can_happen(path, capsys):
    assert run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    codes = text.partition("Exit codes:")[2]
    for code, meaning in errors.EXIT_MEANINGS.items():
        assert (f" {code}  {meaning.split(',')[0][:30]}" in codes) == (code in registry.COMMANDS[path].exits)
    assert f"Usage: drtool {' '.join(path)}" in text
    assert "\n  drtool " in text.partition("Examples:")[2]
    assert "\x1b" not in text


def test_the_main_help_lists_everything(capsys):
    assert run(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for path in (*registry.COMMANDS, *registry.LATER):
        assert " ".join(path) in text


@pytest.mark.parametrize("path", sorted(registry.LATER), ids=" ".join)
def test_a_command_that_is_not_built_yet_is_refused_with_any_words(path, capsys):
    assert run(["--json", *path, "x", "--weight", "3", "--some-flag", "--", "-q"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert f"drtool {' '.join(path)} is not built yet" in document["error"]["message"]


@pytest.mark.parametrize(("path", "option"), [(p, o) for p, options in registry.LATER_OPTIONS.items() for o in options])
def test_an_option_that_is_not_built_yet_is_refused(path, option, capsys):
    required = {"restore": ["latest", "--to", "x"]}.get(path[0], [])
    word = option.rstrip("=")
    value = ["3"] if option.endswith("=") else []
    assert run(["--json", *path, *required, word, *value]) == 2
    assert f"{word} is not built yet" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no command given"),
        (["bakcup"], "no such command 'bakcup'; the nearest is 'backup'"),
        (["manifest", "statsu"], "'status'"),
        (["zzz"], "no such command 'zzz'"),
        (["check"], "no such command 'check'"),
        (["snapshots", "--lates", "3"], "--lates"),
        (["snapshots", "--latest", "many"], "'many'"),
        (["snapshots", "--latest"], "--latest"),
        (["restore", "latest"], "--to"),
        (["restore", "latest", "--to", "x", "--overwrite", "sometimes"], "'sometimes'"),
        (["verify", "--level", "some"], "'some'"),
        (["manifest"], "no command given"),
        (["ls"], "SNAPSHOT"),
        (["snapshots", "--config"], "--config"),
    ],
)
def test_a_usage_error_is_a_document_with_json(words, message, capsys):
    assert run(["--json", *words]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["kind"] == "usage_error"
    assert message in document["error"]["message"]


def test_a_usage_error_is_one_sentence_as_text(capsys):
    assert run(["snapshots", "--lates", "3"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[0].startswith("drtool: no such option")


def test_without_words_the_first_commands_are_shown(capsys):
    assert run([]) == 2
    shown = capsys.readouterr().out
    assert "drtool --help" in shown
    named = re.findall("^  drtool ([a-z]+)", shown, re.MULTILINE)
    assert len(named) > 4
    assert all((name,) in registry.COMMANDS for name in named)
    assert run(["--help"]) == 0
    assert "Back up and restore" in capsys.readouterr().out


def test_the_main_help_has_one_line_for_each_command():
    """A terminal has 80 columns, and 22 of them are for the longest name and the margins."""
    assert [path for path in registry.COMMANDS if len(parser.short_help(path)) > 58] == []
    assert [name for name, text in registry.GROUPS.items() if len(text) > 80] == []


def test_each_group_has_its_help(capsys):
    for name in parser.GROUPS:
        assert run([name, "--help"]) == 0
    assert "manifest" in capsys.readouterr().out


def test_a_bug_is_reported_as_one_and_its_traceback_is_kept(capsys, monkeypatch, tmp_path):
    def broken(*_arguments: object) -> None:
        raise RuntimeError("the moon")

    monkeypatch.setenv("DRTOOL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("drtool.cli.core.call.Call.open_repository", broken)
    assert run(["snapshots"]) == 1
    shown = capsys.readouterr()
    assert "RuntimeError: the moon" in shown.err
    assert "Traceback" not in shown.err
    (kept,) = (tmp_path / "state").iterdir()
    assert "RuntimeError: the moon" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert run(["-v", "snapshots"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "index", "offered"),
    [
        ("drtool man", "1", ["manifest"]),
        ("drtool manifest ", "2", ["status", "log", "check", "compact", "recover"]),
        ("drtool rest", "1", ["restore"]),
    ],
)
def test_the_shell_completes(words, index, offered, capsys, monkeypatch):
    monkeypatch.setenv("_DRTOOL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", index)
    with pytest.raises(SystemExit) as ended:
        run([])
    assert ended.value.code == 0
    assert capsys.readouterr().out.split() == offered


@pytest.mark.parametrize("word", ["check", "unlock", "list", "extract", "create", "info", "help", "compact"])
def test_commands_of_other_tools_point_to_ours(word, capsys):
    assert run(["--json", word]) == 2
    hint = json.loads(capsys.readouterr().out)["error"]["hint"]
    named = re.findall(r"drtool ([a-z]+)", hint)
    assert named or word == "help"
    assert {(name,) for name in named if name != "session"} <= set(registry.COMMANDS)


def example_lines(capsys):
    """Return every command line of drtool in the examples of every help, as the path of its command and its words."""
    found = []
    for path in registry.COMMANDS:
        assert run([*path, "--help"]) == 0
        text = capsys.readouterr().out.partition("Examples:")[2].partition("\n\n")[0].replace("\\\n", " ")
        for line in text.splitlines():
            for part in re.split(r"\||&&|;|\$\(|&(?=\s|$)", line):
                words = shlex.split(part, comments=True) if "drtool" in part and part.count("'") % 2 == 0 else []
                if "drtool" in words:
                    found.append((path, words[words.index("drtool") + 1 :]))
    return found


def test_every_option_in_the_examples_of_every_help_exists(capsys):
    lines = example_lines(capsys)
    assert {path for path, _ in lines} == set(registry.COMMANDS)
    for path, words in lines:
        given = [word for word in words if word not in (">", "2>", ">>", "<")]
        end = given.index("--") if "--" in given else len(given)
        code = run([*given[:end], "--help", *given[end:]])
        assert code == 0, (path, words, capsys.readouterr().err)
        capsys.readouterr()
