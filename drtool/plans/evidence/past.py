"""A run of this host, as read from its journal. PURE."""

from typing import Any

from msgspec import Struct


class PastRun(Struct, frozen=True, kw_only=True):
    """One run of this host. `verdict` is empty while it is unfinished. `problem` is why its journal is not trusted."""

    run_id: str
    plan: str = ""
    title: str = ""
    began: str = ""
    seconds: float = 0.0
    verdict: str = ""
    exit_code: int | None = None
    reason: str = ""
    at_work: bool = False
    digest: str = ""
    problem: str = ""
    objectives: dict[str, dict[str, Any]] = {}
    step_seconds: dict[str, float] = {}
    """The seconds of each step that succeeded, all its attempts together."""
