"""Pages under a head: they stay small, the past stays readable, and a run fetches only changed pages."""

import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_world import Sites, backup, snapshot, sources
from test_manifest_state import Host, sid
from thoroughness import sample

from drtool.crypto import Keyring, SealKind, object_name
from drtool.errors import FormatError, ObjectMissing, SealBroken
from drtool.manifest import CloseSession, ForgetSnapshots, MemoryCache, OpenSession, Policy, SetPolicy
from drtool.manifest.head import Head, digest_after, digests_of, open_head, seal_head
from drtool.manifest.library import KINDS, seal_row, store_missing
from drtool.manifest.names import object_key
from drtool.manifest.pages import FAN_OUT, Checkpoint, Fold, LogPage, SnapshotPage, catalogue_of, fold, merge_from
from drtool.manifest.ports import List, Put, Read
from drtool.manifest.records import KeyTable
from drtool.manifest.state import state_of
from drtool.model import SiteName

KEYS = Keyring.draw(os.urandom(16))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200))
def test_merging_keeps_every_row_and_few_pages(rows):
    sizes: list[int] = []
    for count in rows:
        sizes.append(count)
        first = merge_from(sizes)
        sizes[first:] = [sum(sizes[first:])]
    assert sum(sizes) == sum(rows)
    assert len(sizes) <= 3 * FAN_OUT + sum(rows) / 2048


def a_head(count: int = 3) -> Head:
    host = Host()
    host.open(sid(1))
    changes = tuple(host.change(CloseSession(sid(1)), sid(1)) for _ in range(count))
    head = Head(count, b"", host.state.config, changes, host.state.sessions)
    digest = bytes(32)
    for change in changes:
        digest = digest_after(digest, change)
    return msgspec.structs.replace(head, digest=digest)


@settings(max_examples=sample(60))
@given(st.data())
def test_every_changed_byte_of_a_sealed_head_is_refused(data):
    value = bytearray(seal_head(KEYS, a_head(), KeyTable()))
    assert open_head(KEYS, bytes(value)) == a_head()
    position = data.draw(st.integers(0, len(value) * 8 - 1))
    value[position // 8] ^= 1 << position % 8
    with pytest.raises((SealBroken, FormatError)):
        open_head(KEYS, bytes(value))
    with pytest.raises((SealBroken, FormatError)):
        open_head(KEYS, seal_head(KEYS, a_head(), KeyTable())[: data.draw(st.integers(0, len(value) - 1))])


@pytest.mark.parametrize("change", [{"digest": bytes(32)}, {"sequence": 4}, {"checkpoint_digest": b"x" * 32}])
def test_a_head_that_contradicts_itself_is_refused(change):
    head = msgspec.structs.replace(a_head(), **change)
    with pytest.raises(FormatError):
        digests_of(head)
    with pytest.raises(FormatError):
        open_head(KEYS, seal_head(KEYS, head, KeyTable()))


def test_authentic_nonsense_is_no_head():
    with pytest.raises(FormatError):
        open_head(KEYS, KEYS.seal(SealKind.HEAD, b"not compressed"))


class History:
    """Folds in memory, as commits would do it, without the sites."""

    def __init__(self) -> None:
        from test_manifest_state import Host

        self.host = Host()
        self.checkpoint: Checkpoint | None = None
        self.objects: dict[bytes, bytes] = {}
        self.rows: dict[bytes, msgspec.Struct] = {}
        self.written_bytes = 0
        self.reference = None

    def fold(self) -> None:
        head = Head(
            self.host.state.sequence,
            bytes(32),
            self.host.state.config,
            (),
            (),
            self.reference,
            self.host.state.sequence,
            bytes(32),
        )
        new = Fold(lambda row: seal_row(KEYS, KINDS[type(row)], row))
        log = {name: row for name, row in self.rows.items() if isinstance(row, LogPage)}
        self.reference, self.checkpoint = fold(new, head, self.host.state, self.checkpoint, log)
        self.rows |= new.loaded
        self.objects |= new.objects
        self.written_bytes += sum(map(len, new.objects.values()))
        pages = {name: row for name, row in self.rows.items() if isinstance(row, SnapshotPage)}
        catalogue = catalogue_of(self.checkpoint.snapshot_pages, pages)
        before = self.host.state
        forgotten = self.rows[self.checkpoint.forgotten.reference.name].rows if self.checkpoint.forgotten else ()
        self.host.state = msgspec.structs.replace(state_of(self.checkpoint.core, catalogue), forgotten=forgotten)
        assert self.host.state == before

    def add(self, count: int) -> list[bytes]:
        from test_manifest_state import sid

        rows = [msgspec.structs.replace(snapshot(sid(1)), sequence=i) for i in range(count)]
        catalogue = self.host.state.snapshots
        for row in rows:
            catalogue = catalogue.with_added(row)
        sequence = self.host.state.sequence + count
        self.host.state = msgspec.structs.replace(self.host.state, snapshots=catalogue, sequence=sequence)
        return [row.id for row in rows]

    def forget(self, ids) -> None:
        rest = self.host.state.snapshots.without(ids)
        self.host.state = msgspec.structs.replace(self.host.state, snapshots=rest)

    def pages_bytes(self) -> int:
        return sum(page.reference.size_bytes for page in self.checkpoint.snapshot_pages)


def test_ten_thousand_snapshots_fit_into_a_tenth_of_twenty_megabytes():
    history = History()
    for _ in range(10_000 // 32):
        history.add(32)
        history.fold()
    assert len(history.host.state.snapshots) == 9984
    assert history.pages_bytes() < 1_500_000
    assert len(history.checkpoint.snapshot_pages) <= 2 * FAN_OUT + 9984 / 2048
    assert history.reference.size_bytes < 20_000


def test_the_next_fold_writes_only_changed_pages():
    history = History()
    for _ in range(60):
        history.add(32)
        history.fold()
    before = set(history.objects)
    history.add(32)
    history.fold()
    assert sum(len(history.objects[name]) for name in history.objects.keys() - before) < 60_000


@settings(max_examples=sample(25))
@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), min_size=1, max_size=12), st.randoms())
def test_forgetting_any_snapshots_keeps_the_others(steps, rng):
    """`fold` itself asserts that the state it can be read back from equals the one before."""
    history, alive = History(), []
    for count, share in steps:
        alive += history.add(count)
        gone = [id_ for id_ in alive if rng.random() < share]
        history.forget(gone)
        alive = [id_ for id_ in alive if id_ not in set(gone)]
        history.fold()
        assert [row.id for row in history.host.state.snapshots] == alive
        for page in history.checkpoint.snapshot_pages:
            assert len(page.dead) * 8 <= page.rows


