"""Client programs of databases: a script on stdin, rows on stdout.

Invariants
    No query and no password is in the arguments of a program. An invalid DSN is never repeated in a message.
"""

from collections.abc import Mapping, Sequence
from threading import Event

from drtool.errors import DrtoolError
from drtool.plans.actions.port import ChildResult, RunContext
from drtool.plans.actions.probing.replies import CannotAsk
from drtool.plans.bounded import TimeUp, WasCancelled
from drtool.sources.dsn import Url, parse_url


def ask_client(
    argv: Sequence[str],
    script: str,
    env: Mapping[str, str],
    run_context: RunContext,
    ends_at: float,
    cancelled: Event | None,
) -> ChildResult:
    try:
        result = run_context.program(argv, ends_at=ends_at, cancelled=cancelled, env=env, stdin=script.encode())
    except DrtoolError as error:
        raise CannotAsk(f"{error.message}; {error.hint}" if error.hint else error.message) from None
    if result.ended_by == "timeout":
        raise TimeUp(f"{argv[0]} got no answer in time")
    if result.ended_by == "cancelled":
        raise WasCancelled("the run was cancelled")
    return result


def complaint(result: ChildResult) -> str:
    lines = [line for line in result.stderr.strip().splitlines() if line.strip()]
    return " ".join(lines[:3])[:500] or f"the client ended with {result.exit_code}"


def dsn_url(dsn: str) -> Url:
    """Split a DSN. Raises CannotAsk, which does not repeat it because it may contain a secret."""
    try:
        return parse_url(dsn)
    except ValueError as error:
        raise CannotAsk(str(error)) from None


def refuse_nul(text: str) -> None:
    if "\0" in text:
        raise CannotAsk("queries and parameters must not contain a NUL character")
