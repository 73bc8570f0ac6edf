"""What hosts do in the simulated world: backups, reads, changes of the ring, strangers that read; and administrators."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sim_linear import Operation
from sim_membership import rotating

from drtool.manifest import (
    AddSnapshot,
    Counts,
    Member,
    MemoryState,
    OpenSession,
    SetRing,
    Snapshot,
)

if TYPE_CHECKING:
    from sim_run import Client, Run

Talk = Callable[[], Any]

KINDS = ("append", "read", "epoch", "stranger", "compact")
WEIGHTS = (6, 4, 2, 1, 1)
KEEPING = ("rotate", "append", "read")
ADMINISTRATION = ("voters", "append", "read")


def draw_kind(run: "Run", client: "Client") -> str:
    if client.administrates:
        return run.rng.choices(ADMINISTRATION, (4, 1, 1))[0]
    if client.rotates:
        return run.rng.choices(KEEPING, (3, 1, 1))[0]
    if run.copies is not None:  # a change of the ring is drawn up from targets that the declaration changes
        return run.rng.choices(("append", "read", "stranger", "compact"), (6, 4, 1, 1))[0]
    return run.rng.choices(KINDS, WEIGHTS)[0]


def begin(run: "Run", client: "Client", kind: str) -> tuple[Operation, Talk]:
    """An operation, written down as begun, and the conversation that is to do it; the same one if it is tried again."""
    operation = Operation(kind, None, run.world.now)
    run.history.append(operation)
    match kind:
        case "append":
            client.marks += 1
            operation.value = f"{client.name}.{client.marks}"
            batch = backup(run, client.name, operation.value)
            return operation, lambda: client.manifest.committing(batch)
        case "epoch":
            operation.value = client.epoch + 1
            ring = (SetRing(epoch=operation.value, targets=run.targets),)
            return operation, lambda: client.manifest.committing(ring)
        case "compact":
            return operation, client.manifest.compacting
        case "rotate":
            return operation, rotating(run, client)
        case "voters":
            members = draw_members(run)
            operation.value = [(member.site, member.mode, member.fresh) for member in members]
            return operation, lambda: client.manifest.setting_voters(members)
        case "stranger":
            stranger = run.manifest(client.process, MemoryState())
            operation.value, operation.kind = f"stranger {len(run.history)}", "read"
            return operation, stranger.reading
    return operation, client.manifest.reading


def draw_members(run: "Run") -> list[Member]:
    """Some of all sites, as voters: some stay, some come and go, one perhaps begins a new life or moves on another way."""
    names = sorted(run.world.sites)
    fewest = 4 if run.options.liars else 3
    count = min(len(names), run.rng.choice((fewest, fewest, 4, 5)))
    fresh = run.rng.choice([*names, "", ""])
    return [
        Member(
            name,
            f"{name}/main",
            run.rng.choice(("cas", "chain")) if run.modes.get(name) == "cas" else "chain",
            name == fresh,
        )
        for name in sorted(run.rng.sample(names, count))
    ]


def backup(run: "Run", host: str, mark: str) -> tuple[Any, ...]:
    """A backup, as far as the manifest sees it; `mark` is its source's name."""
    session = run.rng.randbytes(16)
    opening = OpenSession(kind="backup", host_id=host, host=host, source=mark, session=session)
    snapshot = Snapshot(
        id=run.rng.randbytes(16),
        session=session,
        source=mark,
        host=host,
        user="root",
        time_ns=0,
        started_ns=0,
        paths=(b"/",),
        tags=(),
        root=b"",
        parent=None,
        counts=Counts(),
        program="sim",
    )
    return opening, AddSnapshot(session, snapshot)
