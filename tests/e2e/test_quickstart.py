"""The quickstart is run as it stands: every command of its `sh` blocks, in order, in one shell that stops at a failure."""

from followed_page import commands_of, follow


def test_every_command_of_the_quickstart_works_and_the_file_comes_back(tmp_path):
    commands = commands_of("quickstart.md")
    assert sum("drtool " in command.text for command in commands) >= 4
    answers = follow(commands, tmp_path)
    assert any("nothing missing, nothing damaged" in line for answer in answers for line in answer.lines)
    assert (tmp_path / "home/tour/rescued/ada.txt").read_text() == "Dear Ada,\n"
    assert not (tmp_path / "home/tour/letters/ada.txt").exists()
