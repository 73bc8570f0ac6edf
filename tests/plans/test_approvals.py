"""A person's answer: from another process or a real terminal, in time or not at all."""

import os
import pty
import select
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from drtool.errors import DrtoolError, Refused
from drtool.plans.approvals import FOLDER, Approver, answer, take, who


def work(within_s=100.0):
    return SimpleNamespace(ends_at=time.monotonic() + within_s, cancelled=threading.Event())


def alone(folder, **more):
    return Approver(folder, at_terminal=lambda: False, **more)


def elsewhere(folder, key, **words):
    """Answer from another process, as `plan approve` does."""
    script = "import sys; from pathlib import Path; from drtool.plans.approvals import answer; "
    script += f"answer(Path(sys.argv[1]), sys.argv[2], **{words!r})"
    return subprocess.Popen([sys.executable, "-c", script, folder, key])


@pytest.mark.parametrize("yes", [True, False])
def test_an_answer_of_another_process_arrives(tmp_path, yes):
    with elsewhere(tmp_path, "go", yes=yes, note="n") as other:
        found = alone(tmp_path).ask("go", "Go?", (), None, work())
    assert other.returncode == 0
    assert (found.yes, found.by, found.channel) == (yes, who(), "plan approve")
    assert found.waited_s > 0


def test_an_answer_is_readable_by_its_user_only(tmp_path):
    answer(tmp_path, "confirm:put-back[2]", yes=True)
    (file,) = (tmp_path / FOLDER).iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert take(tmp_path, "confirm:put-back[2]").yes


def test_the_first_answer_counts(tmp_path):
    answer(tmp_path, "go", yes=False)
    with pytest.raises(Refused, match="already has an answer"):
        answer(tmp_path, "go", yes=True)
    assert not take(tmp_path, "go").yes


def test_of_simultaneous_answers_one_counts_and_the_others_are_refused(tmp_path):
    others = [elsewhere(tmp_path, "go", yes=number % 2 == 0) for number in range(4)]
    codes = sorted(other.wait() for other in others)
    assert codes == [0, 1, 1, 1]
    assert len(list((tmp_path / FOLDER).iterdir())) == 1


def test_an_answer_is_used_once(tmp_path):
    answer(tmp_path, "go", yes=True)
    assert alone(tmp_path).ask("go", "Go?", (), None, work()).yes
    assert alone(tmp_path).ask("go", "Go?", (), None, work(0.4)) is None
    assert [path.name.startswith("used-") for path in (tmp_path / FOLDER).iterdir()] == [True]


def test_an_answer_to_another_step_does_not_count(tmp_path):
    answer(tmp_path, "go", yes=True)
    assert alone(tmp_path).ask("go[1]", "Go?", (), None, work(0.4)) is None


def test_silence_and_a_cancelled_run_are_no_answer(tmp_path):
    assert alone(tmp_path).ask("go", "Go?", (), None, work(0.3)) is None
    one = work()
    one.cancelled.set()
    assert alone(tmp_path).ask("go", "Go?", (), None, one) is None


@pytest.mark.parametrize("text", ["", "yes", '{"yes": 1}', '{"yes": true, "by": "x", "at_ns": 1, "more": 2}'])
def test_an_invalid_answer_never_counts(tmp_path, text):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "go.json").write_text(text)
    (tmp_path / FOLDER / "go.json").chmod(0o600)
    with pytest.raises(DrtoolError, match="is not an answer"):
        alone(tmp_path).ask("go", "Go?", (), None, work())


def test_an_answer_that_others_could_write_or_a_link_is_refused(tmp_path):
    answer(tmp_path, "go", yes=True)
    file = tmp_path / FOLDER / "go.json"
    file.chmod(0o666)
    with pytest.raises(DrtoolError, match="not written by this user"):
        take(tmp_path, "go")
    file.rename(tmp_path / "real")
    file.symlink_to(tmp_path / "real")
    with pytest.raises(DrtoolError, match="cannot be read"):
        take(tmp_path, "go")


def test_the_impossibility_to_ask_is_known_in_advance(tmp_path):
    assert "there is no terminal" in alone(tmp_path).can_ask(None)
    assert "no channel 'ops'" in alone(tmp_path).can_ask("ops")
    told = alone(tmp_path, tell=lambda *words: "", can_tell=lambda name: "" if name == "ops" else "no such")
    assert [told.can_ask(name) for name in ("ops", "opps")] == ["", "no such"]
    assert Approver(tmp_path, at_terminal=lambda: True).can_ask(None) == ""


