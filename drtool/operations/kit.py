"""The content of a recovery kit: where the repository is, how to open it, and what is stored there."""

import time
from collections.abc import Iterable

from msgspec import Struct

from drtool import __version__
from drtool.errors import UsageError
from drtool.manifest.records import Snapshot
from drtool.model import TargetName
from drtool.operations.survive.promise import Promise, promise_of
from drtool.repository import Repository
from drtool.repository.places import full_url, is_directory
from drtool.repository.slots import keeps_slots, read_slots, table_of


class KitPlace(Struct, frozen=True, kw_only=True):
    """One target: its URL, and whether it has key slots and data (see `_opens`)."""

    name: TargetName
    url: str
    host: str
    keys: bool
    data: bool
    reachable: bool


class KitSlot(Struct, frozen=True, kw_only=True):
    id: str
    label: str
    created_ns: int | None
    in_use: bool


class KitSource(Struct, frozen=True, kw_only=True):
    """The snapshots of one source of one host. `newest_ns` is the time of the newest one."""

    host: str
    source: str
    paths: list[str]
    newest_ns: int


class Kit(Struct, frozen=True, kw_only=True):
    """`password` is None unless it is to be printed on the page."""

    label: str
    repository_id: str
    made_ns: int
    host: str
    version: str
    places: list[KitPlace]
    slots: list[KitSlot]
    sources: list[KitSource]
    voters: int
    quorum: int
    promise: Promise
    password: str | None


def recovery_kit(repository: Repository, *, with_password: bool) -> Kit:
    """Return everything needed to recover without any other information. UsageError if no target keeps key slots."""
    view = repository.view
    places = sorted(_places(repository), key=lambda place: (not _opens(place), not place.reachable, place.name))
    if not any(place.keys for place in places):
        raise UsageError(
            "no target keeps key slots, so no kit could open the repository",
            hint="allow at least one target to keep them: `keys: true`",
        )
    return Kit(
        label=view.state.label,
        repository_id=repository.id.hex(),
        made_ns=time.time_ns(),
        host=repository.spec.host,
        version=__version__,
        places=places,
        slots=_slots(repository),
        sources=_sources(view.state.snapshots),
        voters=len(view.config.voters),
        quorum=view.config.quorum,
        promise=promise_of(view.state.targets, view.state.policy.copies),
        password=_password(repository) if with_password else None,
    )


def _opens(place: KitPlace) -> bool:
    """Return whether the repository can be opened and restored from this place alone."""
    return place.keys and place.data


def _places(repository: Repository) -> list[KitPlace]:
    """Return the targets of the manifest, with this host's URL where the target is reachable. No credentials."""
    targets = repository.targets
    keepers = keeps_slots(targets, repository.view.state.targets)
    return [
        KitPlace(
            name=name,
            url=full_url(targets.specs[name].url if targets.reachable(name) else row.url),
            host=row.host if is_directory(row.url) else "",
            keys=name in keepers,
            data=not row.votes_only,
            reachable=targets.reachable(name),
        )
        for name, row in repository.target_rows().items()
        if row.state != "lost"
    ]


def _slots(repository: Repository) -> list[KitSlot]:
    held = read_slots(repository.targets, repository.view.state.targets)
    table = table_of(repository.view.state.keys, held, repository.id)
    return [
        KitSlot(
            id=row.id.hex(),
            label=row.label,
            created_ns=row.time_ns or None,
            in_use=row.id.hex() == repository.keyring.slot,
        )
        for row in table.slots
    ]


def _sources(snapshots: Iterable[Snapshot]) -> list[KitSource]:
    newest: dict[tuple[str, str], Snapshot] = {}
    for row in snapshots:
        key = (row.host, row.source)
        if key not in newest or row.time_ns >= newest[key].time_ns:
            newest[key] = row
    return [
        KitSource(
            host=host,
            source=source,
            paths=[path.decode("utf-8", "backslashreplace") for path in row.paths],
            newest_ns=row.time_ns,
        )
        for (host, source), row in sorted(newest.items())
    ]


def _password(repository: Repository) -> str:
    """Return the password in printable form. UsageError if it has none."""
    try:
        text = repository.spec.password().decode()
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise UsageError(
            "the password contains bytes that cannot be printed",
            hint="leave it out, or add one for the kit: drtool key add --label 'recovery kit'",
        )
    return text
