"""The execution of `forget`: plan, show or commit, and plan again if another change came first.

Invariants
    Nothing is removed while there is an objection, such as a group that would be left empty, or an alarm without `yes`.
    Of concurrent runs, each removes only what it judged on the very state that its change applies to.
"""

import os
from typing import Any

from msgspec.structs import replace

from drtool.errors import Refused, Rejected
from drtool.events import Emit, Stage, Warned
from drtool.manifest.facade import View
from drtool.manifest.records import Forgotten, Snapshot
from drtool.operations.forget.memory import Memory
from drtool.operations.forget.plan import Plan, objections, plan_forget
from drtool.operations.forget.request import ForgetRequest, ForgetResult, KeptRow, SnapshotRow
from drtool.operations.retention import Kept
from drtool.operations.retention.rules import FORGET_GRACE_NS
from drtool.repository import Repository
from drtool.repository.forgotten import forget_here

TRIES = 16
CHANGED = ("no-such-snapshot", "forgotten-since")


def forget(repository: Repository, request: ForgetRequest, emit: Emit) -> ForgetResult:
    """Plan and, unless it is a dry run, remove. Refused if that is not safe. Rejected if others are always faster."""
    if not request.dry_run and repository.manifest.settle():
        repository.adopt(repository.manifest.read())
    emit(Stage(name="judging"))
    memory = Memory(repository, str(request.narrowing))
    plan = plan_forget(repository.view.state, request, memory.known)
    _warn(plan, request, emit)
    if not request.dry_run:
        plan = _carry_out(repository, request, plan, memory)
    elif request.go_on_as_if and not objections(plan, request):
        repository.adopt(_as_if(repository, plan, request))
    return _result(plan, request)


def _carry_out(repository: Repository, request: ForgetRequest, plan: Plan, memory: Memory) -> Plan:
    """Commit the plan and return it, or the new plan if another change came first."""
    for _ in range(TRIES):
        for objection in objections(plan, request):
            raise Refused(f"nothing was forgotten: {objection.message}", hint=objection.hint)
        try:
            if plan.removed:
                repository.adopt(forget_here(repository, plan.op()))
        except Rejected as error:
            if error.reason not in CHANGED:
                raise
            repository.adopt(repository.manifest.read())
            plan = plan_forget(repository.view.state, request, memory.known)
            continue
        if request.rules is not None:
            memory.remember((judged.group.name for judged in plan.groups), plan.state.sequence)
        return plan
    raise Rejected(
        CHANGED[1], "others keep forgetting snapshots of the same hosts; nothing was forgotten", hint="run it again"
    )


def _as_if(repository: Repository, plan: Plan, request: ForgetRequest) -> View:
    """Return the view as it would be. Nothing is written to the manifest."""
    view, state = repository.view, plan.state
    marks = (Forgotten(row, state.sequence, request.now_ns, repository.spec.host) for row in plan.removed)
    rest = state.snapshots.without(row.id for row in plan.removed)
    after = replace(state, snapshots=rest, forgotten=(*state.forgotten, *marks))
    return replace(view, learned=replace(view.learned, state=after))


def _warn(plan: Plan, request: ForgetRequest, emit: Emit) -> None:
    """Warn about future snapshots, alarms that the caller overrides, and a choice among several sources."""
    for note in plan.notes:
        emit(Warned(message=note))
    for judged in plan.groups:
        future = sum(kept.future for kept in judged.judgement.keep)
        if future:
            what = "1 snapshot is" if future == 1 else f"{future:,} snapshots are"
            emit(Warned(message=f"{judged.group.name}: {what} dated in the future: kept, and ignored by the rules"))
    for alarm in plan.alarms if request.yes else ():
        emit(Warned(message=alarm.message))


def _result(plan: Plan, request: ForgetRequest) -> ForgetResult:
    return ForgetResult(
        keep=[_kept(judged.group.name, kept) for judged in plan.groups for kept in judged.judgement.keep],
        remove=[
            SnapshotRow(**_fields(judged.group.name, row)) for judged in plan.groups for row in judged.judgement.remove
        ],
        policy=None if request.rules is None else str(request.rules),
        timezone=plan.state.policy.timezone,
        grace_until_ns=request.now_ns + FORGET_GRACE_NS if plan.removed else None,
        objections=objections(plan, request),
        dry_run=request.dry_run,
    )


def _kept(group: str, kept: Kept[Snapshot]) -> KeptRow:
    return KeptRow(
        **_fields(group, kept.snapshot),
        reasons=list(kept.reasons),
        as_oldest=list(kept.as_oldest),
        future=kept.future,
    )


def _fields(group: str, row: Snapshot) -> dict[str, Any]:
    return {
        "id": row.id.hex(),
        "time_ns": row.time_ns,
        "group": group,
        "host": row.host,
        "source": row.source,
        "paths": [os.fsdecode(path) for path in row.paths],
        "tags": list(row.tags),
    }
