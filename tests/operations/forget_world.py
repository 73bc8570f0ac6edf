"""A repository with snapshots of chosen times, and `forget` on it."""

from datetime import UTC, datetime
from pathlib import Path

from retention_tables import rules_of, time_ns
from three_sites import World, fill

from drtool.operations.forget import ForgetRequest, ForgetResult, forget
from drtool.operations.selection import Narrowing

NOW = "2026-06-01 00:00"


def store(world: World, *times: str, source: str = "home", host: str | None = None, tags: tuple[str, ...] = ()) -> list:
    """Take one snapshot at each time, in this order, and return their rows."""
    tree = world.root / "tree"
    if not tree.exists():
        fill(tree, {"letter": b"Dear Ada,"})
    with world.open() as repository:
        ids = [
            world.run_backup(repository, tree, source=source, host=host or world.host, time_ns=time_ns(when), tags=tags)
            .snapshots[0]
            .id
            for when in times
        ]
        rows = {row.id.hex(): row for row in repository.view.state.snapshots}
        return [rows[id_] for id_ in ids]


def ask(words: str | None = None, *names: str, now: str = NOW, **more) -> ForgetRequest:
    """Return a request by rules, as words, or by name."""
    rules = rules_of(words) if words else None
    narrowing = Narrowing(**{key: more.pop(key) for key in ("hosts", "tags", "sources") if key in more})
    return ForgetRequest(now_ns=time_ns(now), rules=rules, snapshots=names, narrowing=narrowing, **more)


def run(world: World, words: str | None = None, *names: str, **more) -> ForgetResult:
    with world.open() as repository:
        return forget(repository, ask(words, *names, **more), world.heard.append)


def times(rows) -> list[str]:
    """When these snapshots were taken, to the minute."""
    moments = (datetime.fromtimestamp(row.time_ns // 10**9, UTC) for row in rows)
    return sorted(moment.strftime("%m-%d %H:%M") for moment in moments)


def left(world: World) -> list[str]:
    return times(world.snapshots())


def memory_of(world: World) -> Path:
    (directory,) = (world.root / world.state / "repositories").iterdir()
    return directory / "forget"
