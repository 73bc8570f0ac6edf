"""A step together with its position in the plan, for the functions that check plans."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.config.yaml import Parsed, Path
from drtool.plans.language.model import Step

Role: TypeAlias = Literal["precondition", "step", "always", "steady state", "confirm", "compensate"]
Complaint: TypeAlias = tuple[Parsed, Path, str]


_ROLE_NAMES: dict[Role, str] = {
    "precondition": "a precondition",
    "step": "a step",
    "always": "a step in `always`",
    "steady state": "a probe of the steady state",
    "confirm": "a `confirm` step",
    "compensate": "a `compensate` step",
}


class Placed(Struct, frozen=True):
    step: Step
    role: Role
    parsed: Parsed
    path: Path
    owner: Step | None = None
    """The step that this `confirm` or `compensate` step belongs to."""

    def wrong(self, message: str, *below: str | int) -> Complaint:
        return self.parsed, (*self.path, *below), message

    @property
    def told(self) -> str:
        """The step's role, as shown in messages."""
        return _ROLE_NAMES[self.role]

    @property
    def graph_step(self) -> Step:
        """The step whose position in the graph applies: the owner's, if there is one."""
        return self.owner or self.step


Complaints: TypeAlias = Iterator[Complaint]
