"""A step together with where it stands, for those who look for what is wrong with it."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.config.yaml import Parsed, Path
from drtool.plans.language.model import Step

Role: TypeAlias = Literal["precondition", "step", "always", "steady state", "confirm", "compensate"]
Complaint: TypeAlias = tuple[Parsed, Path, str]


_TOLD: dict[Role, str] = {
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
    """The step whose `confirm` or `compensate` this is."""

    def wrong(self, message: str, *below: str | int) -> Complaint:
        return self.parsed, (*self.path, *below), message

    @property
    def told(self) -> str:
        """What it is, in a sentence."""
        return _TOLD[self.role]

    @property
    def graph_step(self) -> Step:
        """Whose place in the graph it has."""
        return self.owner or self.step


Complaints: TypeAlias = Iterator[Complaint]