def test_a_long_history_over_real_sites(tmp_path, monkeypatch):
    """With small limits, forty backups fold, merge and retire. Every host reads the same, from a few small objects."""
    monkeypatch.setattr("drtool.manifest.commit.RECENT_LIMIT", 6)
    monkeypatch.setattr("drtool.manifest.pages.RETIRED_CHANGES", 12)
    sites = Sites(tmp_path, 1)
    host = sites.found()
    for number in range(30):
        backup(host, f"s{number}")
    view = host.read()
    assert len(view.learned.head.recent) <= 6
    assert sources(view) == [f"s{number}" for number in range(30)]
    log = host.log(view)
    assert [row.sequence for row in log] == list(range(61, 0, -1))
    assert (log[0].kind, log[-1].kind) == ("add-snapshot", "found")
    assert host.log(view, 5) == log[:5]
    cache, steps = MemoryCache(), []
    fresh = sites.host("fresh", cache=cache)
    assert sources(fresh.read()) == sources(view)
    assert not fresh.check()
    backup(host, "more")
    again = sites.host("fresh", cache=cache, hook=lambda _step, request: steps.append(request))
    assert sources(again.read())[-1] == "more"
    fetched = [r for r in steps if isinstance(r, Read) and "/obj/" in r.name]
    assert len(fetched) <= 2
    stored = list((tmp_path / "site0" / "manifest" / "obj").iterdir())
    assert len(stored) < 25
    for source in ("s3", "s17"):
        row = next(row for row in view.state.snapshots if row.source == source)
        host.commit(ForgetSnapshots((row.id,)))
    for _ in range(6):
        host.commit(SetPolicy(Policy(1)))
    assert "s3" not in sources(sites.host("last").read())
    assert [row.snapshot.source for row in sites.host("last").read().state.forgotten] == ["s3", "s17"]


def test_a_page_that_is_damaged_everywhere_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("drtool.manifest.commit.RECENT_LIMIT", 4)
    sites = Sites(tmp_path, 1)
    host = sites.found()
    for number in range(5):
        backup(host, f"s{number}")
    for path in (tmp_path / "site0" / "manifest" / "obj").iterdir():
        path.chmod(0o600)
        path.write_bytes(b"rubbish")
    problems = host.check()
    assert {(p.site, p.kind) for p in problems} >= {("site0", "damaged-object"), ("", "missing-object")}
    with pytest.raises(ObjectMissing):
        sites.host("fresh").read()
    assert len(sources(host.read())) == 5, "this process still has them in memory"


def test_an_offline_site_gets_the_objects_that_it_missed(tmp_path, monkeypatch):
    monkeypatch.setattr("drtool.manifest.commit.RECENT_LIMIT", 4)
    sites = Sites(tmp_path)
    host = sites.found()
    (tmp_path / "site2").rename(tmp_path / "away")
    for number in range(4):
        backup(sites.host(), f"s{number}")
    (tmp_path / "away").rename(tmp_path / "site2")
    sites.host().refresh()
    for name in ("site0", "site1"):
        (tmp_path / name).rename(tmp_path / f"gone-{name}")
    assert len(sources(sites.host("fresh").read_offline("site2"))) == 4
    assert host is not None


def test_a_session_id_may_be_given(tmp_path):
    sites = Sites(tmp_path, 1)
    session = os.urandom(16)
    opened = sites.found().commit(OpenSession(kind="backup", host_id="h", host="h", session=session))
    assert opened.session == session


def test_an_object_that_a_site_lists_and_that_has_rotted_is_stored_again():
    objects = {object_name(data): data for data in (b"whole", b"rotten", b"absent")}
    held = {object_key(object_name(b"whole")): b"whole", object_key(object_name(b"rotten")): b"rotteN"}
    stored = []

    def answer(request):
        match request:
            case List():
                return list(held)
            case Read(name=name):
                return held[name]
            case Put(data=data):
                return stored.append(data)

    assert outcome(store_missing(SiteName("a"), objects), answer) is True
    assert sorted(stored) == [b"absent", b"rotten"]


def outcome(talk, answer):
    """Return the result of a conversation."""
    reply = None
    while True:
        try:
            reply = answer(talk.send(reply))
        except StopIteration as end:
            return end.value
