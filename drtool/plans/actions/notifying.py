"""`notify`: sends one message through one channel."""

from drtool.config.document import Placeholder
from drtool.plans.actions.port import Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.language.actions import RESULTS, Notify

OUTPUTS = RESULTS["notify"]


class NotifyAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Notify = step_context.action
        problem = "" if isinstance(action.channel, Placeholder) else run_context.can_tell(action.channel)
        if problem:
            return Preview(verdict="cannot run", detail=run_context.redact(problem))
        if step_context.missing:
            return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(step_context.missing))}")
        return Preview(verdict="ok", detail=run_context.redact(f"notifies {action.channel}: {action.message}"))

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Notify = step_context.action
        message = run_context.redact(action.message)
        problem = run_context.redact(run_context.tell(action.channel, "step", message))
        evidence = {"channel": action.channel, "message": message}
        if problem:
            detail = f"channel {action.channel} could not be notified: {problem}"
            return Outcome(status="failed", cause="error", detail=detail, evidence=evidence)
        return Outcome(status="passed", detail=f"{action.channel} was notified", evidence=evidence)
