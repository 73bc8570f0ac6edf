"""`hold`: keep snapshots regardless of the retention rules."""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from drtool.cli.core.marks import Names, mark_snapshots
from drtool.cli.core.options import Hosts, Sources, Tags, narrowing
from drtool.config.units import time_ns_of
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.manifest import Snapshot
    from drtool.manifest.records import Mark


def hold(
    context: typer.Context,
    snapshots: Names,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Record the reason for the hold.")] = "",
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="End the hold at this time: RFC 3339, or from now on: 90d.")
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="End the hold.")] = False,
    host: Hosts = None,
    having: Tags = None,
    source: Sources = None,
) -> None:
    """Keep snapshots regardless of the retention rules.

    A hold ends when it is released or expires. `forget` keeps held snapshots on every host, and refuses (exit 11) to
    forget one by name. `latest` selects one snapshot of one source. If there are several sources, name the source or
    a path in it.

    Examples:
        drtool hold latest --source home --reason 'audit 2026'
        drtool hold 3f2a1b2c --until 90d
        drtool hold 3f2a1b2c --release
    """
    call: Call = context.obj
    if release and (reason or until is not None):
        raise UsageError("--release ends a hold and cannot be combined with --reason or --until", hint="leave them out")
    until_ns = 0 if until is None else _until_ns(until)

    def alter(_row: "Snapshot", mark: "Mark") -> "Mark":
        if release:
            return replace(mark, held=False, reason="", until_ns=0)
        now_ns, host = time.time_ns(), call.settings.host
        return replace(mark, held=True, reason=reason, until_ns=until_ns, time_ns=now_ns, host=host)

    mark_snapshots(call, snapshots, narrowing(host, having, source), alter)


def _until_ns(text: str) -> int:
    from drtool.config.life import seconds

    now_ns = time.time_ns()
    try:
        until_ns = time_ns_of(text) if "T" in text else now_ns + seconds(text) * 10**9
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--until {text!r}: {error}", hint="--until 2027-01-31T00:00:00+01:00, or --until 90d"
        ) from None
    if not now_ns < until_ns < 2**63:
        raise UsageError(
            f"--until {text!r} is in the past", hint="leave it out to hold indefinitely; --release ends a hold"
        )
    return until_ns
