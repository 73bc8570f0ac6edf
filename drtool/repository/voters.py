"""The choice of voters: sites whose storage can hold a register, or is vouched for by a person, and through which
target.

Invariants
    A register is on its site's first suitable target by name. A target that only votes precedes the others of its site.
    More than seven voters would make commits slower without adding safety. Of more suitable sites five vote, arbiters
    included.
"""

from collections.abc import Iterable, Mapping

from drtool.errors import UsageError
from drtool.model import SiteName, TargetName
from drtool.repository.spec import TargetSpec
from drtool.stores import VoteVerdict

VOTERS_MAX = 7
VOTERS_OF_MANY = 5


def why_no_vote(target: TargetSpec, verdict: VoteVerdict) -> str | None:
    """Return why this target cannot hold a register, or None if it can."""
    if target.vote == "false":
        return "`vote: false` in the configuration"
    return None if target.vote == "true" or verdict.can_vote else verdict.reason


def choose_voters(
    targets: Iterable[TargetSpec], verdicts: Mapping[TargetName, VoteVerdict]
) -> dict[SiteName, TargetName]:
    """Return the voting sites with the targets of their registers. `UsageError` if none, or an arbiter, is suitable."""
    able: dict[SiteName, TargetSpec] = {}
    refused: dict[TargetName, str] = {}
    for target in sorted(targets, key=lambda target: (target.vote != "only", target.name)):
        reason = why_no_vote(target, verdicts[target.name])
        if reason is not None and target.vote == "only":
            raise UsageError(
                f"{target.name} should vote but cannot: {reason}", hint="choose another place for the arbiter"
            )
        if reason is None:
            able.setdefault(target.site, target)
        else:
            refused[target.name] = reason
    if not able:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(refused.items()))
        raise UsageError(
            f"no site can hold the manifest ({reasons})",
            hint="use a directory on a local file system, or name one as an arbiter: init --arbiter URL",
        )
    chosen = sorted(able.values(), key=lambda target: (target.vote != "only", target.name))
    if len(chosen) > VOTERS_MAX:
        chosen = chosen[:VOTERS_OF_MANY]
    return {target.site: target.name for target in sorted(chosen, key=lambda target: target.site)}


def losses_tolerated(voters: int) -> int:
    """Return how many voters may be lost while a majority is left."""
    return (voters - 1) // 2


def even_number(voters: int) -> str | None:
    """Return the advice on an even number of voters, or None for an odd one."""
    if voters % 2:
        return None
    stopping = losses_tolerated(voters) + 1
    return (
        f"{voters} sites vote, and the loss of {'any one' if stopping == 1 else stopping} of them stops all writing. "
        "An arbiter, which only votes and needs little space, helps: drtool site add NAME --arbiter URL"
    )
