"""MySQL and MariaDB, through their client: one query, in a read-only transaction.

Invariants
    The password goes through the client's environment; query and values go over its stdin, in hexadecimal.
"""

import re
import shutil
import time
from collections.abc import Sequence
from threading import Event

from drtool.plans.actions.port import RunContext
from drtool.plans.actions.probing.clients import ask_client, complaint, dsn_url, refuse_nul
from drtool.plans.actions.probing.replies import CannotAsk, Cell, Reply, bad, cell, judged
from drtool.plans.language.probes import Scalar, SqlProbe


def ask_mysql(probe: SqlProbe, run_context: RunContext, ends_at: float, cancelled: Event | None) -> Reply:
    scheme, user, password, host, port, path, query = dsn_url(probe.dsn)
    if scheme not in ("mysql", "mariadb") or query.keys() - {"socket"}:
        raise CannotAsk(
            "the DSN is not one for MySQL; write mysql://USER@HOST/DATABASE, or mysql://USER@/DATABASE?socket=PATH"
        )
    left_s = max(2, round(ends_at - time.monotonic()))
    words = [
        "--no-defaults",
        "--batch",
        "--skip-column-names",
        f"--connect-timeout={left_s}",
        "--default-character-set=utf8mb4",
    ]
    given = {
        "host": host,
        "port": port,
        "user": user,
        "socket": query.get("socket", ""),
        "database": path.removeprefix("/"),
    }
    words += [f"--{name}={value}" for name, value in given.items() if value]
    env = dict(run_context.environ) | ({"MYSQL_PWD": password} if password else {})
    client = "mariadb" if shutil.which("mariadb", path=env.get("PATH")) else "mysql"
    result = ask_client([client, *words], mysql_script(probe.query, probe.params), env, run_context, ends_at, cancelled)
    if result.exit_code:
        return bad(complaint(result))
    if result.truncated:
        return bad("the answer exceeds the limit; select less")
    lines = result.stdout.decode("utf-8", "replace").splitlines()
    return judged(probe.expect, [[mysql_cell(text) for text in line.split("\t")] for line in lines], more=False)


def mysql_script(query: str, params: Sequence[Scalar | None]) -> str:
    """Return the script for mysql's stdin.

    Query and values are in hexadecimal, so nothing in them can end a literal. PREPARE accepts exactly one statement, and binds
    each `?`.
    """
    lines = [f"SET @p{number} = {_mysql_literal(value)};" for number, value in enumerate(params, 1)]
    lines.append(f"SET @statement = {_mysql_literal(query.strip().rstrip(';'))};")
    lines += ["START TRANSACTION READ ONLY;", "PREPARE drtool_probe FROM @statement;"]
    using = " USING " + ", ".join(f"@p{number}" for number in range(1, len(params) + 1)) if params else ""
    return "\n".join([*lines, f"EXECUTE drtool_probe{using};", "ROLLBACK;", ""])


def _mysql_literal(value: Scalar | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool | int | float):
        return repr(int(value)) if isinstance(value, bool) else repr(value)
    refuse_nul(value)
    return f"CONVERT(X'{value.encode().hex()}' USING utf8mb4)"


def mysql_cell(text: str) -> Cell:
    """Decode a cell as printed by `--batch`: `\\n`, `\\t`, `\\\\`, and NULL."""
    if text == "NULL":
        return None
    return cell(re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "0": "\0"}.get(match[1], match[1]), text))
