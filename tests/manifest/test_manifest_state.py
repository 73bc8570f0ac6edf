"""The state machine: sessions fence, op ids count once, the same changes give the same state."""

import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_world import snapshot
from thoroughness import sample

from drtool.errors import FormatError
from drtool.manifest.ops import (
    AddSnapshot,
    Change,
    CheckpointSession,
    CloseSession,
    ExpireSession,
    ForgetSnapshots,
    Found,
    MarkSnapshots,
    OpenSession,
    Record,
    RecordRun,
    ReplaceIndex,
    SetPolicy,
    SetRing,
    decode_op,
    encode_change,
    kind_of,
    make_change,
    summary_of,
)
from drtool.manifest.records import (
    Config,
    Coverage,
    Evidence,
    Mark,
    Policy,
    RecordedRun,
    RunObjective,
    SegmentRef,
    Target,
    Voter,
)
from drtool.manifest.runs import RUNS_LIMIT, RUNS_OF_A_PLAN
from drtool.manifest.state import (
    REMEMBERED_CHANGES,
    Core,
    Rejection,
    State,
    applied_at,
    apply,
    apply_all,
    begin,
)

TARGETS = (
    Target("paris/main", 1, "active", "file:///paris", "h"),
    Target("oslo/main", 4, "active", "file:///oslo", "h"),
)
CONFIG = Config(1, 1, (Voter("paris", "paris/main", bytes(16)),), 1)


def founded() -> State:
    op = Found(bytes(16), "acme", Policy(2), TARGETS, 1, CONFIG)
    return begin(make_change(op, bytes(16), 0, 0, "h"))


