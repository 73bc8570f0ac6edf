"""`compare`: differences are named and counted. Sides that cannot be compared are never equal."""

import os
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from action_world import child, context, needs, run_context, step_context, work
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.errors import DrtoolError
from drtool.plans.actions import comparing
from drtool.plans.actions.comparing import OUTPUTS, CompareAction, Side, side
from drtool.plans.actions.trees_compared import Comparison
from drtool.plans.language.actions import RESULTS

compare = CompareAction()
ALL = ["tree", "hash", "metadata"]
T_NS = 10**18


def tree(root, content=None):
    root.mkdir()
    for name, data in (content or {"a": b"1", "d/b": b"2" * 3000, "d/c": b""}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "link").symlink_to("a")
    settle(root)
    return root


def settle(root):
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            os.utime(os.path.join(folder, name), ns=(T_NS, T_NS), follow_symlinks=False)
    os.utime(root, ns=(T_NS, T_NS))


@pytest.fixture
def both(tmp_path):
    return tree(tmp_path / "left"), tree(tmp_path / "right")


def act(tmp_path, left, right, what=ALL, exclude=(), one=None, **world):
    inputs = {"left": str(left), "right": str(right), "what": list(what), "exclude": list(exclude)}
    return compare.act(step_context("compare", inputs), run_context(tmp_path, **world), one or work())


def preview(tmp_path, left, right, what=ALL, more=None, **world):
    inputs = {"left": str(left), "right": str(right), "what": list(what)}
    return compare.preview(step_context("compare", inputs, **(more or {})), run_context(tmp_path, **world))


def test_alike_sides_pass(tmp_path, both):
    outcome = act(tmp_path, *both)
    assert (outcome.status, outcome.evidence["entries"], outcome.evidence["bytes"]) == ("passed", 6, 3001)
    assert outcome.outputs == {"equal": True, "differences": 0, "paths": []}
    assert set(outcome.outputs) == set(OUTPUTS) == set(RESULTS["compare"])
    assert preview(tmp_path, *both).verdict == "ok"


def changed_content(root):
    (root / "d/b").write_bytes(b"2" * 2999 + b"3")


def cut_short(root):
    (root / "d/b").write_bytes(b"2")


def gone(root):
    (root / "a").unlink()


def added(root):
    (root / "d/new").write_bytes(b"")


def made_a_directory(root):
    (root / "a").unlink()
    (root / "a").mkdir()


def linked_elsewhere(root):
    (root / "link").unlink()
    (root / "link").symlink_to("b")


def other_mode(root):
    (root / "a").chmod(0o600)
    (root / "d/c").chmod(0o755)


def other_time(root):
    os.utime(root / "a", ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "path", "word", "seen_by"),
    [
        (changed_content, "/d/b", "different content", {"hash"}),
        (cut_short, "/d/b", "3000 bytes left, 1 right", {"hash"}),
        (gone, "/a", "only left", {"tree", "hash", "metadata"}),
        (added, "/d/new", "only right", {"tree", "hash", "metadata"}),
        (made_a_directory, "/a", "a file left, a directory right", {"tree", "hash", "metadata"}),
        (linked_elsewhere, "/link", "points to a different target", {"tree", "hash", "metadata"}),
        (other_mode, "/d/c", "mode", {"metadata"}),
        (other_time, "/a", "a different modification time", {"metadata"}),
    ],
)
def test_each_kind_of_comparison_names_its_differences(tmp_path, both, change, path, word, seen_by):
    change(both[1])
    if change is not other_time:
        settle(both[1])
    for what in ALL:
        outcome = act(tmp_path, *both, [what])
        assert outcome.status == ("failed" if what in seen_by else "passed"), what
        if what in seen_by:
            assert any(row.startswith(f"{path}: ") and word in row for row in outcome.evidence["rows"])
            assert path in outcome.outputs["paths"]


def test_excluded_files_are_not_compared(tmp_path, both):
    changed_content(both[1])
    (both[1] / "d/new.tmp").write_bytes(b"")
    settle(both[1])
    assert act(tmp_path, *both, exclude=["/d/b", "*.tmp"]).status == "passed"
    assert act(tmp_path, *both, exclude=["*.tmp"]).status == "failed"


