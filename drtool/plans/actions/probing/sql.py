"""SQL probes: one query in a read-only transaction. Parameters are bound, never pasted."""

from threading import Event

from drtool.plans.actions.port import RunContext
from drtool.plans.actions.probing.mysql import ask_mysql
from drtool.plans.actions.probing.postgresql import ask_postgresql
from drtool.plans.actions.probing.replies import Reply
from drtool.plans.actions.probing.sqlite import ask_sqlite
from drtool.plans.language.probes import SqlProbe


def ask_sql(probe: SqlProbe, run_context: RunContext, ends_at: float, cancelled: Event | None) -> Reply:
    """Ask a database. Raises CannotAsk without a client program or a valid DSN."""
    match probe.engine:
        case "postgresql":
            return ask_postgresql(probe, run_context, ends_at, cancelled)
        case "mysql":
            return ask_mysql(probe, run_context, ends_at, cancelled)
        case "sqlite":
            return ask_sqlite(probe, ends_at, cancelled)
