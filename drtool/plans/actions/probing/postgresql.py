"""PostgreSQL, through psql: one query, in a read-only transaction.

Invariants
    The DSN goes through psql's environment, everything else over its stdin. The server binds values; they are never pasted.
"""

import csv
import io
import secrets
import time
from collections.abc import Sequence
from threading import Event

from drtool.plans.actions.port import RunContext
from drtool.plans.actions.probing.clients import ask_client, complaint, refuse_nul
from drtool.plans.actions.probing.replies import CannotAsk, Reply, bad, cell, judged
from drtool.plans.language.probes import Scalar, SqlProbe
from drtool.sources.postgresql.dsn import dsn_environment


def ask_postgresql(probe: SqlProbe, run_context: RunContext, ends_at: float, cancelled: Event | None) -> Reply:
    env = {**run_context.environ, **postgres_environment(probe.dsn)}
    left_s = max(2, round(ends_at - time.monotonic()))
    env.setdefault("PGCONNECT_TIMEOUT", str(left_s))
    env["PGOPTIONS"] = f"-c default_transaction_read_only=on -c statement_timeout={left_s * 1000}"
    nothing = secrets.token_hex(8)
    argv = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--csv", "--tuples-only", f"--pset=null={nothing}"]
    result = ask_client(argv, postgres_script(probe.query, probe.params), env, run_context, ends_at, cancelled)
    if result.exit_code:
        return bad(complaint(result))
    if result.truncated:
        return bad("the answer exceeds the limit; select less")
    rows = list(csv.reader(io.StringIO(result.stdout.decode("utf-8", "replace"))))
    return judged(probe.expect, [[None if text == nothing else cell(text) for text in row] for row in rows], more=False)


def postgres_environment(dsn: str) -> dict[str, str]:
    """Return the environment for libpq, because a DSN in an argument would appear in `ps`. Raises CannotAsk."""
    try:
        variables = dsn_environment(dsn)
    except ValueError as error:
        raise CannotAsk(str(error)) from None
    if "PGOPTIONS" in variables:
        raise CannotAsk("a probe sets the session options; leave `options` out of the DSN")
    return variables


def postgres_script(query: str, params: Sequence[Scalar | None]) -> str:
    """Return the script for psql's stdin.

    Query and values are psql variables, quoted by psql. `\\gexec` sends the statement to the server unchanged, so that no
    backslash in it is a psql command. With parameters it is prepared, and `$1` is bound.
    """
    query = query.strip().rstrip(";")
    lines = ["\\set ON_ERROR_STOP on"]
    lines += [
        f"\\set p{number} {_psql_quoted(_text(value))}" for number, value in enumerate(params, 1) if value is not None
    ]
    statement = f"PREPARE drtool_probe AS {query}" if params else query
    lines += [f"\\set statement {_psql_quoted(statement)}", "BEGIN READ ONLY;", "SELECT :'statement' \\gexec"]
    if params:
        values = ("NULL" if value is None else f":'p{number}'" for number, value in enumerate(params, 1))
        lines.append(f"EXECUTE drtool_probe({', '.join(values)});")
    return "\n".join([*lines, "ROLLBACK;", ""])


_PSQL_ESCAPES = str.maketrans({"\\": "\\\\", "'": "''", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _psql_quoted(text: str) -> str:
    refuse_nul(text)
    return "'" + text.translate(_PSQL_ESCAPES) + "'"


def _text(value: Scalar) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
