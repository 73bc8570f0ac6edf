"""Tables on a narrow terminal: no word is broken, nothing is left out."""

import io
import os
import pty
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.cli.commands.status import grouped
from drtool.cli.core.layout import arranged, width
from drtool.cli.core.render import Form, Screen
from drtool.cli.core.view import table, view
from drtool.errors import ConfigError
from drtool.events import TargetFailed, Warned

SNAPSHOTS = table(
    "ID TIME SOURCE FILES> SIZE> PATHS",
    [
        (
            "e57f2ea3",
            "2026-12-01 16:39:25",
            "documents-of-the-accounting-department",
            "1,024",
            "4 B",
            "/srv/" + "x" * 50,
        ),
        ("6af5e9a0", "2026-12-01 16:39:26", "mail", "1", "10.5 GiB", "/var/mail"),
    ],
)


def lines(shown, columns):
    return ["".join(cell.text for cell in line).rstrip() for line in arranged(shown, columns)]


def test_a_table_that_fits_stays_as_it_is():
    wide = lines(SNAPSHOTS, None)
    assert len(wide) == 3
    assert lines(SNAPSHOTS, max(map(width, wide))) == wide


def test_the_widest_columns_move_below_their_row():
    assert lines(SNAPSHOTS, 80) == [
        "ID        TIME                 FILES      SIZE",
        "e57f2ea3  2026-12-01 16:39:25  1,024       4 B",
        "  source: documents-of-the-accounting-department",
        "  paths: /srv/" + "x" * 50,
        "6af5e9a0  2026-12-01 16:39:26      1  10.5 GiB",
        "  source: mail",
        "  paths: /var/mail",
    ]


def test_a_wide_first_column_stands_above_its_row():
    shown = table("TARGET STATE FREE>", [("amsterdam-data-centre/primary", "online", "7 GiB")])
    assert lines(shown, 30) == ["TARGET", "  STATE    FREE", "amsterdam-data-centre/primary", "  online  7 GiB"]


def test_a_long_text_below_a_row_is_wrapped_between_words():
    shown = table("ID TARGETS", [("1", "desk/main nas/main office/main cellar/main")])
    assert lines(shown, 30)[1:] == [
        "1",
        "  targets: desk/main nas/main",
        "           office/main",
        "           cellar/main",
    ]


WORD = st.text("abcdefgh/", min_size=1, max_size=12)
TEXT = st.lists(WORD, max_size=4).map(" ".join)


@given(st.lists(st.tuples(WORD, TEXT, TEXT, TEXT), min_size=1, max_size=5), st.integers(24, 80))
def test_every_word_is_there_unbroken_and_every_line_fits(rows, columns):
    drawn = lines(table("ALPHA BETA> GAMMA DELTA", rows), columns)
    assert all(width(line) <= columns for line in drawn)
    words = " ".join(drawn).split()
    for row in rows:
        for word in " ".join(row).split():
            assert word in words


@pytest.fixture
def terminal(monkeypatch):
    """A function that returns what a screen writes on a terminal of 80 columns."""
    monkeypatch.setenv("TERM", "xterm")
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))

    def drawn(use, form=None):
        with open(os.dup(side), "w", encoding="utf-8") as stream:
            screen = Screen(form or Form(color=False), stream, stream)
            use(screen)
            screen.finish()
            stream.write("\0")
        text = b""
        while not text.endswith(b"\0"):
            text += os.read(main, 65_536)
        return text[:-1].decode().replace("\r\n", "\n")

    yield drawn
    os.close(main)
    os.close(side)


def test_a_terminal_of_80_columns_gets_a_table_that_fits(terminal):
    text = terminal(lambda screen: screen.show({}, view(SNAPSHOTS)))
    assert max(map(len, text.splitlines())) <= 80


def test_a_fault_of_ten_sources_is_said_once():
    err = io.StringIO()
    screen = Screen(Form(), io.StringIO(), err)
    for _ in range(10):
        screen.emit(TargetFailed(target="nas/main", reason="it is full"))
        screen.emit(Warned(message="careful"))
    assert err.getvalue().count("it is full") == 1
    assert err.getvalue().count("careful") == 1


def test_a_warning_takes_three_lines_at_most_and_verbose_shows_all_of_it(terminal):
    message = " ".join(f"word{number}" for number in range(100))
    text = terminal(lambda screen: screen.emit(Warned(message=message)))
    assert len(text) <= 240
    assert text.rstrip().endswith("… (-v shows all)")
    assert message in terminal(lambda screen: screen.emit(Warned(message=message)), Form(verbose=True, color=False))


def test_the_first_problems_of_a_configuration_are_shown_and_the_rest_counted(terminal):
    error = ConfigError(*(f"drtool.yaml:{number}: unknown key" for number in range(10)))
    text = terminal(lambda screen: screen.fail(error))
    assert text.count("unknown key") == 3
    assert "and 7 more problems (-v shows all)" in text
    err = io.StringIO()
    Screen(Form(), io.StringIO(), err).fail(error)
    assert err.getvalue().count("unknown key") == 10


def test_a_remark_on_several_sources_is_one_line_with_their_names():
    texts = [f"source s{number} of vm: the newest snapshot is 2 d old" for number in range(7)]
    assert grouped(["target a is offline", *texts, "source x of vm: damaged"]) == [
        "target a is offline",
        "7 sources of vm: the newest snapshot is 2 d old: s0, s1, s2, s3, s4 and 2 more",
        "source x of vm: damaged",
    ]