def test_many_differences_are_counted_and_some_are_named(tmp_path):
    left = tree(tmp_path / "left", {f"f{number:04}": b"" for number in range(500)})
    right = tree(tmp_path / "right", {"f0000": b""})
    outcome = act(tmp_path, left, right)
    assert outcome.outputs["differences"] == 499
    assert len(outcome.evidence["rows"]) == len(outcome.outputs["paths"]) == comparing.ROWS
    assert outcome.detail == "/f0001: only left, and 498 more"


def test_nothing_compared_proves_nothing(tmp_path):
    (tmp_path / "l").mkdir()
    (tmp_path / "r").mkdir()
    assert act(tmp_path, tmp_path / "l", tmp_path / "r").status == "unproven"
    assert act(tmp_path, tmp_path / "gone", tmp_path / "gone too").status == "unproven"
    (tmp_path / "l/x").write_bytes(b"")
    assert act(tmp_path, tmp_path / "l", tmp_path / "l", exclude=["x"]).status == "unproven"


def test_a_side_that_is_gone_differs_and_cannot_run(tmp_path, both):
    outcome = act(tmp_path, both[0], tmp_path / "gone")
    assert (outcome.status, outcome.outputs["equal"]) == ("failed", False)
    found = preview(tmp_path, both[0], f"live:{tmp_path}/gone")
    assert (found.verdict, found.detail) == ("cannot run", f"there is no {tmp_path}/gone")
    later = preview(tmp_path, both[0], tmp_path / "gone", more={"needs": (SimpleNamespace(step="make"),)})
    assert (later.verdict, later.detail.startswith("needs make")) == ("deferred", True)


def test_unreadable_files_are_unproven_unless_something_differs(tmp_path, both, monkeypatch):
    real = os.open

    def refuse(path, *words, **more):
        if path == os.fsencode(both[1] / "d/b"):
            raise PermissionError(13, "Permission denied")
        return real(path, *words, **more)

    monkeypatch.setattr(os, "open", refuse)
    outcome = act(tmp_path, *both)
    assert (outcome.status, "/d/b: cannot be read" in outcome.detail) == ("unproven", True)
    (both[1] / "a").unlink()
    assert act(tmp_path, *both).status == "failed"


