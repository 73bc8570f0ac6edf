"""The inbox: its valid contents, their handling, and the harmlessness of invalid contents."""

import os
import threading

import msgspec
import pytest
from manifest_world import Sites, backup, snapshot, sources

from drtool.crypto import Keyring, SealKind
from drtool.errors import Rejected
from drtool.manifest import (
    AddSnapshot,
    CheckpointSession,
    CloseSession,
    Manifest,
    MemoryState,
    OpenSession,
    Policy,
    SetPolicy,
    SetRing,
    commit,
    inbox,
)
from drtool.manifest.drive import Driver
from drtool.manifest.head import seal_row
from drtool.manifest.names import INBOX, inbox_key, op_id_of
from drtool.manifest.ops import Change, make_change
from drtool.manifest.ports import List, PutIfAbsent
from drtool.manifest.witness import Outstanding

NAMES = ("site0", "site1", "site2")


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path)


@pytest.fixture
def manifest(sites):
    return sites.found()


def drive(sites, talk):
    return Driver(sites.stores(), MemoryState()).run(talk)


def opening(state, session=None, **words) -> Change:
    session = session or os.urandom(16)
    words = {"kind": "backup", "host_id": "crowd", "host": "crowd", "based_on": state.sequence} | words
    return make_change(OpenSession(session=session, **words), session, 0, 0, "crowd")


def lying_there(sites) -> set[str]:
    return {path.name for name in NAMES for path in (sites.root / name / INBOX).glob("*")}


def leave(sites, view, *changes) -> str:
    assert drive(sites, inbox.leave(NAMES, sites.keys, view.config, changes))
    return inbox.key_of(changes)


def fetch(sites, config, key) -> inbox.Fetched:
    names = drive(sites, inbox.look(NAMES, 3))
    return drive(sites, inbox.fetch(sites.keys, config, names, [key]))


def in_company(manifest: Manifest) -> Manifest:
    """A run that has met others before."""
    manifest._course._crowd.met = True
    return manifest


# valid contents


def test_names_are_op_ids_and_anything_else_is_none():
    session = os.urandom(16)
    assert op_id_of(inbox_key(session, 7)) == (session, 7)
    for other in (
        "",
        INBOX,
        f"{INBOX}{session.hex()}",
        f"{INBOX}{session.hex()}.07",
        f"{INBOX}{session.hex()}.-1",
        "x",
    ):
        assert op_id_of(other) is None
    assert op_id_of(f"{INBOX}{session.hex()}.{'9' * 40}") is None


def test_only_changes_that_stay_rejected_may_be_left(sites, manifest):
    state = manifest.read().state
    session = os.urandom(16)

    def change(op):
        return make_change(op, session, 1, 0, "host")

    may = [opening(state), change(CheckpointSession(session)), change(AddSnapshot(session, snapshot(session)))]
    assert inbox.may_be_left(may)
    for op in (SetRing(2, state.targets, session), SetPolicy(Policy(1), session)):
        assert not inbox.may_be_left([*may, change(op)])  # a mover is in the way today, and gone tomorrow
    assert not inbox.may_be_left([opening(state, kind="prune")])
    assert not inbox.may_be_left([])
    assert not inbox.may_be_left([opening(state, source="x" * inbox.ENTRY_LIMIT_BYTES)])


def test_an_entry_comes_back_as_it_was_left(sites, manifest):
    view = manifest.read()
    change = opening(view.state)
    key = leave(sites, view, change)
    assert lying_there(sites) == {key.removeprefix(INBOX)}
    fetched = fetch(sites, view.config, key)
    assert [entry.changes for entry in fetched.entries] == [(change,)]
    assert fetched.foreign == {}


def test_objects_not_made_with_the_key_are_skipped_and_named(sites, manifest):
    view = manifest.read()
    change = opening(view.state)
    entry = inbox.Entry(view.config.generation, view.config.recovery, (change,))
    good = seal_row(sites.keys, SealKind.INBOX, entry)
    other_life = msgspec.structs.replace(entry, generation=2)
    bad = {
        "noise": os.urandom(300),
        "nothing": b"",
        "cut": good[:-1],
        "another key": seal_row(Keyring.draw(os.urandom(16)), SealKind.INBOX, entry),
        "another kind": seal_row(sites.keys, SealKind.OBJECT, entry),
        "another life": seal_row(sites.keys, SealKind.INBOX, other_life),
        "too large": good + bytes(inbox.SEALED_LIMIT_BYTES),
        "not for the inbox": seal_row(
            sites.keys,
            SealKind.INBOX,
            msgspec.structs.replace(
                entry, changes=(make_change(SetPolicy(Policy(1), change.session), change.session, 0, 0, ""),)
            ),
        ),
        "another name": seal_row(
            sites.keys, SealKind.INBOX, msgspec.structs.replace(entry, changes=(opening(view.state),))
        ),
    }
    store = sites.stores()["site0"]
    for what, data in bad.items():
        store.put(entry.key, data)
        fetched = fetch(sites, view.config, entry.key)
        assert not fetched.entries, what
        assert fetched.foreign == {"site0": [entry.key]}, what


