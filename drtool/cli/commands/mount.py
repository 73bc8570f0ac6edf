"""`mount`: show the snapshots as a file system."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import Hosts, ManifestFrom, Sources, Tags, narrowing, sites
from drtool.cli.core.selection import chosen_snapshot
from drtool.cli.core.view import line, view
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def mount(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Mount on this empty directory.")],
    allow_other: Annotated[
        bool,
        typer.Option("--allow-other", help="Let other users access it too (needs user_allow_other in /etc/fuse.conf)."),
    ] = False,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Mount the snapshots as read-only directories.

    The command runs until DIR is unmounted, or until Ctrl-C. Nothing is read before it is accessed. New snapshots
    appear within half a minute. DIR contains snapshots/ by time, hosts/, ids/ and latest.

    Examples:
        drtool mount /mnt/then & cp -a /mnt/then/latest/home/ann/thesis ~
        drtool mount /mnt/web1 --host web1
    """
    from drtool.operations.mounting.serving import mount as run_mount

    call: Call = context.obj
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory", hint=f"mkdir {directory}")
    if any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty", hint="name an empty directory, or unmount what is there")
    narrow = narrowing(host, tag, source)
    with call.open_for_reading(sites(manifest_from)) as repository:
        if any(map(narrow.admits, repository.view.state.snapshots)):
            chosen_snapshot(call, repository, "latest", narrow)  # reports the source of DIR/latest
        run_mount(
            repository,
            narrow.admits,
            directory.resolve(),
            call.emit,
            allow_other=allow_other,
            mounted=lambda: call.screen.say(f"mounted on {directory}; unmount it, or press Ctrl-C, to end"),
        )
    call.show({"directory": str(directory)}, view(line(f"{directory} is unmounted")))
