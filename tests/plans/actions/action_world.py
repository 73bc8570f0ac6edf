"""The environment of one action in a run: real programs and clocks, with answers and channels set by the test."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

from drtool.plans.actions.port import ChildResult, RunContext, StepContext, Work
from drtool.plans.actions.programs import run_program
from drtool.plans.language.evaluating import Context, evaluate
from drtool.plans.language.filling import fill
from drtool.plans.language.values import Moment, Unknown
from drtool.plans.running.secrets import redactor

CANARY = "canary-5f3a91c7"


def step_of(uses, inputs, **more):
    fields = {"id": "x", "uses": uses, "inputs": inputs, "needs": (), "timeout_s": 30.0, "place": None}
    return SimpleNamespace(**(fields | more))


def step_context(uses, inputs, *, context=None, pins=None, key="x", **more):
    known = context or Context(roots={}, now=Moment(time.time_ns()), statuses={})
    filled = fill(uses, inputs, known)
    assert filled.action is not None, filled.problems
    return StepContext(
        key=key,
        step=step_of(uses, inputs, **more),
        action=filled.action,
        missing=filled.needs,
        pins=pins or {},
        evaluate=lambda expression: evaluate(expression, known),
    )


def context(**roots):
    return Context(roots=roots, now=Moment(time.time_ns()), statuses={})


def needs(*steps, kind="any"):
    return Unknown(frozenset(steps), kind)


def run_context(tmp_path, **more):
    fields = {
        "run": "20260101-000000-aaaa",
        "plan": SimpleNamespace(notify=(), always=(), files=()),
        "live": False,
        "started": Moment(time.time_ns()),
        "incident": None,
        "folder": tmp_path,
        "state_dir": tmp_path,
        "cache_dir": tmp_path,
        "scratch_roots": (tmp_path,),
        "config_path": None,
        "environ": {"PATH": "/usr/local/bin:/usr/bin:/bin"},
        "redact": redactor({"canary": CANARY}),
        "repository": None,
        "drtool": None,
        "program": run_program,
        "ask": None,
        "can_ask": lambda channel: "",
        "tell": lambda channel, event, message: "",
        "can_tell": lambda channel: "",
        "outputs": lambda step: {},
        "evidence": lambda step: {},
    }
    return RunContext(**(fields | more))


def work(within_s=20.0, scratch=None):
    return Work(
        attempt=1,
        ends_at=time.monotonic() + within_s,
        cancelled=threading.Event(),
        released=threading.Event(),
        injected=lambda outputs: None,
        scratch=scratch or (lambda size_bytes, files: Path("/nowhere")),
        at_end=lambda ending: None,
        progress=lambda text: None,
    )


def child(exit_code=0, stdout=b"", stderr="", ended_by="itself"):
    return ChildResult(exit_code=exit_code, stdout=stdout, stderr=stderr, seconds=0.1, ended_by=ended_by)
