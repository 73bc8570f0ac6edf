"""`browse`: on a real terminal of 80 x 24, and its screen in detail with Textual's pilot."""

import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager

import pytest
from command_shell import shell_in

from drtool.cli.commands.browse_pages import Marks, Page, Row, Trail
from drtool.cli.commands.browse_reader import Reader
from drtool.cli.core.call import Call
from drtool.cli.core.render import Form, Screen
from drtool.errors import DrtoolError
from drtool.sources.filesystem import Matcher, file_pattern_of
from drtool.trees import find_entry

try:
    import pyte

    from drtool.cli.commands.browse_app import HELP, Browser
except ModuleNotFoundError as error:
    if os.environ.get("CI"):
        raise
    pytest.skip(f"{error.name} is not here: make setup", allow_module_level=True)

PATIENCE_S = 60.0
HOSTILE = "[red]x\n\x1b[31m\u202e\u200b\x9b1A"

UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<>=?][0-9;]*[umcp]|\x1b\[\?[0-9;]*\$p")


def cut_before_open_code(data):
    """Return the bytes before a control code that has only begun, and that code."""
    found = re.search(rb"\x1b(\[[0-9;<>=?$]*)?\Z", data)
    return (data, b"") if found is None else (data[: found.start()], data[found.start() :])


class Terminal:
    """A terminal of 80 x 24 with a program, and a person who waits for texts and presses keys."""

    def __init__(self, shell, *words):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = self._begun = b""
        self.run = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "drtool", "browse", *words],  # the terminal signals its loss
            cwd=shell.directory,
            env={**os.environ, **shell.environ, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    @property
    def text(self):
        return "\n".join(self._screen.display)

    def until(self, text):
        end_s = time.monotonic() + PATIENCE_S
        while text not in self.text:
            assert time.monotonic() < end_s, f"{text!r} does not appear in\n{self.text}"
            assert self._read(), f"{text!r} did not appear before the end in\n{self.text}"

    def press(self, keys, then=""):
        os.write(self._ours, keys.encode())
        if then:
            self.until(then)

    def end(self):
        while self._read():
            pass
        os.close(self._ours)
        return self.run.wait(PATIENCE_S)

    def _read(self):
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
        assert ready, self.text
        try:
            part = os.read(self._ours, 65_536)
        except OSError:  # the program has ended
            return False
        self.raw += part
        whole, self._begun = cut_before_open_code(self._begun + part)
        for each in re.split(rb"(\x1b\[\?1049[hl])", whole):
            if each.startswith(b"\x1b[?1049"):
                self._screen.reset()  # pyte has no second screen, and old text must not satisfy `until`
            else:
                self._stream.feed(UNKNOWN_TO_PYTE.sub(b"", each))
        return True


@contextmanager
def on_terminal(shell, *words):
    terminal = Terminal(shell, *words)
    try:
        yield terminal
    finally:
        terminal.run.kill()
        terminal.run.wait()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two snapshots of `tree`: with hostile names, and then with a changed file."""
    made = shell_in(tmp_path_factory.mktemp("browsed"))
    tree = made.directory / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_text("hello\n")
    (tree / "sub" / "other.txt").write_text("other\n")
    (tree / HOSTILE).write_text("hostile\n")
    (tree / "star*").write_text("star\n")
    (tree / "starry").write_text("starry\n")
    (tree / "blank ").write_text("blank\n")
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets).code == 0
    assert made("backup", "tree", "--host", "web1").code == 0
    (tree / "file").write_text("hello again\n")
    assert made("backup", "tree", "--host", "web1").code == 0
    return made


@pytest.fixture
def repository(world, monkeypatch):
    monkeypatch.chdir(world.directory)
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    with Call(Screen(Form()), ["browse"]).open_for_reading() as opened:
        yield opened


def piloted(trail, steps, fetch=None):
    """Run the screen, and `steps(pilot)` on it; end both, whatever happens."""

    async def run():
        reader = Reader(fetch or trail.repository.trees)
        app = Browser(trail, reader)
        try:
            async with app.run_test(size=(80, 24)) as pilot:
                await complete(pilot, trail)
                await steps(pilot)
        finally:
            reader.close(PATIENCE_S)
        assert reader.bug is None
        return app

    return asyncio.run(run())


async def until(pilot, condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        await pilot.pause(0.005)


async def complete(pilot, trail):
    await until(pilot, lambda: trail.page.complete or trail.page.problem)


def lines(app):
    return [strip.text for strip in app.screen._compositor.render_strips()]


def whole(app):
    return "\n".join(lines(app))


def trail_of(repository, path=None):
    rows = sorted(repository.view.state.snapshots, key=lambda row: row.time_ns)
    trail = Trail(repository, rows)
    if path is not None:
        trail.pages.append(Page(kind="directory", snapshot=rows[-1], path=os.fsencode(path)))
    return trail


def select_row(trail, name):
    trail.page.cursor = next(n for n, row in enumerate(trail.page.rows) if row.path.endswith(os.fsencode(name)))


def test_a_person_finds_marks_and_restores_on_a_terminal(world, tmp_path):
    out = tmp_path / "out"
    tree = world.directory / "tree"
    with on_terminal(world, "--no-color") as terminal:
        terminal.until("1 of 2")
        assert "web1" in terminal.text
        terminal.press("/", "Name or pattern")
        terminal.press("file\r", "1 of 2")
        terminal.until("Search for file in all snapshots")
        terminal.press("\x7f", "Snapshots, newest first")
        terminal.press("\r", "1 of 1")
        terminal.press("/other.txt\r", "Search for other.txt")
        terminal.until("1 of 1")
        terminal.press(" ", "1 item marked")
        terminal.press("r", "Restore into the directory")
        terminal.press(f"{tree / 'file'}\r", "Press Enter")
        assert "is a file" in terminal.text.replace("\n", "")
        terminal.press("\r", "1 item marked")
        terminal.press("r", "Restore into the directory")
        terminal.press(f"{out}\r", "Restore these? [y/N]")
        assert "would restore 1 file" in terminal.text
        assert not out.exists()
        terminal.press("y\r", "Press Enter")
        assert "restored 1 file" in terminal.text
        terminal.press("\r", "Search for other.txt")
        terminal.press("q")
        assert terminal.end() == 0
    assert (out / str(tree)[1:] / "sub" / "other.txt").read_text() == "other\n"
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["other.txt"]
    colours = re.findall(rb"\x1b\[([0-9;]*)m", terminal.raw)
    assert not [code for code in colours if re.search(rb"(^|;)(3[0-7]|38|4[0-7]|48)(;|$)", code)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_killed_browser_leaves_no_session(world, number, code):
    with on_terminal(world) as terminal:
        terminal.until("1 of 2")
        terminal.run.send_signal(number)
        assert terminal.end() == code
    assert world("--json", "session", "list").document["sessions"] == []


def test_a_pipe_json_and_an_absent_textual_are_refused_in_plain_words(world, tmp_path):
    ran = world("browse")
    assert (ran.code, "needs a terminal" in ran.err) == (2, True)
    assert world("--json", "browse").code == 2
    assert world("--quiet", "browse").code == 2
    (tmp_path / "textual.py").write_text("raise ImportError\n")
    environ = {**world.environ, "PYTHONPATH": f"{tmp_path}:{world.environ['PYTHONPATH']}"}
    with on_terminal(type(world)(world.directory, environ)) as terminal:
        terminal.until("drtool[browse]")
        assert terminal.end() == 2


def test_hostile_names_and_markup_are_shown_escaped(world, repository):
    trail = trail_of(repository, world.directory / "tree")

    async def steps(pilot):
        shown = whole(pilot.app)
        assert "[red]x\\x0a\\x1b[31m\\xe2\\x80\\xae\\xe2\\x80\\x8b\\xc2\\x9b1A" in shown
        assert all(line.isprintable() for line in lines(pilot.app))
        select_row(trail, HOSTILE)
        await pilot.press("i")
        await complete(pilot, trail)
        assert "path      " in whole(pilot.app)
        assert all(line.isprintable() for line in lines(pilot.app))
        assert all(len(line) <= 80 for line in lines(pilot.app))

    piloted(trail, steps)


def test_details_list_the_versions_of_a_file(world, repository):
    trail = trail_of(repository, world.directory / "tree")

    async def steps(pilot):
        select_row(trail, "file")
        await pilot.press("enter")
        await complete(pilot, trail)
        shown = whole(pilot.app)
        assert "In 2 snapshots of web1, newest first:" in shown
        assert "size      12 B (12 bytes)" in shown
        assert " 6 B" in shown
        assert "as the one above" not in shown
        await pilot.press("backspace")
        select_row(trail, "starry")
        await pilot.press("i")
        await complete(pilot, trail)
        assert whole(pilot.app).count("as the one above") == 1
        await pilot.press("end", "enter")
        await complete(pilot, trail)
        assert trail.page.snapshot == trail.snapshots[0]
        assert trail.page.path == os.fsencode(world.directory / "tree")

    piloted(trail, steps)


def test_marks_help_and_quitting_by_keyboard(world, repository):
    trail = trail_of(repository, world.directory)

    async def steps(pilot):
        await pilot.press("r")
        await until(pilot, lambda: "nothing is marked" in whole(pilot.app))
        await pilot.press("space")
        await until(pilot, lambda: "1 item marked" in whole(pilot.app))
        assert any(line.startswith("> *") for line in lines(pilot.app)), "without colours too"
        await pilot.press("enter")
        await complete(pilot, trail)
        await pilot.press("space")
        await until(pilot, lambda: "a directory above is marked" in whole(pilot.app))
        await pilot.press("question_mark")
        await until(pilot, lambda: "restore what is marked, after a preview" in whole(pilot.app))
        assert "Press any key to go back." in [line.rstrip() for line in lines(pilot.app)]
        assert all(any(line.rstrip() == each for line in lines(pilot.app)) for each in HELP.splitlines()), "80 columns"
        await pilot.press("c")
        await until(pilot, lambda: "restore what is marked, after" not in whole(pilot.app))
        assert trail.marks.paths, "the key only closes the help"
        await pilot.press("c")
        assert not trail.marks.paths
        await pilot.press("escape", "escape", "escape")
        assert len(trail.pages) == 1
        await pilot.press("q")

    assert piloted(trail, steps).return_value is None


def test_100_000_names_are_drawn_as_fast_as_twenty(world, repository):
    trail = trail_of(repository, world.directory / "tree")
    snapshot = trail.snapshots[-1]

    async def steps(pilot):
        trail.page.rows = [Row(text=f"n{n:06}", snapshot=snapshot, path=b"/%d" % n) for n in range(100_000)]
        drawn = []
        rows = pilot.app.query_one("#rows")
        draw = rows.render_line
        rows.render_line = lambda y: drawn.append(y) or draw(y)
        await pilot.press("end")
        await until(pilot, lambda: "n099999" in whole(pilot.app))
        assert len(drawn) <= 4 * 24
        assert "100,000 of 100,000" in lines(pilot.app)[0]
        await pilot.press("pageup", "home")
        await until(pilot, lambda: "n000000" in whole(pilot.app))

    piloted(trail, steps)


def test_a_site_that_cannot_be_read_is_a_message_and_the_browser_goes_on(world, repository):
    trail = trail_of(repository)
    away = threading.Event()
    away.set()

    def fetch(chunk):
        if away.is_set():
            raise DrtoolError("no copy of [a] pack can be read:\n site a is away")
        return repository.trees(chunk)

    async def steps(pilot):
        trail.repository.trees = fetch
        try:
            await pilot.press("enter")
            await complete(pilot, trail)
            await until(pilot, lambda: "cannot be read: no copy of [a] pack" in whole(pilot.app))
            assert all(line.isprintable() for line in lines(pilot.app))
            trail.repository.trees = pilot_trees
            await pilot.press("f5")
            await until(pilot, lambda: trail.page.complete)
            assert trail.page.rows
        finally:
            trail.repository.trees = pilot_trees

    pilot_trees = repository.trees
    piloted(trail, steps)


def test_a_mark_includes_what_is_below_and_stays_in_one_snapshot(world, repository):
    older, newer = sorted(repository.view.state.snapshots, key=lambda row: row.time_ns)
    marks = Marks()

    def row(path, kind="file", snapshot=newer):
        return Row(text="", snapshot=snapshot, path=path, type=kind)

    assert marks.toggle(row(b"/a/b")) == ""
    assert marks.toggle(row(b"/ab")) == ""
    assert marks.toggle(row(b"/a", "directory")) == ""
    assert marks.paths == {b"/ab": False, b"/a": True}
    assert "directory above" in marks.toggle(row(b"/a/b"))
    assert newer.id.hex()[:8] in marks.toggle(row(b"/a", "directory", older))
    assert not marks.covers(older, b"/a")
    assert marks.toggle(row(b"/a", "directory")) == marks.toggle(row(b"/ab")) == ""
    assert marks.snapshot is None


def test_a_mark_restores_that_item_alone(world, repository, tmp_path):
    from drtool.cli.commands.browse import _request, _restore

    (snapshot,) = sorted(repository.view.state.snapshots, key=lambda row: row.time_ns)[-1:]
    tree = os.fsencode(world.directory / "tree")
    call = Call(Screen(Form(quiet=True)), ["browse"])
    for name in (b"star*", b"blank ", os.fsencode(HOSTILE)):
        marks = Marks()
        marks.toggle(Row(text="", snapshot=snapshot, path=tree + b"/" + name, type="file"))
        out = tmp_path / str(len(name))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("typer.prompt", lambda *_, out=out, **__: str(out))
            request = _request(call, marks)
        assert _restore(call, repository, request) == 0
        assert [os.fsencode(path.name) for path in out.rglob("*") if path.is_file()] == [name]
    assert find_entry(snapshot.root, tree, repository.trees) is not None


def test_a_pattern_for_a_file_matches_that_file_alone():
    for name in ("a*", "b ", "c  ", "[d]", "e\\", "#f", "!g", "h\n", "\\ ", "i?"):
        matcher = Matcher([file_pattern_of(os.fsencode(f"/{name}"))])
        assert matcher.verdict("", name, is_directory=False), name
        for other in ("x", f"{name}x", name.strip(), name.replace("*", "x").replace("?", "x")):
            assert other == name or not matcher.verdict("", other, is_directory=False), (name, other)


@contextmanager
def away(*paths):
    """These directories are gone meanwhile."""
    for path in paths:
        path.rename(path.with_name(f"{path.name}.away"))
    try:
        yield
    finally:
        for path in paths:
            path.with_name(f"{path.name}.away").rename(path)


def test_without_a_quorum_one_site_is_enough_to_browse(world, monkeypatch):
    monkeypatch.chdir(world.directory)
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    call = Call(Screen(Form(quiet=True)), ["browse"])
    with (
        away(world.directory / "a", world.directory / "b"),
        call.open_for_reading(["c"]) as repository,
    ):
        trail = trail_of(repository)

        async def steps(pilot):
            assert "read without a quorum" in lines(pilot.app)[0]
            await pilot.press("enter")
            await complete(pilot, trail)
            assert trail.page.rows

        piloted(trail, steps)


def test_a_restore_that_misses_data_gives_exit_code_3_and_keeps_the_marks(world, repository, tmp_path, monkeypatch):
    from drtool.cli.commands import browse

    trail = trail_of(repository)
    path = os.fsencode(world.directory / "tree" / "file")
    trail.marks.toggle(Row(text="", snapshot=trail.snapshots[-1], path=path, type="file"))
    monkeypatch.setattr("typer.prompt", lambda *_, **__: str(tmp_path / "out"))
    monkeypatch.setattr("typer.confirm", lambda *_: True)
    call = Call(Screen(Form(quiet=True)), ["browse"])
    with away(*(world.directory / site / "packs" for site in "abc")):
        assert browse._restore_marked(call, repository, trail.marks) == 3
    assert trail.marks.paths


def test_a_directory_with_files_asks_what_may_happen_to_them(world, repository, tmp_path, monkeypatch):
    from drtool.cli.commands import browse

    (tmp_path / "mine").write_text("mine")
    trail = trail_of(repository)
    path = os.fsencode(world.directory / "tree" / "file")
    trail.marks.toggle(Row(text="", snapshot=trail.snapshots[-1], path=path, type="file"))
    call = Call(Screen(Form(quiet=True)), ["browse"])
    for answer, overwrite in (("a", "always"), ("c", "if-changed"), ("n", "never")):
        answers = iter([str(tmp_path), answer])
        monkeypatch.setattr("typer.prompt", lambda *_, answers=answers, **__: next(answers))
        assert browse._request(call, trail.marks).overwrite == overwrite
    for answers in (iter([str(tmp_path), ""]), iter([""])):
        monkeypatch.setattr("typer.prompt", lambda *_, answers=answers, **__: next(answers))
        assert browse._request(call, trail.marks) is None


def test_a_lost_terminal_ends_the_browser(world):
    with on_terminal(world) as terminal:
        terminal.until("1 of 2")
        os.close(terminal._ours)
        assert terminal.run.wait(PATIENCE_S) in {129, -signal.SIGHUP}
