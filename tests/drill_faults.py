"""Faults for tests: directories as targets, overlays on them, and processes that inject and are killed."""

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import drtool
from drtool.model import TargetName
from drtool.repository.overlays import OverlayRecord, Overlays, canonical
from drtool.repository.overlays.watch import LOOK_S
from drtool.repository.places import open_store
from drtool.repository.processes import boot_time_s, this_process
from drtool.repository.spec import TargetSpec
from drtool.stores import LocalStore, VoterStore

PACK = "packs/ab/abcd"
OTHER = "packs/cd/cdef"
BYTES = bytes(range(256)) * 40

HOLDER = """
import sys, time
from pathlib import Path
from drtool.plans.faults.injecting import Injection, Sufferer, inject
from drtool.repository.overlays import Overlays
from drtool.repository.spec import TargetSpec
state, target, url, kind = sys.argv[1:5]
sufferer = Sufferer(spec=TargetSpec(name=target, url=url), objects=tuple(sys.argv[5:]))
slow_s = 0.01 if kind == "slow" else 0.0
injection = Injection(
    run="killed", step="gone", kind=kind, sufferers=(sufferer,), duration_s=300, seed="7", latency_s=slow_s
)
with inject(Overlays(Path(state)), injection) as fault:
    print("injected", flush=True)
    fault.hold(lambda: False)
"""
"""A process that injects a fault and holds it until it is killed."""


@dataclass
class Ground:
    """One target with two objects, and this host's state directory."""

    root: Path
    target: str = "a/main"
    overlays: Overlays = field(init=False)

    def __post_init__(self) -> None:
        self.overlays = Overlays(self.state)
        LocalStore.create(self.place).close()
        with self.plain() as store:
            store.put(PACK, BYTES)
            store.put(OTHER, BYTES[::-1])

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def faults(self) -> Path:
        return self.state / "faults"

    @property
    def place(self) -> Path:
        return self.root / self.target.partition("/")[0]

    @property
    def spec(self) -> TargetSpec:
        return TargetSpec(name=TargetName(self.target), url=str(self.place))

    @contextmanager
    def plain(self) -> Iterator[LocalStore]:
        store = LocalStore.open(self.place)
        yield store
        store.close()

    def store(self) -> VoterStore:
        """As a process sees it that opens its stores now."""
        return self.overlays.opened(self.spec, open_store)

    def record(self, kind: str, **more: Any) -> OverlayRecord:
        values = {
            "id": secrets.token_hex(8),
            "run": "r1",
            "step": "s1",
            "target": self.spec.name,
            "url": canonical(self.spec.url),
            "owner": this_process(),
            "boot_deadline_s": boot_time_s() + 60,
            "injected_at": "2026-01-01T00:00:00Z",
        }
        return OverlayRecord(kind=kind, **{**values, **more})

    def put(self, kind: str, **more: Any) -> OverlayRecord:
        """Puts an overlay in force, for processes that have looked already as well."""
        record = self.record(kind, **more)
        Overlays(self.state).files.write(record)
        time.sleep(LOOK_S * 1.25)
        return record

    def clear(self) -> None:
        for path in self.faults.glob("*.json"):
            self.overlays.files.remove(path.stem)
        time.sleep(LOOK_S * 1.25)


@contextmanager
def holder(
    state: Path, target: str, url: Path | str, kind: str, *objects: str, environ: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that has injected a fault and holds it."""
    words = [sys.executable, "-c", HOLDER, str(state), target, str(url), kind, *objects]
    own = {"PYTHONPATH": str(Path(drtool.__file__).parent.parent)} | (environ or {})
    with subprocess.Popen(words, env=own, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "injected\n"
        try:
            yield process
        finally:
            process.kill()
