"""The plan language: reads files into frozen values, evaluates expressions, and refuses invalid plans before a run.

    load_plan(path) -> Plan                      one ConfigError lists all errors of all files
    resolve_vars(plan, words, now) -> values     typed values, with times resolved against `now`
    context_of(plan, step, facts) -> Context     the names that a step's expressions may use; missing facts are unknown
    fill(step.uses, step.inputs, context)        the step's action with its expressions replaced
    truth(step.condition, context)               True, False, or Unknown

Everything here is pure, except for reading the plan's own files.
"""

from drtool.config.document import Placeholder
from drtool.plans.language.context import NOTHING, Facts, Outcome, all_steps, context_of, reachable, undo_context_of
from drtool.plans.language.evaluating import Context, evaluate, truth
from drtool.plans.language.filling import Filled, fill, fill_text
from drtool.plans.language.loading import load_plan
from drtool.plans.language.model import Plan, Step
from drtool.plans.language.parsing import ExpressionError, parse_expression
from drtool.plans.language.values import Bytes, Moment, Seconds, Unknown
from drtool.plans.language.variables import resolve_vars

__all__ = [
    "NOTHING",
    "Bytes",
    "Context",
    "ExpressionError",
    "Facts",
    "Filled",
    "Moment",
    "Outcome",
    "Placeholder",
    "Plan",
    "Seconds",
    "Step",
    "Unknown",
    "all_steps",
    "context_of",
    "evaluate",
    "fill",
    "fill_text",
    "load_plan",
    "parse_expression",
    "reachable",
    "resolve_vars",
    "truth",
    "undo_context_of",
]