def test_a_site_with_garbage_does_not_hide_changes_at_other_sites(sites, manifest):
    view = manifest.read()
    key = leave(sites, view, opening(view.state))
    sites.stores()["site0"].put(key, b"garbage")
    fetched = fetch(sites, view.config, key)
    assert len(fetched.entries) == 1
    assert fetched.foreign in ({}, {"site0": [key]})


def test_an_entry_of_a_newer_program_is_left_alone(sites, manifest):
    view = manifest.read()
    session = os.urandom(16)
    newer = Change(session, 0, 0, "host", msgspec.Raw(msgspec.msgpack.encode(["fly-to-the-moon", session])))
    entry = inbox.Entry(view.config.generation, view.config.recovery, (newer,))
    sites.stores()["site0"].put(entry.key, seal_row(sites.keys, SealKind.INBOX, entry))
    fetched = fetch(sites, view.config, entry.key)
    assert not fetched.entries
    assert not fetched.foreign
    drive(sites, inbox.tidy(NAMES, sites.keys, view.config, view.state))
    assert lying_there(sites) == {entry.key.removeprefix(INBOX)}


def test_an_entry_under_a_key_that_this_host_lacks_is_left_alone(sites, manifest):
    view = manifest.read()
    newer = Keyring(sites.keys.repository, {**sites.keys.masters, 2: os.urandom(32)})
    entry = inbox.Entry(view.config.generation, view.config.recovery, (opening(view.state),))
    sites.stores()["site0"].put(entry.key, seal_row(newer, SealKind.INBOX, entry))
    fetched = fetch(sites, view.config, entry.key)
    assert (fetched.entries, fetched.foreign) == ([], {})


# handling


def test_a_batch_takes_each_entry_whole_or_not_at_all(sites, manifest):
    state = manifest.read().state
    own, first, last = (opening(state) for _ in range(3))
    half = (opening(state), make_change(CloseSession(b"z" * 16), first.session, 1, 0, ""))  # the second is rejected

    def entry(*changes):
        return inbox.Entry(1, b"", changes)

    after = commit.apply_all(state, [own])
    batch = inbox.batch(after, (own,), [entry(first), entry(*half), entry(first), entry(last)], 64, 1 << 20)
    assert batch.changes == (own, first, last)
    assert batch.refused == (entry(*half).key,)
    assert [row.id for row in batch.state.sessions] == [own.session, first.session, last.session]
    assert commit.apply_all(state, batch.changes) == batch.state


def test_a_batch_is_bounded_and_a_change_too_large_for_it_delays_no_other(sites, manifest):
    state = manifest.read().state
    own, wide, small = opening(state), opening(state, source="x" * 5000), opening(state)
    after = commit.apply_all(state, [own])
    entries = [inbox.Entry(1, b"", (change,)) for change in (wide, small)]
    assert inbox.batch(after, (own,), entries, 64, 2000).changes == (own, small)
    assert inbox.batch(after, (own,), entries, 2, 1 << 20).changes == (own, wide)
    assert inbox.batch(after, (own,), entries, 1, 1 << 20).changes == (own,)


def test_the_order_changes_with_every_head_and_the_applied_are_not_in_it(sites, manifest):
    state = manifest.read().state
    changes = [opening(state) for _ in range(12)]
    keys = {inbox.key_of([change]) for change in changes}
    names = {"site0": sorted(keys), "site1": [f"{INBOX}garbage"]}
    orders = {tuple(inbox.waiting(names, state, bytes([turn]))) for turn in range(20)}
    assert len({order[0] for order in orders}) > 4
    assert all(set(order) == keys for order in orders)
    after = commit.apply_all(state, changes[:5])
    assert set(inbox.waiting(names, after, b"")) == {inbox.key_of([change]) for change in changes[5:]}


def test_a_host_that_met_others_commits_their_changes_in_one_head(sites, manifest):
    view = manifest.read()
    left = [opening(view.state) for _ in range(5)]
    for change in left:
        leave(sites, view, change)
    committed = in_company(sites.host()).commit(SetPolicy(Policy(1)))
    assert committed.view.sequence == view.sequence + 3 + 5
    assert {change.session for change in left} == {row.id for row in committed.view.state.sessions}


def test_a_run_remembers_that_others_were_there_until_it_is_alone(sites, manifest):
    view = manifest.read()
    leave(sites, view, opening(view.state))
    host = in_company(sites.host())
    crowd = host._course._crowd
    host.commit(SetPolicy(Policy(1)))
    assert crowd.met
    host.commit(SetPolicy(Policy(1)))
    assert not crowd.met


