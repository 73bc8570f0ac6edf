"""The facts about the targets, gathered concurrently, each on its own thread, in bounded time.

Invariants
    A target is written to only if its marker says that it is this target of the repository that most targets belong to.
    So an unmounted disk is not filled, and another repository's place is not touched. With `read_only` nothing is
    written.
    Test objects are written below `probe/` and removed again.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from msgspec.structs import replace

from drtool.config.urls import options_of, scheme_of
from drtool.errors import DrtoolError, ObjectMissing, StoreError, TargetHung
from drtool.events import Emit
from drtool.operations.doctor.facts import Refusal, TargetFacts
from drtool.repository.exposure import mount_point_of
from drtool.repository.marker import MARKER_BYTES_MAX, MARKER_OBJECT, Marker
from drtool.repository.places import open_store
from drtool.repository.spec import TargetSpec, local_path
from drtool.repository.trials import SIGN_OF_LIFE_S, trial_progress
from drtool.stores import Errand, Medium
from drtool.stores.scratch import Scratch, modified_at_s, remove_leftovers

LOOK_S = 6.0
"""A target that has not answered by then is not written to."""
TOTAL_S = 30.0
QUESTIONS = 5
_TRIAL = b"drtool doctor was here"


def gather_targets(
    specs: Iterable[TargetSpec], ends_at: float, *, read_only: bool, emit: Emit
) -> tuple[TargetFacts, ...]:
    """Inspect all targets, then test the writable ones. `ends_at` is a time of the monotonic clock."""
    examinations = [_Examination(spec) for spec in specs]
    looking = {one: Errand(one.look) for one in examinations}
    _wait(looking, min(ends_at, time.monotonic() + LOOK_S), emit)
    repository = commonest([one.facts.repository for one in examinations])
    ours = [one for one in examinations if one.may_be_written(repository)] if not read_only else []
    trying = {one: Errand(one.try_writing) for one in ours}
    _wait(looking, ends_at, emit)
    _wait(trying, ends_at, emit)
    return tuple(one.facts for one in examinations)


def commonest(repositories: Iterable[str | None]) -> str | None:
    """Return the repository that more targets belong to than to any other, or None if there is a tie or none."""
    found = Counter(name for name in repositories if name is not None).most_common(2)
    if not found or (len(found) > 1 and found[0][1] == found[1][1]):
        return None
    return found[0][0]


def _wait(errands: "Mapping[_Examination, Errand[None]]", ends_at: float, emit: Emit) -> None:
    _show_while_they_run(errands, ends_at, emit)
    for one, errand in errands.items():
        try:
            errand.result(ends_at - time.monotonic(), one.facts.name)
        except TargetHung:  # `step` names the attempt that hung
            pass


def _show_while_they_run(errands: "Mapping[_Examination, Errand[None]]", ends_at: float, emit: Emit) -> None:
    began_s = time.monotonic()
    while pending := [(one.facts.name, errand) for one, errand in errands.items() if errand.running]:
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            return
        pending[0][1].wait(min(SIGN_OF_LIFE_S, left_s))
        emit(trial_progress([name for name, errand in pending if errand.running], len(errands), began_s))


class _Examination:
    """One target. `facts` is replaced as a whole, so a concurrent reader always sees a consistent state."""

    def __init__(self, spec: TargetSpec) -> None:
        self._spec = spec
        self._store: Medium | None = None
        self.facts = TargetFacts(name=spec.name, url=spec.url, kind=scheme_of(spec.url), step="opening it")

    def look(self) -> None:
        """Gather the facts that need no writing."""
        try:
            self._store = store = open_store(self._spec)
            self._ask_time(store)
            self._note(step="reading its marker")
            self._read_marker(store)
            self._note(step="small reads", place=self._place(), mounted_at=self._mounted_at())
            self._note(reached=True, latency_s=_latency_s(store), step="asking for free space")
            self._note(free_bytes=store.free_bytes())
            self._ask_bucket(store)
            self._note(step=None)
        except (DrtoolError, OSError) as error:
            self._note(refusal=refusal_of(error), step=None)

    def may_be_written(self, repository: str | None) -> bool:
        facts = self.facts
        mine = facts.repository is not None and facts.repository == repository and facts.foreign is None
        return mine and facts.step is None and facts.refusal is None

    def try_writing(self) -> None:
        """Write, read and delete a test object. The medium itself tests the operations of a register."""
        store = self._store
        assert store is not None
        scratch = Scratch(store)
        try:
            self._note(step="writing")
            self._note(leftovers=remove_leftovers(store))
            self._write(store, scratch)
            if self.facts.write_refusal is None and self.facts.delete_refusal is None:
                self._note(step="trying conditional writes")
                verdict = store.vote_verdict()
                self._note(can_vote=verdict.can_vote, vote_reason=verdict.reason)
            self._note(step=None)
        except (DrtoolError, OSError) as error:
            self._note(write_refusal=refusal_of(error), step=None)
        finally:
            with suppress(DrtoolError, OSError):
                store.close()

    def _write(self, store: Medium, scratch: Scratch) -> None:
        name = scratch.name("doctor")
        try:
            before_s = time.time()
            store.put(name, _TRIAL)
            after_s = time.time()
            if store.get(name) != _TRIAL:
                raise StoreError("the data read differs from the data written")
        except (DrtoolError, OSError) as error:
            self._note(write_refusal=refusal_of(error))
            with suppress(DrtoolError, OSError):  # a full disk keeps nothing, but an unanswered write may have arrived
                scratch.clear()
            return
        self._note(write_tried=True)
        written_s = modified_at_s(store, name)
        if written_s is not None:
            self._note(skew_s=_apart_s(written_s, before_s, after_s))
        try:
            scratch.clear()
        except (DrtoolError, OSError) as error:
            self._note(delete_refusal=refusal_of(error))

    def _read_marker(self, store: Medium) -> None:
        try:
            marker = Marker.read(store)
        except ObjectMissing:
            self._note(unmarked=True)
            return
        self._note(repository=marker.repository)
        if marker.target != self._spec.name:
            self._note(foreign=f"its marker says that it is {marker.target}")

    def _ask_time(self, store: Medium) -> None:
        ask: Callable[[], float | None] | None = getattr(store, "server_time_s", None)
        if ask is not None:
            self._note(step="asking for the time")
            before_s = time.time()
            server_s = ask()
            if server_s is not None:
                self._note(skew_s=_apart_s(server_s, before_s, time.time()))

    def _ask_bucket(self, store: Medium) -> None:
        versions: Callable[[], bool | None] | None = getattr(store, "keeps_versions", None)
        locked: Callable[[], bool | None] | None = getattr(store, "keeps_locked", None)
        if versions is not None and locked is not None:
            self._note(step="asking how it keeps objects")
            self._note(keeps_versions=versions(), keeps_locked=locked())

    def _place(self) -> str:
        """Return the device or server with which this target would be lost."""
        if self.facts.kind == "file":
            return f"device {os.stat(local_path(self._spec.url)).st_dev}"
        place, options = options_of(self._spec.url)
        if self.facts.kind == "s3":
            return (
                f"endpoint {options.get('endpoint') or 'of Amazon S3, region ' + options.get('region', 'by default')}"
            )
        return f"server {urlsplit(place).hostname}"

    def _mounted_at(self) -> str | None:
        return str(mount_point_of(Path(local_path(self._spec.url)))) if self.facts.kind == "file" else None

    def _note(self, **changes: object) -> None:
        self.facts = replace(self.facts, **changes)


def _latency_s(store: Medium) -> float:
    """Return the median of a few small reads. A missing object counts as an answer."""
    taken_s = []
    for _ in range(QUESTIONS):
        began_s = time.monotonic()
        with suppress(ObjectMissing):
            store.get(MARKER_OBJECT, 0, MARKER_BYTES_MAX)
        taken_s.append(time.monotonic() - began_s)
    return median(taken_s)


def _apart_s(there_s: float, before_s: float, after_s: float) -> float:
    """Return how far their clock is ahead of ours. A difference within the request's duration or 1 s counts as 0."""
    if before_s - 1 <= there_s <= after_s + 1:
        return 0.0
    return round(there_s - (before_s + after_s) / 2, 3)


def refusal_of(error: DrtoolError | OSError) -> Refusal:
    """Return an error as the facts record it."""
    if isinstance(error, DrtoolError):
        return error.kind, error.message, error.hint
    return "os_error", f"{error.filename or 'the system'}: {error.strerror or error}", None
