"""Invalid actions: combinations of keys that are meaningless or dangerous.

Invariants
    Rules look at the written inputs, so that an expression counts as given.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

from drtool.config.yaml import Path
from drtool.plans.language.actions import (
    Compare,
    Fault,
    Restore,
    Run,
    SnapshotChoice,
    Verify,
    Wait,
)
from drtool.plans.language.model import Step
from drtool.plans.language.probes import CommandProbe, FileProbe, MetricProbe, SqlProbe, TcpProbe
from drtool.plans.language.templates import OPEN

Problems: TypeAlias = Iterator[tuple[Path, str]]
_NO_RECOVERY_TO_A_POINT = (
    "point-in-time recovery is not possible: databases are logical dumps in this version, without a log to roll "
    "forward. `select: at` restores the newest dump at or before a time"
)
_AMOUNTS = {"corrupt": ("bytes",), "slow": ("latency", "rate")}


def action_problems(step: Step) -> Problems:
    """Yield the problems of an action, with paths below `with`."""
    match step.action:
        case Restore():
            yield from _restore(step.action, step.inputs)
        case Verify():
            yield from _verify(step.action, step.inputs)
        case Run():
            yield from _run(step.action, step.inputs)
        case Fault():
            yield from _fault(step.action, step.inputs)
        case Wait():
            if ("duration" in step.inputs) == ("until" in step.inputs):
                yield (), "give either `duration` or `until`"
        case Compare() if not step.action.what:
            yield ("what",), "list what to compare: tree, hash, metadata, rowcount, schema, packages, units"
        case _:
            yield from _probe(step)


def _given(inputs: Any, *names: str) -> list[str]:  # noqa: ANN401 - part of a document
    if not isinstance(inputs, dict):
        return []
    return [name for name in names if inputs.get(name) is not None and inputs[name] is not False]


def _snapshot(choice: SnapshotChoice, inputs: Any) -> Problems:  # noqa: ANN401
    if choice.select == "point-in-time":
        yield ("select",), _NO_RECOVERY_TO_A_POINT
    if choice.id is not None and _given(inputs, "source", "select", "at", "within", "host", "tags"):
        yield ("id",), "an id names one snapshot, so no other key may be given with it"
    if (choice.select == "at") != ("at" in inputs):
        yield (("at",) if "at" in inputs else ("select",)), "`select: at` and a time in `at` must be given together"
    if "within" in inputs and choice.select != "random":
        yield ("within",), "`within` is only for `select: random`, as the greatest age of the snapshots to draw from"


def _below(name: str, problems: Problems) -> Problems:
    return (((name, *path), message) for path, message in problems)


def _restore(action: Restore, inputs: dict[str, Any]) -> Problems:
    yield from _below("snapshot", _snapshot(action.snapshot, inputs.get("snapshot", {})))
    places = _given(inputs.get("to"), "scratch", "path", "dsn", "stream")
    if len(places) != 1:
        yield ("to",), "give exactly one destination: scratch: true, path, dsn or stream"
    if action.overwrite is not None and action.to.path is None:
        yield ("overwrite",), "only a restore to a path can overwrite anything"
    if action.delete and action.to.path is None:
        yield ("delete",), "only a restore to a path can delete anything"
    if action.to.dsn is not None and action.to.engine is None:
        yield ("to", "dsn"), "name the engine of the DSN, for example `engine: postgresql`"


def _verify(action: Verify, inputs: dict[str, Any]) -> Problems:
    if action.snapshot is not None:
        yield from _below("snapshot", _snapshot(action.snapshot, inputs.get("snapshot", {})))
    sample = inputs.get("sample", {})
    if "sample" in inputs and action.level != "sample":
        yield ("sample",), f"`sample` is only for level: sample, not for level: {action.level}"
    if action.level == "sample" and len(_given(sample, "fraction", "count")) != 1:
        yield ("sample",), "give exactly one of fraction and count"
    if action.level == "restore" and "objects" in inputs:
        yield ("objects",), "level: restore checks snapshots, so `objects` cannot be given"


def _run(action: Run, inputs: dict[str, Any]) -> Problems:
    if not action.argv or not action.argv[0]:
        yield ("argv",), "the program is missing"
    if not action.shell:
        yield from _words(inputs, "argv", "check")
        return
    if len(action.argv) != 1:
        yield ("argv",), "with `shell: true`, argv must be a single line for the shell"
    for name in ("argv", "check"):
        if OPEN in repr(inputs.get(name, "")):
            yield (name,), "`shell: true` forbids ${{ here; pass values in `env`, and quote them in the script"


def _words(inputs: dict[str, Any], *names: str) -> Problems:
    """Refuse a single string where a list of words is needed, because nothing here splits it."""
    for name in names:
        if isinstance(inputs.get(name), str) and OPEN not in inputs[name]:
            yield (name,), f"write a list of words, such as [ls, -l]; {inputs[name]!r} would not be split"


def _fault(action: Fault, inputs: dict[str, Any]) -> Problems:
    target, amount = inputs.get("target", {}), inputs.get("amount", {})
    if "duration" not in inputs:
        yield (), "the key 'duration' is missing: every fault needs an end"
    if len(_given(target, "site", "target")) != 1:
        yield ("target",), "give exactly one of site and target"
    if action.type == "corrupt" and "object" not in target:
        yield ("target",), "name the objects to corrupt: `object: random:5`, or an object's name"
    if action.type != "corrupt" and "object" in target:
        yield ("target", "object"), f"only `corrupt` affects single objects; {action.type} affects the whole target"
    allowed = _AMOUNTS.get(action.type, ())
    for name in amount if isinstance(amount, dict) else ():
        if name not in allowed:
            yield ("amount", name), f"{name} does not apply to a fault of type {action.type}"
    if action.type == "slow" and not _given(amount, "latency", "rate"):
        yield ("amount",), "give latency, rate, or both"


def _probe(step: Step) -> Problems:
    action, inputs = step.action, step.inputs
    expect = inputs.get("expect", {})
    if isinstance(action, SqlProbe) and OPEN in str(inputs.get("query", "")):
        yield (
            ("query",),
            "values are never pasted into SQL; write $1 (PostgreSQL) or ?, and pass them in `params`",
        )
    match action:
        case SqlProbe() if not _expects(expect, "equals", "min", "max", "rows"):
            yield ("expect",), "give at least one expectation: equals, min, max or rows"
        case MetricProbe() if not _expects(expect, "equals", "min", "max"):
            yield ("expect",), "give at least one expectation: equals, min or max"
        case TcpProbe() if "port" not in inputs:
            yield (), "the key 'port' is missing"
        case CommandProbe():
            yield from [] if action.argv else [(("argv",), "the program is missing")]
            yield from _words(inputs, "argv")
        case FileProbe() if not action.expect.exists and len(expect) > 1:
            yield ("expect",), "`exists: false` cannot be combined with other expectations"
        case _:
            pass
    if step.uses == "probe" and "within" not in inputs and {"every", "successes"} & set(inputs):
        yield ("within",), "`every` and `successes` repeat the probe; give the time limit in `within`"


def _expects(expect: Any, *names: str) -> bool:  # noqa: ANN401 - part of a document
    return isinstance(expect, dict) and any(name in expect for name in names)