def test_an_owner_only_reads_if_another_host_committed_its_change(sites, manifest):
    view = manifest.read()
    change = opening(view.state)
    leave(sites, view, change)
    in_company(sites.host("other")).commit(SetPolicy(Policy(1)))
    phases: list[str] = []
    owner = sites.host(trace=lambda note: phases.append(note.phase))
    owner._local.journal(Outstanding((change,)))
    assert owner.settle() == 1
    assert "prepare" not in phases
    assert owner._local.outstanding() == ()


def test_an_abandoned_promise_only_delays_the_next_commit(sites, manifest):
    """Its owner died: the next host leaves its change in the inbox, waits, then continues alone, and cleans up."""
    seen = []

    def die(_step, request):
        if isinstance(request, List) and len(seen) >= 3:
            raise KeyboardInterrupt
        if isinstance(request, PutIfAbsent):
            seen.append(request)

    with pytest.raises(KeyboardInterrupt):
        sites.host("dead", hook=die).commit(SetPolicy(Policy(1)))
    keys: list[str] = []
    host = sites.host(hook=lambda _step, request: keys.append(getattr(request, "name", "")))
    backup(host)
    assert sources(host.read()) == ["home"]
    assert any(key.startswith(INBOX) for key in keys)
    assert lying_there(sites) == set()
    assert host._local.outstanding() == ()


def test_a_rejection_reaches_the_host_that_left_the_change(sites, manifest):
    opened = manifest.commit(OpenSession(kind="backup", host_id="host", host="host"))
    manifest.commit(CloseSession(opened.session))
    host = in_company(sites.host())
    with pytest.raises(Rejected) as caught:
        host.commit(AddSnapshot(opened.session, snapshot(opened.session)))
    assert caught.value.reason == "session-not-open"
    assert lying_there(sites) == set()


# late or unwanted arrivals


def test_a_change_that_arrives_a_day_late_has_no_effect_and_is_removed(sites, manifest, monkeypatch):
    monkeypatch.setattr(commit, "RECENT_LIMIT", 6)
    view = manifest.read()
    first = opening(view.state)
    snap = snapshot(first.session)
    second = make_change(AddSnapshot(first.session, snap), first.session, 1, 0, "crowd")
    for change in (first, second):
        leave(sites, view, change)
        in_company(sites.host()).commit(SetPolicy(Policy(1)))
    assert sources(manifest.read()) == ["home"]
    for change in (first, second):
        leave(sites, view, change)  # once more, a day later
    for _ in range(4):
        in_company(sites.host()).commit(SetPolicy(Policy(1)))
    after = manifest.read()
    assert [row.id for row in after.state.snapshots] == [snap.id]
    assert not after.state.sessions
    manifest.commit([SetPolicy(Policy(1))] * 5)  # folds
    assert lying_there(sites) == set()


def test_a_fold_removes_only_changes_that_can_never_be_committed(sites, manifest, monkeypatch):
    monkeypatch.setattr(commit, "RECENT_LIMIT", 4)
    view = manifest.read()
    alive = leave(sites, view, opening(view.state))
    dead = leave(sites, view, make_change(CloseSession(b"x" * 16), b"x" * 16, 1, 0, ""))
    sites.stores()["site1"].put(inbox_key(b"y" * 16, 1), b"garbage")
    assert len(lying_there(sites)) == 3
    manifest.commit([SetPolicy(Policy(1))] * 2)
    assert lying_there(sites) == {alive.removeprefix(INBOX)}
    assert dead != alive


def test_a_flood_at_one_site_delays_no_host(sites, manifest):
    view = manifest.read()
    change = opening(view.state)
    leave(sites, view, change)
    store = sites.stores()["site2"]
    for number in range(inbox.LISTED_LIMIT + 10):
        store.put(inbox_key(number.to_bytes(16, "big"), 1), b"flood")
    committed = in_company(sites.host()).commit(SetPolicy(Policy(1)))
    assert committed.view.state.session(change.session) is not None


def test_a_quiet_commit_does_not_look_into_the_inbox(sites, manifest):
    view = manifest.read()
    leave(sites, view, opening(view.state))
    seen: list[str] = []
    host = sites.host(hook=lambda _step, r: seen.append(getattr(r, "name", "") or getattr(r, "prefix", "")))
    backup(host)
    assert not any(name.startswith(INBOX) for name in seen)


# all together


def test_many_at_once_are_all_in_and_the_inbox_is_empty(sites, manifest):
    hosts = [sites.host(f"host{i}") for i in range(6)]
    errors = []

    def work(host, name):
        try:
            for number in range(3):
                backup(host, f"{name}.{number}")
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(host, f"host{i}")) for i, host in enumerate(hosts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    view = manifest.read()
    assert sorted(sources(view)) == sorted(f"host{i}.{number}" for i in range(6) for number in range(3))
    assert not view.state.sessions
    assert not manifest.check()
    assert lying_there(sites) == set()
