"""The store behind a target's URL. This is the only module with all kinds of places.

Invariants
    Opening creates nothing. No caller waits longer than `OPEN_TIMEOUT_S` for a place that hangs.
    A place is reported absent only if the place itself answered so.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from drtool.config.urls import FILE_SCHEME, options_of, scheme_of
from drtool.errors import TargetOffline, UsageError
from drtool.repository.overlays import NO_OVERLAYS, Overlays
from drtool.repository.spec import TargetSpec, local_path
from drtool.stores import Errand, LocalStore, Medium, ReadOnlyStore, VoterStore, VoteVerdict

OPEN_TIMEOUT_S = 12.0
"""Sleeping disks take up to ten seconds to spin up."""

EMPTY_PLACE = "name an empty place: a new directory, or another prefix of the bucket"


def is_directory(url: str) -> bool:
    """Return whether the place is a directory of one host."""
    return _scheme(url) == "file"


def full_url(url: str) -> str:
    """Return the URL with its scheme, also for a plain path."""
    return FILE_SCHEME + str(local_path(url)) if is_directory(url) else url


def overlap(one: str, other: str) -> bool:
    """Return whether one place is inside the other, or is the same."""
    if _scheme(one) != _scheme(other):
        return False
    if is_directory(one):
        return _inside(local_path(one), local_path(other))
    (place, where), (other_place, other_where) = options_of(one), options_of(other)
    same_server = where.get("endpoint") == other_where.get("endpoint")
    return same_server and _inside(Path(place), Path(other_place))


def _inside(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def open_store(spec: TargetSpec) -> Medium:
    """Return the store behind a target's URL. TargetOffline if it is absent. A bucket is checked at its first call."""
    return _bucket(spec, ask=False) if _scheme(spec.url) == "s3" else _opener(spec, create=False)()


def open_read_only(spec: TargetSpec) -> VoterStore:
    """Return the same for a dry run, in which a write raises."""
    return ReadOnlyStore(open_store(spec))


def open_in_time(spec: TargetSpec, *, create: bool = False, overlays: Overlays = NO_OVERLAYS) -> Medium:
    """Return the same for places opened outside of `Targets`. `create` makes the place if it does not exist yet."""
    opener = _opener(spec, create=create)
    return Errand(lambda: overlays.opened_place(spec, lambda _spec: opener())).result(OPEN_TIMEOUT_S, spec.url)


def open_if_there(spec: TargetSpec, overlays: Overlays = NO_OVERLAYS) -> Medium | None:
    """Return the store, or None if the place answers that it does not exist yet."""
    try:
        return open_in_time(spec, overlays=overlays)
    except TargetOffline as error:
        if is_absent(error) and not isinstance(error.__cause__, NotADirectoryError):
            return None
        raise


def is_absent(error: TargetOffline) -> bool:
    """Return whether a place was not found, rather than not reached."""
    return isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)


def vote_verdict(spec: TargetSpec) -> VoteVerdict:
    """Return whether a register may be at a place. A directory that does not exist yet is judged by its nearest parent."""
    store = _nearest(spec)
    try:
        return store.vote_verdict()
    finally:
        store.close()


def _nearest(spec: TargetSpec) -> Medium:
    store = open_if_there(spec)
    if store is not None:
        return store
    if not is_directory(spec.url):
        return open_in_time(spec, create=True)  # a server's abilities are tested in the place itself
    place = local_path(spec.url).parent
    while not place.exists():
        place = place.parent
    return LocalStore.open(place)


def _opener(spec: TargetSpec, *, create: bool) -> Callable[[], Medium]:
    scheme = _scheme(spec.url)
    if scheme == "s3":
        return partial(_bucket, spec)
    if scheme == "sftp":
        return partial(_server, spec, create=create)
    return partial(LocalStore.create if create else LocalStore.open, local_path(spec.url))


def _bucket(spec: TargetSpec, *, ask: bool = True) -> Medium:
    from drtool.stores.s3 import S3Store, s3_place

    url, where = options_of(spec.url)
    path_style = {"true": True, "false": False, None: None}[where.get("path_style")]
    place = s3_place(
        url,
        endpoint=where.get("endpoint"),
        region=where.get("region"),
        path_style=path_style,
        profile=spec.access.profile,
        storage_class=spec.access.storage_class,
    )
    return S3Store.open(place) if ask else S3Store.unasked(place)


def _server(spec: TargetSpec, *, create: bool) -> Medium:
    from drtool.stores.sftp import SftpStore, sftp_place

    place = sftp_place(spec.url, identity_file=spec.access.identity_file, known_hosts=spec.access.known_hosts)
    return SftpStore.create(place) if create else SftpStore.open(place)


def _scheme(url: str) -> str:
    try:
        return scheme_of(url)
    except ValueError as error:
        raise UsageError(f"target URL {url!r}: {error}") from None
