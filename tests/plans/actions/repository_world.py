"""The environment of a run with a real repository at three sites, its configuration, and drtool's commands as programs."""

import os
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

from action_world import run_context, step_context
from three_sites import PASSWORD, everything, fill, noise

from drtool.events import ignore
from drtool.plans.actions.port import Work
from drtool.plans.actions.registry import Actions
from drtool.plans.language.model import Guards
from drtool.plans.running.children import DrtoolProgram
from drtool.plans.running.resolving import read_only
from drtool.repository import opening

ACTIONS = Actions()


class Ground:
    """A world with a source, `home`, of a few packs, and the environment of a step's action."""

    def __init__(self, world, guards=None, sites=None, size_bytes=300_000):
        self.world, root = world, world.root
        self.home = fill(root / "home", {f"{n}": noise(size_bytes, n) for n in range(4)})
        self.out = root / "out"
        self.scratch_root = root / "scratch"
        self.scratch_root.mkdir()
        self.config = root / "drtool.yaml"
        self.config.write_text(
            "repository: test\nsites:\n"
            + "".join(f"  {site}: {{main: {{url: '{root / site}'}}}}\n" for site in "abc")
            + f"sources: {{home: {{paths: ['{self.home}']}}, nothing: {{paths: ['{root / 'nothing'}']}},"
            + f" void: {{paths: ['{root / 'void'}']}}}}\n"
        )
        (root / "void").mkdir()
        self.leftovers = []
        self.run_context = run_context(
            root / "run",
            plan=SimpleNamespace(guards=guards or Guards(), sites=sites or {}, notify=(), always=(), files=()),
            state_dir=root / world.state,
            cache_dir=root / "cache",
            scratch_roots=(self.scratch_root,),
            config_path=self.config,
            repository=self._repository,
            drtool=DrtoolProgram(
                os.environ, self.config, root / world.state, root / "cache", lambda: PASSWORD, lambda text: text
            ),
        )

    @contextmanager
    def _repository(self):
        derive = opening.unlock
        if self.world.keyrings:
            opening.unlock = lambda *_: self.world.keyrings[0]
        try:
            with read_only(self.world.spec, ignore) as repository:
                yield repository
        finally:
            opening.unlock = derive

    def preview(self, uses, inputs, **more):
        """Return the preview of a step. It changes nothing anywhere."""
        before = self.portrait()
        found = ACTIONS[uses].preview(step_context(uses, inputs, **more), self.run_context)
        assert self.portrait() == before
        return found

    def act(self, uses, inputs, *, pins=None, work=None, **more):
        step = step_context(uses, inputs, pins=pins, **more)
        if pins is None:
            foreseen = ACTIONS[uses].preview(step, self.run_context)
            assert foreseen.verdict in ("ok", "would change"), foreseen
            step = step_context(uses, inputs, pins=foreseen.pins, **more)
        return ACTIONS[uses].act(step, self.run_context, work or self.work())

    def work(self, within_s=60.0):
        return Work(
            attempt=1,
            ends_at=time.monotonic() + within_s,
            cancelled=threading.Event(),
            released=threading.Event(),
            injected=lambda outputs: None,
            scratch=self._scratch,
            at_end=lambda ending: None,
            progress=lambda text: None,
        )

    def _scratch(self, size_bytes, files):
        path = self.scratch_root / f"of-{size_bytes}-{files}"
        path.mkdir()
        return path

    def portrait(self):
        """Return every byte, name and time that a dry run must not change."""
        places = {name: self.world.root / name for name in ("a", "b", "c", "home", "state", "scratch", "out")}
        return {name: everything(place) for name, place in places.items() if place.exists()}
