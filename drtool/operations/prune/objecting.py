"""Objections to a prune: other hosts' forgotten snapshots would remove so much that a person should look first."""

from drtool.errors import Refused
from drtool.model import counted
from drtool.operations.forget.request import Objection
from drtool.operations.prune.plan import PrunePlan
from drtool.operations.prune.request import PruneRequest
from drtool.operations.prune.survey import Survey
from drtool.repository.forgotten import others

LARGE_SHARE = 1 / 3


def objections(seen: Survey, decided: PrunePlan, request: PruneRequest) -> list[Objection]:
    """Return an objection if other hosts' forgotten snapshots would remove more than a third of everything, unless
    `yes`.
    """
    forgotten = others(seen.grace.due(seen.view.state.forgotten), seen.grace.mine)
    going_bytes = sum(use.size_bytes for use in decided.remove)
    total_bytes = sum(use.size_bytes for use in seen.uses)
    if request.yes or not forgotten or going_bytes <= LARGE_SHARE * total_bytes:
        return []
    hosts = ", ".join(sorted({row.host for row in forgotten}))
    return [
        Objection(
            message=f"{going_bytes} of {total_bytes} bytes would go, because {hosts} forgot "
            f"{counted(len(forgotten), 'snapshot')}",
            hint="check `drtool forget --dry-run` and `drtool manifest log` there, then `drtool prune --yes` if that is right",
        )
    ]


def demand_nothing_objects(seen: Survey, decided: PrunePlan, request: PruneRequest) -> None:
    """Raise `Refused` for the first objection."""
    for objection in objections(seen, decided, request):
        raise Refused(objection.message, hint=objection.hint)