def sid(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Host:
    """Applies ops with counters of its own, as a process would."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or founded()
        self.counters: dict[bytes, int] = {}

    def change(self, op, session: bytes) -> Change:
        self.counters[session] = self.counters.get(session, -1) + 1
        return make_change(op, session, self.counters[session], 0, "h")

    def do(self, op, session: bytes) -> str | None:
        """Apply the change, and return the reason if it was rejected."""
        after = apply(self.state, self.change(op, session))
        if isinstance(after, Rejection):
            return after.reason
        self.state = after
        return None

    def open(self, session: bytes, **fields) -> str | None:
        fields = {"kind": "backup", "host_id": "h", "host": "h", "based_on": self.state.sequence} | fields
        return self.do(OpenSession(session=session, **fields), session)


def segment(number: int) -> SegmentRef:
    return SegmentRef(number.to_bytes(32, "big"), 100, 10, 1)


def test_a_backup_opens_checkpoints_and_closes_with_its_snapshot():
    host = Host()
    assert host.open(sid(1), source="home") is None
    assert host.do(CheckpointSession(sid(1), (segment(1),)), sid(1)) is None
    row = snapshot(sid(1))
    assert host.do(AddSnapshot(sid(1), row, (segment(1), segment(2))), sid(1)) is None
    state = host.state
    assert not state.sessions
    assert state.segments == (segment(1), segment(2))
    assert [(s.id, s.sequence) for s in state.snapshots] == [(row.id, 4)]
    assert applied_at(state, sid(1), 2) == 4
    assert applied_at(state, sid(1), 3) is None


def test_a_closed_or_expired_session_changes_nothing_any_more():
    host = Host()
    host.open(sid(1))
    host.open(sid(2))
    assert host.do(ExpireSession(sid(1), sid(2)), sid(2)) is None
    assert host.do(AddSnapshot(sid(1), snapshot(sid(1))), sid(1)) == "session-not-open"
    assert host.do(CloseSession(sid(2)), sid(2)) is None
    assert host.do(CloseSession(sid(2)), sid(2)) == "session-not-open"
    assert host.open(sid(1)) == "session-exists"


def test_opening_expires_dead_sessions_of_the_same_host_only():
    host = Host()
    host.open(sid(1))
    host.open(sid(2), host_id="other")
    assert host.open(sid(3), expires=(sid(1), sid(2), sid(9))) is None
    assert [row.id for row in host.state.sessions] == [sid(2), sid(3)]


def test_an_open_that_is_long_past_cannot_bring_a_session_back():
    host = Host()
    late = OpenSession(kind="backup", host_id="h", host="h", session=sid(1), based_on=1)
    host.open(sid(1))
    host.do(CloseSession(sid(1)), sid(1))
    host.open(sid(2))
    for _ in range(REMEMBERED_CHANGES + 5):
        assert host.do(CheckpointSession(sid(2)), sid(2)) is None
    host.open(sid(3))
    host.do(CloseSession(sid(3)), sid(3))
    assert sid(1) not in {row.id for row in host.state.closed}
    after = apply(host.state, make_change(late, sid(1), 0, 0, "h"))
    assert isinstance(after, Rejection)
    assert after.reason == "stale-open"


def test_a_snapshot_that_replaces_a_segment_that_is_gone_is_rejected():
    host = Host()
    host.open(sid(1))
    host.open(sid(2))
    host.do(CheckpointSession(sid(1), (segment(1), segment(2))), sid(1))
    merge = (segment(1).id, segment(2).id)
    assert host.do(AddSnapshot(sid(1), snapshot(sid(1)), (segment(3),), merge), sid(1)) is None
    assert host.do(AddSnapshot(sid(2), snapshot(sid(2)), (segment(4),), merge), sid(2)) == "segments-changed"
    assert host.do(ReplaceIndex((segment(5),), (segment(3).id,), sid(2)), sid(2)) is None
    assert host.state.segments == (segment(5),)


def test_the_ring_grows_by_one_epoch_and_there_is_one_mover():
    host = Host()
    host.open(sid(1), kind="admin")
    assert host.do(SetRing(3, TARGETS, sid(1)), sid(1)) == "ring-changed"
    assert host.do(SetRing(2, (TARGETS[0], TARGETS[0]), sid(1)), sid(1)) == "bad-ring"
    assert host.do(SetRing(2, TARGETS[:1], sid(1)), sid(1)) is None
    assert [target.name for target in host.state.ring.targets] == ["paris/main"]
    assert host.state.ring.epoch == 2
    host.open(sid(2), kind="mover")
    assert host.open(sid(3), kind="mover") == "mover-open"
    assert host.open(sid(4), kind="prune") is None
    assert host.open(sid(5), kind="prune") == "prune-open"


def test_under_a_mover_targets_come_and_change_but_none_goes():
    host = Host()
    host.open(sid(1), kind="admin")
    host.do(SetRing(2, TARGETS, sid(1)), sid(1))
    host.open(sid(2), kind="mover")
    drained = (msgspec.structs.replace(TARGETS[0], state="draining"), TARGETS[1])
    lost = (msgspec.structs.replace(TARGETS[0], state="lost"), TARGETS[1])
    assert host.do(SetRing(3, drained, sid(1)), sid(1)) is None
    assert host.do(SetRing(4, lost, sid(1)), sid(1)) == "mover-open"
    assert host.do(SetRing(4, TARGETS[:1], sid(1)), sid(1)) == "mover-open"
    host.do(CloseSession(sid(2)), sid(2))
    assert host.do(SetRing(4, TARGETS[:1], sid(1)), sid(1)) is None


def test_forgotten_snapshots_are_recorded_with_host_and_time():
    host = Host()
    rows = []
    for number in range(3):
        host.open(sid(number))
        rows.append(snapshot(sid(number), f"s{number}"))
        host.do(AddSnapshot(sid(number), rows[-1]), sid(number))
    host.open(sid(9), kind="admin")
    assert host.do(ForgetSnapshots((rows[0].id, b"x" * 16), sid(9)), sid(9)) == "no-such-snapshot"
    assert host.do(ForgetSnapshots((rows[0].id, rows[2].id), sid(9)), sid(9)) is None
    assert [row.source for row in host.state.snapshots] == ["s1"]
    assert [(f.snapshot.source, f.host) for f in host.state.forgotten] == [("s0", "h"), ("s2", "h")]
    assert host.do(ForgetSnapshots((rows[0].id,), sid(9)), sid(9)) == "no-such-snapshot"
    assert rows[1].id in host.state.snapshots
    assert rows[0].id not in host.state.snapshots
    assert host.state.snapshots.with_prefix(rows[1].id.hex()[:10])[0].source == "s1"
    assert host.state.snapshots.newest().source == "s1"


def test_coverage_and_evidence_keep_the_newest_of_each():
    host = Host()
    host.open(sid(1), kind="admin")
    first, second = (Coverage("paris", "full", round_, 5, 1, 0) for round_ in (1, 2))
    host.do(Record((first,), (Evidence("home", "restore", bytes(16), 1),), sid(1)), sid(1))
    host.do(Record((second,), (Evidence("home", "restore", bytes(16), 2),), sid(1)), sid(1))
    assert host.state.coverage == (second,)
    assert [row.time_ns for row in host.state.evidence] == [2]
    host.do(SetPolicy(Policy(3), sid(1)), sid(1))
    assert host.state.policy.copies == 3


ACTIONS = st.lists(
    st.tuples(st.sampled_from("oxcesrfm"), st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), max_size=40
)


def run_of(plan: str, number: int, **more) -> RecordedRun:
    values = {"plan_digest": "d", "host": "h", "user": "u", "began_ns": 0, "ended_ns": number, "verdict": "passed"}
    return RecordedRun(id=f"{plan}-{number}", plan=plan, **(values | {"exit_code": 0, "digest": "e"} | more))


def test_the_newest_runs_of_each_plan_stay_and_the_state_stays_small():
    host = Host()
    host.open(sid(1), kind="admin")
    for number in range(RUNS_OF_A_PLAN + 5):
        host.do(RecordRun(run_of("drill", number), sid(1)), sid(1))
    assert [row.ended_ns for row in host.state.runs] == list(range(5, RUNS_OF_A_PLAN + 5))
    for number in range(2 * RUNS_LIMIT):
        host.do(RecordRun(run_of(f"plan-{number}", 0), sid(1)), sid(1))
    assert len(host.state.runs) == RUNS_LIMIT
    assert len(msgspec.msgpack.encode(host.state.core())) < 64 * 1024


def test_a_run_that_is_recorded_again_is_one_run():
    host = Host()
    host.open(sid(1), kind="admin")
    for verdict in ("failed", "passed"):
        host.do(RecordRun(run_of("drill", 1, verdict=verdict), sid(1)), sid(1))
    assert [row.verdict for row in host.state.runs] == ["passed"]


@pytest.mark.parametrize(
    "bad", [{"verdict": "x" * 300}, {"plan": ""}, {"objectives": (RunObjective("rto", None, 1.0),) * 17}]
)
def test_a_run_that_would_grow_the_state_is_refused(bad):
    host = Host()
    host.open(sid(1), kind="admin")
    values = {name: getattr(run_of("drill", 1), name) for name in RecordedRun.__struct_fields__}
    assert host.do(RecordRun(RecordedRun(**(values | bad)), sid(1)), sid(1)) == "bad-run"


def test_a_core_of_an_earlier_version_has_no_runs():
    rows = msgspec.msgpack.decode(msgspec.msgpack.encode(founded().core()))
    older = msgspec.msgpack.encode(rows[: Core.__struct_fields__.index("runs")])
    assert msgspec.msgpack.decode(older, type=Core).runs == ()


def draw_change(action, host: Host, rows: list) -> Change:
    """A change that may be invalid. Counters sometimes repeat, as with late duplicates."""
    kind, one, two, counter = action
    session = sid(one)
    ops = {
        "o": lambda: OpenSession("backup", "h", "h", session=session, based_on=host.state.sequence - 1),
        "x": lambda: ExpireSession(sid(two), session),
        "c": lambda: CheckpointSession(session, (segment(two),)),
        "e": lambda: CloseSession(session),
        "s": lambda: AddSnapshot(session, rows[one], (segment(two),), (segment(counter).id,) if counter else ()),
        "r": lambda: SetRing(host.state.ring_epoch + two, TARGETS, session),
        "f": lambda: ForgetSnapshots((rows[two].id,), session, judged=host.state.sequence - one),
        "m": lambda: MarkSnapshots(
            (Mark(rows[two].id, tags=("x",), held=bool(counter)),), host.state.sequence, session
        ),
    }
    return make_change(ops[kind](), session, counter, 0, "h")


@settings(max_examples=sample(150))
@given(ACTIONS)
def test_any_history_replays_to_the_same_state_and_counts_every_op_once(actions):
    host, applied = Host(), []
    rows = [snapshot(sid(number)) for number in range(5)]
    for action in actions:
        change = draw_change(action, host, rows)
        after = apply(host.state, change)
        if isinstance(after, Rejection):
            assert after.message
            continue
        assert after.sequence == host.state.sequence + 1
        assert applied_at(after, change.session, change.counter) == after.sequence
        assert isinstance(apply(after, change), Rejection)
        assert len({row.id for row in after.sessions}) == len(after.sessions)
        assert not {row.id for row in after.sessions} & {row.id for row in after.closed}
        assert len({row.id for row in after.segments}) == len(after.segments)
        host.state = after
        applied.append(change)
    assert apply_all(founded(), applied) == host.state
    assert {row.snapshot for row in host.state.marks} <= {row.id for row in host.state.snapshots}


@given(ACTIONS)
def test_changes_come_back_from_their_bytes(actions):
    host = Host()
    rows = [snapshot(sid(number)) for number in range(5)]
    for action in actions:
        change = draw_change(action, host, rows)
        again = msgspec.msgpack.decode(encode_change(change), type=Change)
        assert again.op == change.op
        assert encode_change(again) == encode_change(change)
        assert kind_of(again.op) == kind_of(change.op)
        assert summary_of(again.op)


def test_a_change_of_a_newer_program_is_never_skipped():
    with pytest.raises(FormatError, match="does not understand") as caught:
        decode_op(msgspec.msgpack.encode(["levitate", 3]))
    assert "upgrade" in caught.value.hint


def test_a_field_that_a_newer_program_added_keeps_the_digest():
    """The bytes of an op are passed on as written, even if this version does not understand all of them."""
    raw = msgspec.msgpack.encode(["close-session", sid(1), "a field from the future"])
    change = Change(sid(1), 1, 0, "h", msgspec.Raw(raw))
    again = msgspec.msgpack.decode(encode_change(change), type=Change)
    assert again.op == CloseSession(sid(1))
    assert encode_change(again) == encode_change(change)


def test_the_first_change_is_the_founding_and_no_other_is():
    with pytest.raises(FormatError):
        begin(make_change(CloseSession(sid(1)), sid(1), 0, 0, "h"))
    host = Host()
    host.open(sid(1))
    assert host.do(Found(bytes(16), "again", Policy(1), TARGETS, 1, CONFIG), sid(1)) == "founded"


def test_hundred_thousand_snapshots_cost_the_next_change_nothing():
    """Pages are shared between states: the successor of a large state is as cheap as that of a small one."""
    host = Host()
    page = tuple(msgspec.structs.replace(snapshot(sid(7)), id=os.urandom(16), sequence=1) for _ in range(2000))
    catalogue = type(host.state.snapshots)(pages=(page,) * 50)
    host.state = msgspec.structs.replace(host.state, snapshots=catalogue)
    host.open(sid(1))
    host.do(AddSnapshot(sid(1), snapshot(sid(1))), sid(1))
    assert host.state.snapshots.pages is catalogue.pages
    assert len(host.state.snapshots) == 100_001


def test_a_proof_outlives_many_runs_that_failed_and_many_other_plans():
    host = Host()
    host.open(sid(1), kind="admin")
    host.do(RecordRun(run_of("drill", 0), sid(1)), sid(1))
    for number in range(1, 2 * RUNS_OF_A_PLAN):
        host.do(RecordRun(run_of("drill", number, verdict="failed"), sid(1)), sid(1))
    for number in range(5 * RUNS_OF_A_PLAN):
        host.do(RecordRun(run_of(f"other-{number % 5}", number), sid(1)), sid(1))
    ours = [(row.ended_ns, row.verdict) for row in host.state.runs if row.plan == "drill"]
    assert ours[0] == (0, "passed")
    assert ours[-1] == (2 * RUNS_OF_A_PLAN - 1, "failed")
    assert len(host.state.runs) == RUNS_LIMIT
