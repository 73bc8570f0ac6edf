"""A run with real threads, a real journal and real scratch. Its actions follow a script."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from drtool.plans.actions.port import Outcome, Preview, RunContext
from drtool.plans.evidence.objectives import Measures
from drtool.plans.language import load_plan
from drtool.plans.language.values import Moment
from drtool.plans.language.variables import resolve_vars
from drtool.plans.running.facts import Given
from drtool.plans.running.secrets import read_secrets, redactor
from drtool.plans.running.session import Run, carry_on, carry_out, preview

HEAD = "version: 1\nid: t\ntitle: a test\n"


class Scripted:
    """All actions. `script` maps keys to an Outcome, a function of (asked, around, work), or a list of these by attempt."""

    def __init__(self, script):
        self.script, self.done, self.threads = script, [], set()

    def __getitem__(self, uses):
        return self

    def preview(self, step_context, run_context):
        return self.script.get(f"preview {step_context.key}", Preview(verdict="ok"))

    def act(self, step_context, run_context, work):
        self.done.append(step_context.key)
        self.threads.add(threading.get_ident())
        given = self.script.get(step_context.key, Outcome(status="passed"))
        if isinstance(given, list):
            given = given[min(work.attempt, len(given)) - 1]
        return given(step_context, run_context, work) if callable(given) else given


def nothing_measured(plan, events):
    return Measures(values={})


class Bench:
    def __init__(self, root: Path):
        self.root, self.interrupts = root, []
        self.state = root / "state"
        self.state.mkdir(mode=0o700)

    def made(self, text, script=None, *, variables=(), environ=None, run="20260101-000000-aaaa", live=False):
        path = self.root / "plan.yaml"
        path.write_text(HEAD + text)
        plan = load_plan(path)
        now = Moment(time.time_ns())
        secrets = read_secrets(plan.secrets, environ or {})
        values = resolve_vars(plan, variables, now)
        run_context = RunContext(
            run=run,
            plan=plan,
            live=live,
            started=now,
            incident=None,
            folder=self.state / "runs" / run,
            state_dir=self.state,
            cache_dir=self.root / "cache",
            scratch_roots=(self.root / "scratch",),
            config_path=None,
            environ={},
            redact=redactor(secrets),
            repository=None,
            drtool=None,
            program=None,
            ask=None,
            can_ask=lambda channel: "",
            tell=lambda *words: "",
            can_tell=lambda channel: "",
            outputs=lambda step: {},
            evidence=lambda step: {},
        )
        given = Given(run=run, scope=plan.scope, started=now, vars=values, secrets=secrets)
        self.actions = Scripted(script or {})
        return Run(
            plan=plan,
            given=given,
            context=run_context,
            actions=self.actions,
            host="h",
            user="u",
            live=live,
            variables={},
        )

    def run(self, text, script=None, **more):
        return self.carried_out(self.made(text, script, **more))

    def carried_out(self, run, *, again=False, measure=nothing_measured):
        act = carry_on if again else carry_out
        result = act(run, preview(run), measure, self.interrupted)
        statuses = {
            event.key: event.status
            for event in result.events
            if type(event).__name__ == "Ended" and event.retry_at_s is None
        }
        return SimpleNamespace(result=result, conclusion=result.conclusion, statuses=statuses, events=result.events)

    def interrupted(self):
        return self.interrupts[-1] if self.interrupts else ""


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)
