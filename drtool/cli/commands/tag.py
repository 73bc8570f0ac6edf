"""`tag`: change the tags of stored snapshots."""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from drtool.cli.core.marks import Names, mark_snapshots
from drtool.cli.core.options import Hosts, Sources, Tags, narrowing
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.manifest import Snapshot
    from drtool.manifest.records import Mark

Words = list[str] | None


def tag(
    context: typer.Context,
    snapshots: Names,
    add: Annotated[Words, typer.Option("--add", metavar="TAG", help="Add this tag (repeatable).")] = None,
    remove: Annotated[Words, typer.Option("--remove", metavar="TAG", help="Remove this tag (repeatable).")] = None,
    set_: Annotated[Words, typer.Option("--set", metavar="TAG", help="Set exactly these tags; '' sets none.")] = None,
    host: Hosts = None,
    having: Tags = None,
    source: Sources = None,
) -> None:
    """Change the tags of stored snapshots.

    Every --tag and --keep-tag uses the current tags.

    Examples:
        drtool tag latest --source home --add before-upgrade
        drtool tag 3f2a1b2c 9d0e --set monthly --set audited
        drtool tag 3f2a1b2c --set ''
    """
    call: Call = context.obj
    if set_ is not None and (add or remove):
        raise UsageError("--set excludes --add and --remove", hint="leave one of them out")
    if set_ is None and not add and not remove:
        raise UsageError("nothing to change", hint="add --add TAG, --remove TAG or --set TAG")
    if "" in (*(add or ()), *(remove or ())) or (set_ is not None and "" in set_ and len(set_) > 1):
        raise UsageError("a tag is empty", hint="leave it out; --set '' alone removes all tags")

    def alter(row: "Snapshot", mark: "Mark") -> "Mark":
        kept = [word for word in row.tags if word not in (remove or ())]
        wanted = tuple(dict.fromkeys([*kept, *(add or ())] if set_ is None else filter(None, set_)))
        return (
            mark if wanted == row.tags else replace(mark, tags=wanted, time_ns=time.time_ns(), host=call.settings.host)
        )

    mark_snapshots(call, snapshots, narrowing(host, having, source), alter)
