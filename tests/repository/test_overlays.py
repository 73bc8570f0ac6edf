"""Overlays as files: their scope, their end, and the handling of unintelligible files."""

import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from drill_faults import BYTES, OTHER, PACK, Ground, holder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from thoroughness import sample

import drtool
from drtool.errors import StoreError, TargetOffline
from drtool.repository.overlays import LONGEST_S, OverlayFiles, Overlays, canonical, warnings
from drtool.repository.overlays.record import encode
from drtool.repository.overlays.watch import LOOK_S
from drtool.repository.places import open_if_there, open_in_time, open_store
from drtool.repository.processes import boot_time_s, this_process
from drtool.repository.spec import TargetSpec
from drtool.stores import Medium, ReadOnlyStore

READER = """
import sys
from pathlib import Path
from drtool.repository.overlays import Overlays
from drtool.repository.places import open_store
from drtool.repository.spec import TargetSpec
store = Overlays(Path(sys.argv[1])).opened(TargetSpec(name="a/main", url=sys.argv[2]), open_store)
print("open", flush=True)
for name in sys.stdin:
    try:
        print(store.get(name.strip()).hex(), flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


@pytest.fixture
def ground(tmp_path):
    return Ground(tmp_path)


@pytest.fixture
def reader(ground):
    """Asks a process that opened its store before anything was injected."""
    words = [sys.executable, "-c", READER, str(ground.state), str(ground.place)]
    environ = {"PYTHONPATH": str(Path(drtool.__file__).parent.parent)}
    with subprocess.Popen(words, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"

        def ask(name):
            print(name, file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        yield ask
        process.kill()


def test_a_process_that_opened_before_sees_the_beginning_and_the_end(ground, reader):
    assert reader(PACK) == BYTES.hex()
    ground.put("offline")
    assert reader(PACK) == "TargetOffline"
    ground.clear()
    assert reader(PACK) == BYTES.hex()
    assert not ground.faults.exists()


def test_both_processes_see_the_same_wrong_bytes_and_a_put_ends_them_for_both(ground, reader):
    ground.put("corrupt", objects=(PACK, OTHER), seed="7", flip_bytes=3)
    mine = ground.store()
    wrong = mine.get(PACK)
    assert wrong != BYTES
    assert reader(PACK) == wrong.hex()
    mine.put(PACK, b"stored anew")
    assert mine.get(PACK) == b"stored anew"
    time.sleep(LOOK_S * 1.25)
    assert reader(PACK) == b"stored anew".hex()
    assert reader(OTHER) != BYTES[::-1].hex()
    assert Overlays(ground.state).in_force()[0].objects == (OTHER,)


def test_a_put_does_not_bring_back_an_overlay_that_was_removed(ground):
    record = ground.put("corrupt", objects=(PACK,))
    store = ground.store()
    assert store.get(PACK) != BYTES
    ground.overlays.files.remove(record.id)
    store.put(PACK, BYTES)
    assert not ground.faults.exists()


def test_a_put_whose_end_cannot_be_recorded_says_so(ground, monkeypatch):
    ground.put("corrupt", objects=(PACK,))

    def no_room(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OverlayFiles, "end_object", no_room)
    with pytest.raises(
        StoreError, match="was stored, but a drill's fault on it could not be ended: No space"
    ) as raised:
        ground.store().put(PACK, b"new")
    assert "fault clear --run r1" in raised.value.hint
    with ground.plain() as store:
        assert store.get(PACK) == b"new"


def test_an_overlay_with_unknown_ended_objects_is_not_in_force(ground):
    record = ground.put("corrupt", objects=(PACK,))
    (ground.faults / f"{record.id}.ended").mkdir()
    assert ground.store().get(PACK) == BYTES
    assert [bad.name for bad in ground.overlays.sweep().bad] == [f"{record.id}.json"]


def test_no_directory_no_overlay_and_none_is_made(ground):
    assert ground.store().get(PACK) == BYTES
    assert ground.overlays.sweep().dropped == ()
    assert not ground.state.exists()


def test_only_that_place_is_affected_under_any_name(ground, tmp_path):
    ground.put("offline")
    link = tmp_path / "link"
    link.symlink_to(ground.place)
    for name, url in (("a/main", ground.place), ("other/name", ground.place), ("a/main", link)):
        with pytest.raises(TargetOffline):
            ground.overlays.opened(TargetSpec(name=name, url=str(url)), open_store)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert list(ground.overlays.opened(TargetSpec(name="a/main", url=str(elsewhere)), open_store).list()) == []


def test_without_a_place_the_name_decides(ground):
    ground.put("offline", url="")
    with pytest.raises(TargetOffline):
        ground.store()
    ground.overlays.opened(replace(ground.spec, name="b/main"), open_store).close()


def test_places_that_are_opened_from_outside_suffer_as_well(ground):
    with closing(open_in_time(ground.spec, overlays=ground.overlays)) as store:
        assert isinstance(store, Medium)
        assert store.names() == ["packs"]
        assert store.vote_verdict().file_system
        ground.put("offline")
        for call in (store.names, store.vote_verdict):
            with pytest.raises(TargetOffline):
                call()
    with pytest.raises(TargetOffline):
        open_if_there(ground.spec, ground.overlays)


def test_an_overlay_ends_by_the_clock_since_boot(ground):
    clock = [boot_time_s()]
    overlays = Overlays(ground.state, clock=lambda: clock[0])
    store = overlays.opened(ground.spec, open_store)
    ground.put("offline", boot_deadline_s=clock[0] + 60)
    with pytest.raises(TargetOffline):
        store.get(PACK)
    clock[0] += 59.9
    with pytest.raises(TargetOffline):
        store.get(PACK)
    clock[0] += 0.2
    assert store.get(PACK) == BYTES


def test_it_expires_without_any_command(ground):
    store = ground.store()
    ground.put("offline", boot_deadline_s=boot_time_s() + 0.6)
    with pytest.raises(TargetOffline):
        store.get(PACK)
    time.sleep(0.5)
    assert store.get(PACK) == BYTES
    (line,) = warnings(Overlays(ground.state).sweep())
    assert line == "ended faults of a drill were removed: offline at a/main (run r1: its time was up)"
    assert not ground.faults.exists()


def test_targets_that_are_opened_all_at_once_all_see_it(ground):
    """A look that is under way in one thread is no look for another."""
    ground.put("offline")
    for _turn in range(20):
        overlays, start, seen = Overlays(ground.state), threading.Barrier(8), []

        def look(overlays=overlays, start=start, seen=seen):
            start.wait()
            seen.append(len(overlays.in_force()))

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [1] * 8


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime")
@pytest.mark.parametrize("shift", ["+400d", "-400d"])
def test_setting_the_clock_neither_ends_nor_prolongs(ground, shift):
    ground.put("offline")
    words = "import sys, time; sys.stderr.write(str(time.time())); " + READER
    environ = {
        "PYTHONPATH": str(Path(drtool.__file__).parent.parent),
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": shift,
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", words, str(ground.state), str(ground.place)],
        env=environ, input="", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert abs(float(done.stderr.partition("Traceback")[0]) - time.time()) > 300 * 86400
    assert "TargetOffline: a drill keeps it offline" in done.stderr
    ground.clear()
    done = subprocess.run(
        [sys.executable, "-c", READER, str(ground.state), str(ground.place)],
        env=environ, input=PACK, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"open\n{BYTES.hex()}\n"


def test_an_owner_that_was_killed_takes_its_fault_along(ground, reader):
    with holder(ground.state, "a/main", ground.place, "offline") as process:
        time.sleep(LOOK_S * 1.25)
        assert reader(PACK) == "TargetOffline"
        assert len(list(ground.faults.iterdir())) == 1
        process.kill()
        process.wait()
        time.sleep(LOOK_S * 1.25)
        assert reader(PACK) == BYTES.hex()
    assert ground.faults.exists()
    (line,) = warnings(Overlays(ground.state).sweep())
    assert line == "ended faults of a drill were removed: offline at a/main (run killed: its process is gone)"
    assert not ground.faults.exists()


@pytest.mark.parametrize("field", ["start_time", "boot_id"])
def test_another_process_with_that_number_is_not_the_owner(ground, field):
    other = {"start_time": 1, "boot_id": "11111111-2222-3333-4444-555555555555"}[field]
    ground.put("offline", owner=replace(this_process(), **{field: other}))
    assert ground.store().get(PACK) == BYTES
    assert [row.state for row in ground.overlays.sweep().dropped] == ["owner gone"]


def test_the_overlay_of_another_machine_is_ignored_and_reported(ground):
    ground.put("offline", owner=replace(this_process(), machine_id="another"))
    assert ground.store().get(PACK) == BYTES
    (line,) = warnings(ground.overlays.sweep())
    assert line.startswith("ignored in the directory of faults: ")
    assert "it belongs to another machine" in line
    assert len(list(ground.faults.glob("*.json"))) == 1


def test_an_owner_in_a_container_that_cannot_be_looked_into_is_believed(ground):
    ground.put("offline", owner=replace(this_process(), pid_namespace="pid:[1]", pid=1))
    with pytest.raises(TargetOffline):
        ground.store()
    assert ground.overlays.sweep().dropped == ()


def test_the_kill_switch_ends_everything(ground):
    store = ground.store()
    ground.put("offline")
    (ground.faults / "STOP").touch()
    time.sleep(LOOK_S * 1.25)
    assert store.get(PACK) == BYTES
    assert [row.state for row in ground.overlays.sweep().dropped] == ["stopped"]
    assert os.listdir(ground.faults) == ["STOP"]


def test_a_kill_switch_of_ones_own_ends_its_overlay_alone(ground, tmp_path):
    switch = tmp_path / "stop-drills"
    ground.put("offline", kill_switch=str(switch))
    with pytest.raises(TargetOffline):
        ground.store()
    switch.symlink_to("nowhere")
    time.sleep(LOOK_S * 1.25)
    assert ground.store().get(PACK) == BYTES


def as_text(ground, record=None):
    return encode(record or ground.record("offline", id="torn"))


BAD = {
    "empty": lambda ground: b"",
    "torn": lambda ground: as_text(ground)[:150],
    "no JSON": lambda ground: b"offline paris\n",
    "not text": lambda ground: bytes(range(256)),
    "a list": lambda ground: b"[]",
    "another id": lambda ground: as_text(ground, ground.record("offline", id="other")),
    "unknown kind": lambda ground: as_text(ground).replace(b'"offline"', b'"on fire"'),
    "for ever": lambda ground: as_text(ground, ground.record("offline", id="torn", boot_deadline_s=1e12)),
    "infinite": lambda ground: as_text(ground, ground.record("slow", id="torn", latency_s=1e300)),
    "backwards": lambda ground: as_text(ground, ground.record("slow", id="torn", bytes_per_second=-1)),
    "nothing to corrupt": lambda ground: as_text(ground, ground.record("corrupt", id="torn")),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_an_unintelligible_file_is_ignored_reported_and_stops_nothing(content, ground):
    ground.faults.mkdir(parents=True)
    (ground.faults / "torn.json").write_bytes(content(ground))
    ground.put("slow", latency_s=0.001)
    assert ground.store().get(PACK) == BYTES
    assert [record.kind for record in ground.overlays.in_force()] == ["slow"]
    (line,) = warnings(ground.overlays.sweep())
    assert line.startswith("ignored in the directory of faults: torn.json (")
    assert line.endswith("; drtool fault clear removes them")
    assert (ground.faults / "torn.json").exists()


ODD = {
    "a directory": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link": lambda path: path.symlink_to("/etc/hostname"),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "too large": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_a_foreign_file_is_ignored(make, ground):
    ground.faults.mkdir(parents=True)
    make(ground.faults / "odd.json")
    assert ground.store().get(PACK) == BYTES
    assert [bad.name for bad in ground.overlays.sweep().bad] == ["odd.json"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs to give a file away")
def test_the_file_of_another_user_is_ignored(ground):
    record = ground.put("offline")
    os.chown(ground.faults / f"{record.id}.json", 4321, 4321)
    assert Overlays(ground.state).opened(ground.spec, open_store).get(PACK) == BYTES
    assert "it belongs to user 4321" in warnings(ground.overlays.sweep())[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=sample(60))
@given(data=st.data())
def test_no_damage_to_a_file_is_a_crash(ground, data):
    whole = as_text(ground)
    at = data.draw(st.integers(0, 400))
    damaged = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + data.draw(st.integers(0, 3)) :]
    ground.faults.mkdir(parents=True, exist_ok=True)
    (ground.faults / "torn.json").write_bytes(damaged)
    shelf = OverlayFiles(ground.state).read()
    assert len(shelf.records) + len(shelf.bad) == 1
    for record in shelf.records:
        assert record.boot_deadline_s - boot_time_s() <= LONGEST_S


def test_the_next_sweep_removes_unfinished_files_of_a_killed_process(ground):
    ground.faults.mkdir(parents=True)
    for name in ("orphan.ended", ".tmp-unfinished"):
        (ground.faults / name).touch()
    assert warnings(ground.overlays.sweep()) == []
    assert not ground.faults.exists()


def test_a_writer_gets_through_while_others_tidy_up(ground):
    done = threading.Event()

    def tidy():
        while not done.is_set():
            Overlays(ground.state).sweep()

    threads = [threading.Thread(target=tidy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _turn in range(100):
            record = ground.record("offline")
            ground.overlays.files.write(record)
            assert [each.id for each in ground.overlays.files.read().records] == [record.id]
            ground.overlays.files.remove(record.id)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_torn_line_hides_no_other(ground):
    record = ground.put("corrupt", objects=(PACK, OTHER))
    with (ground.faults / f"{record.id}.ended").open("ab") as file:
        file.write(b"\npacks/to")
    ground.overlays.files.end_object(record.id, OTHER)
    assert Overlays(ground.state).in_force()[0].objects == (PACK,)


def test_the_file_is_private_and_whole(ground):
    record = ground.put("offline")
    path = ground.faults / f"{record.id}.json"
    assert (path.stat().st_mode & 0o777, ground.faults.stat().st_mode & 0o777) == (0o600, 0o700)
    assert msgspec.json.decode(path.read_bytes(), type=type(record)) == record
    assert os.listdir(ground.faults) == [f"{record.id}.json"]


def test_an_irremovable_file_is_reported_and_has_no_effect(ground, monkeypatch):
    ground.put("offline", boot_deadline_s=boot_time_s() - 1)

    def refuse(*_args, **_more):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "unlink", refuse)
    assert "cannot be removed" in warnings(ground.overlays.sweep())[0]
    assert ground.store().get(PACK) == BYTES


def test_places_are_compared_in_one_form(tmp_path):
    assert canonical("s3://bucket/x/") == canonical("s3://bucket/x")
    assert canonical(f"file://{tmp_path}/a/../b") == canonical(str(tmp_path / "b"))


def test_a_store_without_names_may_lie_below(ground):
    ground.put("read-only")
    store = ground.overlays.opened(ground.spec, lambda spec: ReadOnlyStore(open_store(spec)))
    assert store.get(PACK) == BYTES
