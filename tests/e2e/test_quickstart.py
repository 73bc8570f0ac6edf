"""The quickstart and the tour of the README are run as they stand: every command, in order, in one shell."""

import pytest
from followed_page import agrees, commands_of, follow


@pytest.mark.thorough
def test_every_command_of_the_quickstart_works_and_the_file_comes_back(tmp_path):
    commands = commands_of("docs/quickstart.md")
    assert sum("drtool " in command.text for command in commands) >= 4
    answers = follow(commands, tmp_path)
    assert any("nothing missing, nothing damaged" in line for answer in answers for line in answer.lines)
    assert (tmp_path / "home/tour/rescued/ada.txt").read_text() == "Dear Ada,\n"
    assert not (tmp_path / "home/tour/letters/ada.txt").exists()


def test_the_tour_of_the_readme_prints_what_it_shows(tmp_path):
    commands = commands_of("README.md")
    assert len(commands) > 10
    for command, answer in zip(commands, follow(commands, tmp_path), strict=True):
        assert agrees(command.shown or (), answer.lines), "\n".join((command.text, *answer.lines))
