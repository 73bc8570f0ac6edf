"""The guide to the first drill, followed word by word from where the quickstart ends: it prints what the page shows."""

import pytest
from followed_page import agrees, commands_of, follow, screen


@pytest.mark.thorough
def test_the_guide_goes_on_where_the_quickstart_ends_and_prints_what_it_shows(tmp_path):
    before, commands = commands_of("docs/quickstart.md"), commands_of("docs/first-drill.md")
    assert sum(command.shown is not None for command in commands) >= 10
    answers = follow([*before, *commands], tmp_path)[len(before) :]
    for command, answer in zip(commands, answers, strict=True):
        told = "\n".join((command.text, *answer.lines))
        assert command.shown is None or agrees(command.shown, answer.lines), told
    page = (tmp_path / "home/tour/rot.html").read_text()
    assert "Two objects rot" in page
    assert "passed" in page


def test_a_page_that_shows_something_else_is_noticed():
    printed = ("restored 2 files of 0a1b2c3d in 1.2 s", "exit code 0")
    assert agrees(("restored 2 files of ffffffff in 40 s", "exit code 0"), printed)
    assert agrees(("…", "exit code 0"), printed)
    assert not agrees(("restored 3 files of ffffffff in 40 s", "exit code 0"), printed)
    assert not agrees(("exit code 0",), printed)
    assert not agrees(printed[:1], printed)


def test_what_was_drawn_and_taken_away_again_is_not_on_the_screen():
    drawn = "\x1b[?25lreading\r\n  0 %\r\n\x1b[1A\x1b[2K\x1b[1A\x1b[2K\x1b[?25h"
    assert screen(f"{drawn}\x1b[1mdone\x1b[0m\r\n") == ["done"]
    assert screen(f"{drawn}one\r\ntwo\r\nthree") == ["one", "two", "three"]
    assert screen(drawn) == []