def test_a_channel_is_told_how_to_answer(tmp_path):
    said = []
    answer(tmp_path, "go", yes=True)
    approver = alone(tmp_path, tell=lambda *words: said.append(words) or "", can_tell=lambda name: "")
    assert approver.ask("go", "Go?", ["rows: 3"], "ops", work()).yes
    channel, event, message = said[0]
    assert (channel, event) == ("ops", "approval")
    assert message.splitlines() == ["Go?", "rows: 3", f"To answer: drtool plan approve {tmp_path.name} go [--no]"]


def test_after_a_failed_channel_the_step_does_not_wait(tmp_path):
    approver = alone(tmp_path, tell=lambda *words: "hung up")
    with pytest.raises(DrtoolError, match="through channel ops: hung up"):
        approver.ask("go", "Go?", (), "ops", work())


class Terminal:
    """A person at a real terminal."""

    def __init__(self, folder):
        self.ours, theirs = pty.openpty()
        self._theirs = theirs
        self.approver = Approver(folder, terminal=os.ttyname(theirs), at_terminal=lambda: True)
        self.seen = b""

    def until(self, words):
        ready = select.poll()
        ready.register(self.ours, select.POLLIN)
        while words not in self.seen:
            assert ready.poll(100_000), (words, self.seen)
            self.seen += os.read(self.ours, 4096)

    def close(self):
        os.close(self.ours)
        os.close(self._theirs)


@pytest.fixture
def terminal(tmp_path):
    one = Terminal(tmp_path)
    yield one
    one.close()


def asking(terminal, one, key="go"):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(terminal.approver.ask(key, "Put it back?", ["/a: gone"], None, one))
    )
    thread.start()
    return thread, found


@pytest.mark.parametrize(("typed", "yes"), [(b"yes\n", True), (b"Y\n", True), (b"no\n", False), (b"N\n", False)])
def test_a_person_at_the_terminal_answers(terminal, typed, yes):
    thread, found = asking(terminal, work())
    terminal.until(b"[yes/no]")
    os.write(terminal.ours, typed)
    thread.join()
    assert (found[0].yes, found[0].channel, found[0].by) == (yes, "terminal", who())
    assert b"/a: gone" in terminal.seen


def test_the_question_is_repeated_after_other_words(terminal):
    thread, found = asking(terminal, work())
    terminal.until(b"[yes/no]")
    os.write(terminal.ours, b"perhaps\n")
    terminal.until(b"yes or no?")
    os.write(terminal.ours, b"no\n")
    thread.join()
    assert not found[0].yes


def test_input_before_the_question_is_not_an_answer(terminal):
    os.write(terminal.ours, b"yes\n")
    time.sleep(0.1)
    thread, found = asking(terminal, work(1.0))
    thread.join()
    assert found == [None]


def test_two_questions_are_asked_one_after_the_other(terminal):
    first, one = asking(terminal, work(), "first")
    terminal.until(b"[yes/no]")
    second, other = asking(terminal, work(), "second")
    time.sleep(0.5)
    assert b"[second]" not in terminal.seen
    os.write(terminal.ours, b"yes\n")
    first.join()
    terminal.until(b"[second]")
    terminal.until(b"Put it back? [yes/no] ")
    os.write(terminal.ours, b"no\n")
    second.join()
    assert (one[0].yes, other[0].yes) == (True, False)


def test_while_the_terminal_is_asked_another_process_may_answer(terminal, tmp_path):
    thread, found = asking(terminal, work())
    terminal.until(b"[yes/no]")
    answer(tmp_path, "go", yes=True)
    thread.join()
    assert found[0].channel == "plan approve"


def test_a_terminal_works_with_a_thousand_open_files(tmp_path):
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    crowded = Terminal(tmp_path)
    try:
        thread, found = asking(crowded, work())
        crowded.until(b"[yes/no]")
        os.write(crowded.ours, b"yes\n")
        thread.join()
        assert found[0].yes
    finally:
        crowded.close()
        for descriptor in held:
            os.close(descriptor)
