"""The facts about the catalogue, gathered without a quorum and through a private copy of this host's state.

Invariants
    No register is written, and neither is this host's state or cache. Opening works with a copy of the state in a
    directory of its own, which is removed afterwards. So this also works if the state directory is broken.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.events import ignore
from drtool.manifest.inspect import AcceptorStatus
from drtool.manifest.mirroring import MirrorStatus
from drtool.manifest.records import Voter
from drtool.operations.doctor.facts import CatalogueFacts, VoterFacts
from drtool.operations.doctor.targets import refusal_of
from drtool.repository import Repository, RepositorySpec, TargetSpec, open_repository
from drtool.repository.ending import open_mover
from drtool.repository.exposure import Exposure, exposures, own_targets, voters_of
from drtool.repository.mirrors import faults_of, lags_of, look_at_copies
from drtool.repository.opening import ANY_SITE
from drtool.repository.readiness import medium_mismatch


def gather_catalogue(spec: RepositorySpec, private: Path) -> CatalogueFacts:
    """Open the repository and return its facts, or the refusal if it cannot be opened."""
    state = private / "state"
    with suppress(OSError):  # without a file, less state is remembered (`shutil.Error` is an OSError)
        shutil.copytree(spec.state_dir, state, symlinks=True)
    state.mkdir(mode=0o700, exist_ok=True)
    careful = replace(spec, state_dir=state, cache_dir=private / "cache", manifest_from=(ANY_SITE,), read_only=True)
    try:
        with open_repository(careful, ignore) as repository:
            lifelines = spec.state_dir / repository.lifelines.relative_to(state)
            return _facts(repository, lifelines)
    except (DrtoolError, OSError) as error:
        return CatalogueFacts(refusal=refusal_of(error))


def _facts(repository: Repository, lifelines: Path) -> CatalogueFacts:
    status = repository.manifest.status()
    acceptors = {row.site: row for row in status.acceptors}
    rows, specs = repository.target_rows(), {target.name: target for target in repository.spec.targets}
    copies = look_at_copies(repository)
    failures, mover = repository.targets.failures, open_mover(repository, lifelines)
    return CatalogueFacts(
        repository=repository.id.hex(),
        needed=status.quorum.needed,
        reachable=status.quorum.reachable,
        voters=tuple(
            _voter(repository, acceptors.get(voter.site), voter, vouched=_is_vouched(specs.get(voter.target)))
            for voter in repository.view.config.voters
        ),
        losses=tuple(
            (loss.message, loss.remedy, bool(loss.holders)) for loss in _losses(repository, acceptors.values(), copies)
        ),
        copies_damaged=tuple(faults_of(copies)),
        copies_behind=tuple(lags_of(copies, time.time_ns())),
        unknown=tuple(sorted(specs.keys() - rows.keys())),
        unnamed=tuple(sorted(name for name, row in rows.items() if name not in specs and row.state != "lost")),
        refused=tuple(sorted((name, failures[name]) for name in failures if name in specs)),
        twins=tuple((twin.name, twin.reason, twin.remedy) for twin in repository.twins),
        unmarked=tuple(sorted(repository.targets.unmarked.items())),
        problems=(
            *repository.view.problems,
            *repository.slot_problems(),
        ),
        mover=None if mover is None else (mover.text, mover.hint, mover.stuck),
    )


def _losses(
    repository: Repository, acceptors: Iterable[AcceptorStatus], copies: Iterable[MirrorStatus]
) -> Iterator[Exposure]:
    """Return the losses that would take the quorum, given where the catalogue is now."""
    config, voters = repository.view.config, voters_of(repository.view.config)
    rows = repository.view.state.targets
    storing = [row.name for row in rows if row.state == "active" and not row.votes_only]
    holders = [voters[row.site] for row in acceptors if row.lag is not None and not row.problem and row.site in voters]
    return exposures(
        voters,
        config.quorum,
        storing,
        [*holders, *(row.target for row in copies if row.is_sound)],
        own_targets(repository.targets.specs.values()),
        [name for name in storing if not repository.targets.reachable(name)],
    )


def _is_vouched(spec: TargetSpec | None) -> bool:
    """Return whether the configuration says `vote: true`."""
    return spec is not None and spec.vote == "true"


def _voter(repository: Repository, row: AcceptorStatus | None, voter: Voter, *, vouched: bool) -> VoterFacts:
    problem = row.problem if row else None
    return VoterFacts(
        site=voter.site,
        target=voter.target,
        vouched=vouched,
        reachable=row is not None and row.reachable,
        lag=row.lag if row else None,
        problem=problem or medium_mismatch(repository, voter.site),
    )
