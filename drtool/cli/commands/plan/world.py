"""The surroundings of a plan's run on the command line: configuration, secrets, approvals and notifications."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from drtool.cli.core.call import Call, make_private
from drtool.plans.actions.port import RunContext
from drtool.plans.actions.programs import run_program
from drtool.plans.actions.registry import Actions
from drtool.plans.approvals import Approver
from drtool.plans.channels import Channels
from drtool.plans.language.filling import fill_text
from drtool.plans.language.model import Plan
from drtool.plans.language.values import Moment, Unknown, Value
from drtool.plans.language.variables import resolve_vars
from drtool.plans.running.children import DrtoolProgram
from drtool.plans.running.facts import Given, context_for
from drtool.plans.running.resolving import read_only
from drtool.plans.running.runs import folder_of
from drtool.plans.running.secrets import read_secrets, redactor
from drtool.plans.running.session import Run
from drtool.plans.running.state import RunState
from drtool.plans.running.supervision import approval_channel
from drtool.plans.scratch.space import roots_of

if TYPE_CHECKING:
    from drtool.repository import RepositorySpec


def world(
    call: Call,
    plan: Plan,
    run_id: str,
    *,
    variables: Sequence[str],
    started: Moment,
    live: bool,
    incident: Moment | None,
    resolved: "dict[str, Value] | None" = None,
) -> Run:
    """Return everything that a run needs. `resolved` holds the variables' values if they are known from before."""
    settings = call.settings
    make_private(settings.state_dir)
    values = resolve_vars(plan, variables, started) if resolved is None else resolved
    secrets = read_secrets(plan.secrets, os.environ)
    redact = redactor(secrets)
    asks = approval_channel(plan)
    folder = folder_of(settings.state_dir, run_id)
    given = Given(run=run_id, scope=plan.scope, started=started, vars=values, secrets=secrets)
    plan = with_guards(plan, given)
    program = DrtoolProgram(
        os.environ, settings.config_path, settings.state_dir, settings.cache_dir, settings.password, redact
    )
    channels = Channels(settings.config.notify)
    approver = Approver(folder, channels.tell, channels.can_tell)
    run_context = RunContext(
        run=run_id,
        plan=plan,
        live=live,
        started=started,
        incident=incident,
        folder=folder,
        state_dir=settings.state_dir,
        cache_dir=settings.cache_dir,
        scratch_roots=roots_of(settings.state_dir, Path(os.environ["TMPDIR"]) if os.environ.get("TMPDIR") else None),
        config_path=settings.config_path,
        environ=program.environ,
        redact=redact,
        repository=lambda: read_only(_spec(call), call.emit),
        drtool=program,
        program=run_program,
        ask=lambda key, prompt, shown, channel, work: approver.ask(key, prompt, shown, channel or asks, work),
        can_ask=lambda channel: approver.can_ask(channel) and approver.can_ask(channel or asks),
        tell=channels.tell,
        can_tell=channels.can_tell,
        outputs=lambda _: {},  # the journal of an active run records what ended in it
        evidence=lambda _: {},
        host=settings.host,
    )
    return Run(
        plan=plan,
        given=given,
        context=run_context,
        actions=Actions(),
        host=settings.host,
        user=settings.user,
        live=live,
        variables={name: _plain(value) for name, value in values.items()},
    )


def with_guards(plan: Plan, given: Given) -> Plan:
    """Return the plan with the variables in its guards' sites and kill switch filled in."""
    context = context_for(plan, RunState(), given, None, given.started)

    def words(texts: Sequence[str]) -> tuple[str, ...]:
        values = [fill_text(text, context) for text in texts]
        flat = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
        return tuple(str(item) for item in flat if not isinstance(item, Unknown))

    guards = plan.guards
    filled = replace(
        guards,
        only_sites=None if guards.only_sites is None else words(guards.only_sites),
        never_sites=words(guards.never_sites),
        kill_switch=None if guards.kill_switch is None else "".join(words((guards.kill_switch,))),
    )
    return replace(plan, guards=filled)


def _spec(call: Call) -> "Callable[[], RepositorySpec]":
    return lambda: call.spec(call.configured_targets(), ())


def _plain(value: Any) -> Any:  # noqa: ANN401 - a value of the language
    """Return a value as the journal stores it and `resolve_vars` can read it back."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
