"""The action for each `uses`, imported on first use."""

from collections.abc import Iterator, Mapping
from importlib import import_module

from drtool.plans.actions.port import Action

MODULES: dict[str, tuple[str, str]] = {
    "backup": ("backing_up", "BackupAction"),
    "restore": ("restoring", "RestoreAction"),
    "verify": ("verifying", "VerifyAction"),
    "repair": ("repairing", "RepairAction"),
    "rebalance": ("rebalancing", "RebalanceAction"),
    "fault": ("faulting", "FaultAction"),
    "run": ("programs_run", "RunAction"),
    "probe": ("probing", "ProbeAction"),
    "compare": ("comparing", "CompareAction"),
    "approve": ("approving", "ApproveAction"),
    "notify": ("notifying", "NotifyAction"),
    "wait": ("waiting", "WaitAction"),
    "assert": ("asserting", "AssertAction"),
    "plan": ("nesting", "PlanAction"),
}


class Actions(Mapping[str, Action]):
    """Actions by `uses`. Each is created once."""

    def __init__(self) -> None:
        self._made: dict[str, Action] = {}

    def __getitem__(self, uses: str) -> Action:
        if uses not in self._made:
            module, name = MODULES[uses]
            self._made[uses] = getattr(import_module(f"drtool.plans.actions.{module}"), name)()
        return self._made[uses]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)
