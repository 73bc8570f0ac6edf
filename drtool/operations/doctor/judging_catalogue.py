"""Assessment of the facts about the catalogue: its quorum, its voters, its members. Pure."""

from collections.abc import Collection, Iterator, Mapping

from drtool.operations.doctor.facts import CatalogueFacts, Facts, TargetFacts, VoterFacts
from drtool.operations.doctor.findings import Finding

_WHERE = "the catalogue"


def judge_catalogue(facts: Facts) -> Iterator[Finding]:
    """Yield the findings, or nothing if the catalogue was not inspected."""
    seen = facts.catalogue
    if seen is None:
        return
    if seen.refusal is not None:
        kind, message, hint = seen.refusal
        hint = hint or "see the findings about the targets"
        yield Finding(level="error", what=kind.replace("_", "-"), where=_WHERE, message=message, hint=hint)
        return
    yield from _quorum(seen)
    yield from _losses(seen)
    yield from _copies(seen)
    targets = {target.name: target for target in facts.targets}
    for voter in seen.voters:
        yield from _voter(voter, targets.get(voter.target))
    yield from _membership(seen, targets, {name for name, _, _ in facts.beyond})
    if seen.mover is not None:
        message, hint, stuck = seen.mover
        yield Finding(level="warning" if stuck else "note", what="mover", where=_WHERE, message=message, hint=hint)
    for name, message, hint in seen.twins:
        yield Finding(level="error", what="target-twice", where=name, message=message, hint=hint)
    for name, why in seen.unmarked:
        message = f"it is recognised by its contents, but {why}"
        yield Finding(level="error", what="marker", where=name, message=message, hint="drtool repair")
    for problem in seen.problems:
        yield Finding(level="warning", what="catalogue", where=_WHERE, message=problem, hint="drtool repair")


def _quorum(seen: CatalogueFacts) -> Iterator[Finding]:
    if seen.reachable < seen.needed:
        yield Finding(
            level="error",
            what="no-quorum",
            where=_WHERE,
            message=f"it needs {seen.needed} voters, and {seen.reachable} of {len(seen.voters)} can be reached",
            hint="bring the others back, or run `drtool manifest recover` if they are lost for good",
        )
    elif seen.reachable == seen.needed < len(seen.voters):
        yield Finding(
            level="warning",
            what="quorum",
            where=_WHERE,
            message="if one more voter fails, nothing can be written",
            hint="bring back the one that is away, or replace it: drtool site replace",
        )
    else:
        message = f"{seen.reachable} of {len(seen.voters)} voters answer, {seen.needed} are needed"
        yield Finding(level="ok", what="quorum", where=_WHERE, message=message)


def _losses(seen: CatalogueFacts) -> Iterator[Finding]:
    """Yield a finding for each loss that takes the quorum. It is an error only if it takes the catalogue as well."""
    for message, hint, is_left in seen.losses:
        yield Finding(
            level="warning" if is_left else "error",
            what="only-voter" if len(seen.voters) == 1 else "voters-together",
            where=f"site {seen.voters[0].site}" if len(seen.voters) == 1 else _WHERE,
            message=message,
            hint=hint,
        )


def _copies(seen: CatalogueFacts) -> Iterator[Finding]:
    for text in seen.copies_damaged:
        yield Finding(level="warning", what="catalogue-copy", where=_WHERE, message=text, hint="drtool repair")
    for text in seen.copies_behind:
        yield Finding(level="note", what="catalogue-copy", where=_WHERE, message=text)


def _voter(voter: VoterFacts, target: TargetFacts | None) -> Iterator[Finding]:
    if voter.problem is not None and voter.reachable:
        yield Finding(
            level="error",
            what="voter",
            where=f"site {voter.site}",
            message=f"its voter cannot be used: {voter.problem}",
            hint=f"drtool manifest check shows details, and drtool site replace {voter.site} starts a new one",
        )
    elif voter.lag:
        yield Finding(
            level="note",
            what="voter-lags",
            where=f"site {voter.site}",
            message=f"its voter is {voter.lag} changes behind: it was away, and will catch up at the next change",
        )
    if target is not None and target.can_vote is False and not voter.vouched:
        yield Finding(
            level="error",
            what="vote",
            where=voter.target,
            message=f"the catalogue has a voter there, but it should not vote: {target.vote_reason}",
            hint=f"drtool site replace {voter.site}, at a place that may vote, or set `vote: true` to override this",
        )


def _membership(seen: CatalogueFacts, targets: Mapping[str, TargetFacts], beyond: Collection[str]) -> Iterator[Finding]:
    for name in seen.unknown:
        if (found := targets.get(name)) is not None and found.reached and found.repository is not None:
            yield Finding(
                level="warning",
                what="unknown-target",
                where=name,
                message="the configuration names it, but it is not in the catalogue, so nothing is stored there",
                hint="add it (drtool target add), or take it out of the configuration",
            )
    for name in (name for name in seen.unnamed if name not in beyond):
        yield Finding(
            level="note",
            what="unnamed-target",
            where=name,
            message="it belongs to the repository, but this host's configuration does not name it",
            hint="name it under `sites:`, unless only other hosts should use it",
        )
    for name, why in seen.refused:
        target = targets.get(name)
        if target is not None and target.repository == seen.repository and not target.foreign and target.step is None:
            yield Finding(
                level="error",
                what="refused-target",
                where=name,
                message=f"it was reached but is not used: {why}",
                hint="see `drtool target list`, and run drtool repair once it is corrected",
            )
