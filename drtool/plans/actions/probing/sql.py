"""Probes by SQL: one query, in a transaction that may only read; parameters are bound, never pasted."""

from threading import Event

from drtool.plans.actions.port import Around
from drtool.plans.actions.probing.mysql import ask_mysql
from drtool.plans.actions.probing.postgresql import ask_postgresql
from drtool.plans.actions.probing.replies import Reply
from drtool.plans.actions.probing.sqlite import ask_sqlite
from drtool.plans.language.probes import SqlProbe


def ask_sql(probe: SqlProbe, around: Around, ends_at: float, cancelled: Event | None) -> Reply:
    """Raises CannotAsk: no client program, or no DSN that could be understood."""
    match probe.engine:
        case "postgresql":
            return ask_postgresql(probe, around, ends_at, cancelled)
        case "mysql":
            return ask_mysql(probe, around, ends_at, cancelled)
        case "sqlite":
            return ask_sqlite(probe, ends_at, cancelled)
