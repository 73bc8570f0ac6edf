"""Probing, repeated if the plan says so, until the answer is as expected or the time is up.

Invariants
    An unexpected answer is failed. If asking is impossible, the result is unproven, never passed.
    `successes` good answers must be consecutive: a bad answer between them resets the count.
    The dry run asks once. If the answer is not as expected yet, but an earlier step may change that, it is deferred.
"""

import time
from threading import Event
from typing import Any

from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.plans.actions.port import Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.actions.probing.local import ask_command, ask_file
from drtool.plans.actions.probing.mysql import ask_mysql
from drtool.plans.actions.probing.network import ask_dns, ask_tcp, ask_tls
from drtool.plans.actions.probing.postgresql import ask_postgresql
from drtool.plans.actions.probing.replies import Reply, bad
from drtool.plans.actions.probing.sqlite import ask_sqlite
from drtool.plans.actions.probing.web import ask_http, ask_metric
from drtool.plans.bounded import TimeUp, WasCancelled, bounded, pause
from drtool.plans.language.actions import RESULTS
from drtool.plans.language.probes import (
    CommandProbe,
    DnsProbe,
    FileProbe,
    HttpProbe,
    MetricProbe,
    Probe,
    SqlProbe,
    TcpProbe,
    TlsProbe,
)
from drtool.plans.language.values import duration_text

OUTPUTS = RESULTS["probe"]
ONE_S = 30.0
"""The longest time for one answer, also in the dry run."""
EVERY_S = 1.0
_EXCERPT = 2000


class ProbeResult(Struct, frozen=True, kw_only=True):
    """The result of asking once. `reply` is None if asking was impossible."""

    reply: Reply | None
    detail: str
    seconds: float


class ProbeAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        probe: Probe = step_context.action
        if step_context.missing:
            return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(step_context.missing))}")
        result = ask(probe, run_context, time.monotonic() + min(step_context.step.timeout_s, ONE_S))
        detail = run_context.redact(result.detail)
        if result.reply is not None and result.reply.good:
            return Preview(verdict="ok", detail=detail, estimate_s=None)
        waits_for = _waits_for(step_context, run_context) if result.reply is not None else ""
        if waits_for:
            return Preview(verdict="deferred", detail=f"needs {waits_for}; now {detail}")
        return Preview(verdict="cannot run", detail=detail)

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        probe: Probe = step_context.action
        began_at = time.monotonic()
        until = began_at + probe.within_s if probe.within_s is not None else began_at
        attempts = in_a_row = 0
        while True:
            ends_at = min(work.ends_at, max(until, time.monotonic() + EVERY_S) if probe.within_s else work.ends_at)
            try:
                result = ask(probe, run_context, min(ends_at, time.monotonic() + ONE_S), work.cancelled)
            except WasCancelled:
                return Outcome(
                    status="aborted", cause="cancelled", detail="the run was cancelled while waiting for an answer"
                )
            attempts += 1
            in_a_row = in_a_row + 1 if result.reply is not None and result.reply.good else 0
            if in_a_row >= (probe.successes if probe.within_s is not None else 1):
                return _outcome(result, run_context, began_at, attempts)
            every_s = probe.every_s or EVERY_S
            if time.monotonic() + every_s > min(until, work.ends_at):
                return _outcome(result, run_context, began_at, attempts, lacking=probe.successes - in_a_row)
            if not pause(every_s, work.ends_at, work.cancelled):
                return Outcome(status="aborted", cause="cancelled", detail="the run was cancelled between two attempts")


def ask(probe: Probe, run_context: RunContext, ends_at: float, cancelled: Event | None = None) -> ProbeResult:
    """Ask once. Raises WasCancelled."""
    began_at = time.monotonic()
    reply: Reply | None
    try:
        reply = bounded(lambda: _reply(probe, run_context, ends_at, cancelled), ends_at + 1.0, cancelled)
        detail = reply.detail
    except WasCancelled:
        raise
    except TimeUp as error:
        reply, detail = bad(error.message), error.message
    except DrtoolError as error:
        reply, detail = None, error.message
    return ProbeResult(reply=reply, detail=detail, seconds=round(time.monotonic() - began_at, 3))


def _reply(probe: Probe, run_context: RunContext, ends_at: float, cancelled: Event | None) -> Reply:
    match probe:
        case HttpProbe():
            return ask_http(probe, ends_at)
        case TcpProbe():
            return ask_tcp(probe, ends_at)
        case SqlProbe():
            return _ask_sql(probe, run_context, ends_at, cancelled)
        case FileProbe():
            return ask_file(probe, ends_at)
        case CommandProbe():
            return ask_command(probe, run_context, ends_at, cancelled)
        case DnsProbe():
            return ask_dns(probe, ends_at)
        case TlsProbe():
            return ask_tls(probe, ends_at)
        case MetricProbe():
            return ask_metric(probe, ends_at)


def _ask_sql(probe: SqlProbe, run_context: RunContext, ends_at: float, cancelled: Event | None) -> Reply:
    """Ask a database. Raises CannotAsk without a client program or a valid DSN."""
    match probe.engine:
        case "postgresql":
            return ask_postgresql(probe, run_context, ends_at, cancelled)
        case "mysql":
            return ask_mysql(probe, run_context, ends_at, cancelled)
        case "sqlite":
            return ask_sqlite(probe, ends_at, cancelled)


def _waits_for(step_context: StepContext, run_context: RunContext) -> str:
    """Return what may still change the answer, or an empty string."""
    if step_context.step.needs:
        return ", ".join(need.step for need in step_context.step.needs)
    if step_context.key.startswith("undo:"):
        return step_context.key.removeprefix("undo:").partition(".")[0]
    if step_context.key.startswith("after.") or any(
        step_context.step.id == each.id for each in run_context.plan.always
    ):
        return "the steps before it"
    within_s = step_context.action.within_s
    return f"an answer as expected within {duration_text(within_s)}" if within_s is not None else ""


def _outcome(result: ProbeResult, run_context: RunContext, began_at: float, attempts: int, lacking: int = 0) -> Outcome:
    seconds = round(time.monotonic() - began_at, 3)
    detail = run_context.redact(result.detail)
    if result.reply is None:
        detail = f"the probe could not be sent: {detail}"
        return Outcome(status="unproven", detail=detail, evidence={"attempts": attempts})
    value = run_context.redact(result.reply.value) if isinstance(result.reply.value, str) else result.reply.value
    outputs: dict[str, Any] = {
        "value": value,
        "status": result.reply.status,
        "seconds": result.seconds,
        "attempts": attempts,
    }
    evidence: dict[str, Any] = {
        **outputs,
        "value": value[:_EXCERPT] if isinstance(value, str) else value,
        "asked_for_s": seconds,
    }
    if lacking:
        if result.reply.good:
            detail += f"; {lacking} more consecutive good answers were required"
        if attempts > 1:
            detail += f" (after {attempts} attempts)"
        return Outcome(status="failed", detail=detail, outputs=outputs, evidence=evidence)
    return Outcome(status="passed", detail=detail, outputs=outputs, evidence=evidence)
