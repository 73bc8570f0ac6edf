"""Passwords that are refused when they are typed, and why."""

import pytest

from drtool.crypto.strength import weakness


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", "fewer than 10"),
        ("kx7#pQ9", "fewer than 10"),
        ("aaaaaaaaaaaaaaaa", "repeats"),
        ("abababababab", "repeats"),
        ("123456789012", "only digits"),
        ("Password1234", "common word"),
        ("qwerty!!2026", "common word"),
        ("backup-backup", "common word"),
    ],
)
def test_commonly_guessed_passwords_are_refused(password, why):
    assert why in weakness(password.encode())


@pytest.mark.parametrize(
    "password", ["correct horse battery", "k3v9-x2mq-77wz", "päßwörter sind gut", "mybackup of paris 1987"]
)
def test_reasonable_passwords_are_good(password):
    assert weakness(password.encode()) == ""


def test_bytes_that_are_no_text_are_judged_too():
    assert weakness(bytes(range(128, 160))) == "repeats a few characters"
    assert weakness(b"\xffcorrect horse\xfe") == ""