def test_single_files(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(b"x" if name < "c" else b"y")
    assert act(tmp_path, tmp_path / "a", f"live:{tmp_path}/b", ["hash"]).status == "passed"
    assert act(tmp_path, tmp_path / "a", tmp_path / "c", ["hash"]).detail.startswith("/: different content")


def test_a_live_path_is_found_below_the_restored_root(tmp_path, both):
    below = tmp_path / "scratch" / str(both[0]).lstrip("/")
    below.parent.mkdir(parents=True)
    both[1].rename(below)
    assert act(tmp_path, tmp_path / "scratch", f"live:{both[0]}").status == "passed"
    assert act(tmp_path, f"live:{both[0]}", tmp_path / "scratch").status == "passed"


@pytest.mark.parametrize(
    ("right", "what"),
    [
        ("recorded:host", ["packages", "hash"]),
        ("recorded:orders", ["rowcount"]),
        ("postgresql://h/d", ["schema"]),
        ("recorded:home", ["tree"]),
        ("postgresql://h/d", ["hash"]),
        ("live:", ["hash"]),
    ],
)
def test_data_that_no_snapshot_records_is_unproven_and_cannot_run(tmp_path, both, right, what):
    assert act(tmp_path, both[0], right, what).status == "unproven"
    assert preview(tmp_path, both[0], right, what).verdict == "cannot run"


def test_what_is_not_known_yet_is_deferred(tmp_path, both):
    found = preview(tmp_path, "${{ steps.f.outputs.d }}", both[0], more={"context": context(steps=needs("f"))})
    assert (found.verdict, found.detail) == ("deferred", "needs f")


def test_a_timeout_and_a_cancellation_end_it(tmp_path, both):
    outcome = act(tmp_path, *both, one=work(-1))
    assert (outcome.status, outcome.cause) == ("failed", "timeout")
    one = work()
    one.cancelled.set()
    assert act(tmp_path, *both, one=one).status == "aborted"


def test_a_file_without_end_is_left_soon(tmp_path):
    for name in ("l", "r"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(1 << 40)
    one = work()
    threading.Timer(0.4, one.cancelled.set).start()
    began = time.monotonic()
    assert act(tmp_path, tmp_path / "l", tmp_path / "r", ["hash"], one=one).status == "aborted"
    assert time.monotonic() - began < 30


@settings(max_examples=sample(60), deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=3)),
    st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=3)),
)
def test_exactly_the_differences_are_found(tmp_path_factory, one, other):
    root = tmp_path_factory.mktemp("trees")
    for name, files in (("l", one), ("r", other)):
        (root / name).mkdir()
        for file, data in files.items():
            (root / name / file).write_bytes(data)
    comparison = Comparison(("tree", "hash"), (), lambda: None)
    found = {row.path[1:] for row in comparison.found(os.fsencode(root / "l"), os.fsencode(root / "r"))}
    assert found == {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def test_how_sides_are_written():
    assert side("/a/b:c") == Side("path", "/a/b:c")
    assert side("live:/a") == Side("live", "/a")
    assert side("recorded:home") == Side("recorded", "home")
    assert side("snapshot:3f2a") == Side("snapshot", "3f2a")
    assert side("snapshot:3f2a:/etc") == Side("snapshot", "3f2a", "/etc")
    assert side("snapshot:latest@2026-01-31T22:30:/etc") == Side("snapshot", "latest@2026-01-31T22:30", "/etc")
    assert side("postgresql://h/d") == Side("dsn", "postgresql://h/d")


# -- a snapshot side is restored by a drtool child process


ID = "3f2a" * 8


def world_with_snapshot(tmp_path, restore, *more):
    rooms = []

    def drtool(words, one):
        if words == ["snapshots"]:
            return child(), {"snapshots": [{"id": ID, "files": 3, "bytes": 3001}, {"id": "ff" * 16}]}
        assert words[0] == "restore"
        return restore(words)

    def scratch(size_bytes, files):
        rooms.append((size_bytes, files))
        return tmp_path

    snapshot = SimpleNamespace(
        id=bytes.fromhex(ID), host="web", source="home", paths=(), tags=(), time_ns=1, sequence=1
    )
    state = SimpleNamespace(snapshots=[snapshot, *more])
    repository = SimpleNamespace(view=SimpleNamespace(state=state))
    return {"drtool": drtool, "repository": lambda: nullcontext(repository)}, work(scratch=scratch), rooms


def test_a_snapshot_is_restored_into_scratch_and_compared(tmp_path, both):
    asked_for = []

    def restore(words):
        asked_for.append(words)
        both[1].rename(words[words.index("--to") + 1])
        return child(), {"errors": []}

    world, one, rooms = world_with_snapshot(tmp_path, restore)
    assert preview(tmp_path, "snapshot:3f:/srv", both[0], **world).pins == {"l": ID}
    assert act(tmp_path, "snapshot:3f:/srv", both[0], one=one, **world).status == "passed"
    assert asked_for == [["restore", "--to", f"{tmp_path}/side", "--", f"{ID}:/srv"]]
    assert rooms[0][0] >= 3001


def test_latest_of_several_sources_is_ambiguous(tmp_path, both):
    other = SimpleNamespace(id=b"\xff" * 16, host="web", source="etc", paths=(), tags=(), time_ns=2, sequence=2)
    alone, _, _ = world_with_snapshot(tmp_path, None)
    assert preview(tmp_path, "snapshot:latest", both[0], **alone).pins == {"l": ID}
    several, _, _ = world_with_snapshot(tmp_path, None, other)
    with pytest.raises(DrtoolError, match="snapshots of source etc of web, source home of web"):
        preview(tmp_path, "snapshot:latest", both[0], **several)


def test_a_snapshot_that_is_not_there_or_not_restored_is_an_error(tmp_path, both):
    world, one, _ = world_with_snapshot(tmp_path, lambda words: (child(3, stderr="x\nno room\n"), {"errors": [1]}))
    with pytest.raises(DrtoolError, match="no snapshot's id begins with 'aa'"):
        preview(tmp_path, "snapshot:aa", both[0], **world)
    with pytest.raises(DrtoolError, match="could not be restored to compare it: no room"):
        act(tmp_path, "snapshot:3f", both[0], one=one, **world)
