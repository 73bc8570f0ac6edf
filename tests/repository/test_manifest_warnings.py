"""Messages of the manifest for all users are warnings, and the others appear only in a trace."""

from msgspec.structs import replace

from drtool.events import Warned
from drtool.manifest.ports import Note
from drtool.repository.opening import open_repository


def test_a_warning_is_heard_by_the_user_and_not_by_the_trace(world, monkeypatch):
    traced, heard = [], []
    with open_repository(replace(world.spec(), trace=traced.append), heard.append) as repository:
        driver = repository.manifest._driver
        driver.note(Note("warning", "a snapshot cannot come back"))
        driver.note(Note("decide", "change 7"))
    assert Warned(message="a snapshot cannot come back") in heard
    assert not any(note.phase == "warning" for note in traced)
    assert Note("decide", "change 7") in traced
