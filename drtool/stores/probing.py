"""Trials of whether a server keeps the promises that a voter's register needs, with objects that are removed afterwards.

A passed trial is evidence, not proof. `manifest check` keeps looking for two records with the same position.

Invariants
    Only names below `probe/` are touched. Objects that cannot be removed (in an append-only bucket) stay, and are harmless.
    One wrong answer is enough to fail. A missing answer fails too, with that reason.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from drtool.errors import StoreError, TargetOffline
from drtool.stores.names import PROBE_DIRECTORY
from drtool.stores.ports import Tagged, VoterStore
from drtool.stores.scratch import new_label, remove_leftovers
from drtool.stores.voting import VoteVerdict

RACERS = 32
NAMES = 5
WAVES = 4
"""The number of racers per name, of names at a time, and of waves. Several names run at once, because some servers
delay the losers of a race for seconds (SeaweedFS). Not all run at once, because several targets are tried in parallel and
each racer holds a connection."""
PATIENCE_S = 5.0
"""No further wave begins after this time, so a slow server is tried with fewer names."""


class _Broken(Exception):
    """Raised with a description of a broken promise."""


def verdict_by_probe(store: VoterStore, kind: str, *, waves: int = WAVES) -> VoteVerdict:
    """Try the promises of a register. `kind` names the medium. Takes a few hundred requests."""
    scratch = f"{PROBE_DIRECTORY}/{new_label(time.time())}/"
    try:
        _try_alone(store, scratch)
        _try_races(store, scratch, waves)
    except _Broken as broken:
        _clear(store, scratch)
        return VoteVerdict(
            can_vote=False, file_system=kind, reason=f"its server cannot be trusted with a vote: {broken}"
        )
    except TargetOffline as error:  # without an answer, cleaning up is not tried either
        return _failed(kind, error)
    except StoreError as error:
        _clear(store, scratch)
        return _failed(kind, error)
    _clear(store, scratch)
    return VoteVerdict(can_vote=True, file_system=kind, reason="it kept every promise that was tried")


def _failed(kind: str, error: StoreError) -> VoteVerdict:
    return VoteVerdict(can_vote=False, file_system=kind, reason=f"it failed during the trial: {error.message}")


def _try_alone(store: VoterStore, scratch: str) -> None:
    name = f"{scratch}one"
    _demand(store.put_if_absent(name, b"first"), "it refused to create an object that was not there")
    _demand(not store.put_if_absent(name, b"second"), "it created an object that existed already")
    first = store.read_tagged(name)
    _demand(first is not None and first.data == b"first", "a refused creation changed what was there")
    _demand([row.name for row in store.list(scratch)] == [name], "a listing does not show what was just created")
    if store.mode == "cas" and first is not None:
        _try_swaps(store, scratch, name, first.tag)


def _try_swaps(store: VoterStore, scratch: str, name: str, first: str) -> None:
    _demand(store.compare_and_swap(name, b"third", None) is None, "it created an object that existed already")
    second = store.compare_and_swap(name, b"third", first)
    _demand(second is not None, "it refused to replace an object although the token was right")
    _demand(
        store.compare_and_swap(name, b"fourth", first) is None, "it replaced an object although the token was outdated"
    )
    found = store.read_tagged(name)
    _demand(found is not None and found.data == b"third", "a read after a replacement returned other bytes")
    absent = f"{scratch}none"
    _demand(store.compare_and_swap(absent, b"x", first) is None, "it replaced an object that did not exist")
    _demand(store.read_tagged(absent) is None, "it replaced an object that did not exist")


def _try_races(store: VoterStore, scratch: str, waves: int) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    with ThreadPoolExecutor(RACERS * NAMES, "drtool-probe") as threads:
        for wave in range(waves):
            if wave and time.monotonic() > ends_at:
                return
            names = [f"{scratch}race-{wave}-{number}" for number in range(NAMES)]
            _race(threads, store, names, "created", store.put_if_absent)
            if store.mode == "cas":
                tags = {name: _present(store, name).tag for name in names}
                _race(threads, store, names, "replaced", partial(_swapped, store, tags))


def _swapped(store: VoterStore, tags: Mapping[str, str], name: str, mark: bytes) -> bool:
    return store.compare_and_swap(name, b"anew" + mark, tags[name]) is not None


def _race(
    threads: ThreadPoolExecutor,
    store: VoterStore,
    names: Sequence[str],
    what: str,
    act: Callable[[str, bytes], bool],
) -> None:
    """Race for all names at once. Exactly one racer of each name may win, and its bytes must be there."""
    start = threading.Barrier(RACERS * len(names))

    def run(name: str, racer: int) -> bool:
        start.wait(60)
        return act(name, _mark(racer))

    running = {(name, racer): threads.submit(run, name, racer) for name in names for racer in range(RACERS)}
    won = {place: future.result() for place, future in running.items()}
    for name in names:
        _demand_one([racer for racer in range(RACERS) if won[name, racer]], store, name, what)


def _demand_one(won: Sequence[int], store: VoterStore, name: str, what: str) -> None:
    _demand(len(won) == 1, f"of {RACERS} concurrent requests, {len(won)} were told that they {what} the same object")
    _demand(
        _present(store, name).data.endswith(_mark(won[0])),
        f"the request that was told that it {what} an object is not the one that stored its bytes",
    )


def _present(store: VoterStore, name: str) -> Tagged:
    found = store.read_tagged(name)
    if found is None:
        raise _Broken("an object that was just created does not exist")
    return found


def _mark(racer: int) -> bytes:
    return b";racer %d" % racer


def _demand(kept: bool, otherwise: str) -> None:
    if not kept:
        raise _Broken(otherwise)


def _clear(store: VoterStore, scratch: str) -> None:
    with suppress(StoreError):  # leftovers are below `probe/`, which is never read
        for row in list(store.list(scratch)):
            store.delete(row.name)
    remove_leftovers(store)
