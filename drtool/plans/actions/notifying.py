"""`notify`: sends one message through one channel."""

from drtool.config.document import Placeholder
from drtool.plans.actions.port import Around, Asked, Foresight, Outcome, Work
from drtool.plans.language.actions import Notify
from drtool.plans.language.results import RESULTS

OUTPUTS = RESULTS["notify"]


class NotifyAction:
    """An implementation of `port.Action`."""

    def foresee(self, asked: Asked, around: Around) -> Foresight:
        action: Notify = asked.action
        problem = "" if isinstance(action.channel, Placeholder) else around.can_tell(action.channel)
        if problem:
            return Foresight(verdict="cannot run", detail=around.redact(problem))
        if asked.missing:
            return Foresight(verdict="deferred", detail=f"needs {', '.join(sorted(asked.missing))}")
        return Foresight(verdict="ok", detail=around.redact(f"notifies {action.channel}: {action.message}"))

    def act(self, asked: Asked, around: Around, work: Work) -> Outcome:
        action: Notify = asked.action
        message = around.redact(action.message)
        problem = around.redact(around.tell(action.channel, "step", message))
        evidence = {"channel": action.channel, "message": message}
        if problem:
            detail = f"channel {action.channel} could not be notified: {problem}"
            return Outcome(status="failed", cause="error", detail=detail, evidence=evidence)
        return Outcome(status="passed", detail=f"{action.channel} was notified", evidence=evidence)
