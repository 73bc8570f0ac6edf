"""Short histories, told as transcripts: every request at every site, 20 ms away, in virtual time. See `sim_transcript`."""

from collections.abc import Callable
from dataclasses import replace

from sim_options import limits_of
from sim_schedule import PEACE, Stage
from sim_transcript import Transcript
from sim_world import Faults

from drtool.errors import NoQuorum

STILL = Faults(fastest_s=0.02, slowest_s=0.02)

STORIES: dict[str, Callable[[], str]] = {}


def story(function: Callable[[Stage, Transcript], None]) -> Callable[[Stage, Transcript], None]:
    """Register a story; its docstring is its title."""

    def told() -> str:
        options = replace(PEACE, spares=1)
        with limits_of(options):
            stage = Stage(options)
            stage.world.faults = STILL
            transcript = Transcript(stage)
            transcript.say(*(line.strip() for line in (function.__doc__ or "").strip().splitlines()))
            function(stage, transcript)
            return transcript.text()

    STORIES[function.__name__] = told
    return function


@story
def quiet_commit(stage: Stage, transcript: Transcript) -> None:
    """A quiet commit: survey, promise, confirm, accept, confirm.

    The second one knows what it wrote last: nothing is read that it has seen already.
    """
    for mark in ("one", "two"):
        transcript.say("", f"$ drtool backup {mark}")
        operation = stage.append("host", mark)
        stage.until(operation)
        transcript.say(f"chosen: {' '.join(operation.answer)}")


@story
def read_after_write(stage: Stage, transcript: Transcript) -> None:
    """A read after somebody else's write: a quorum reports one accepted ballot, so nothing is written."""
    stage.until(stage.append("writer", "one"))
    transcript.forget()
    transcript.say("", "$ drtool snapshots")
    operation = stage.read("reader")
    stage.until(operation)
    transcript.say(f"shown: {' '.join(operation.answer[0])}")


@story
def two_at_once(stage: Stage, transcript: Transcript) -> None:
    """Two hosts commit at the same moment: the lower ballot is preempted, tries again, and builds on what was chosen."""
    transcript.say("", "$ drtool backup left    # and, on another host, at the same moment: drtool backup right")
    left, right = stage.append("left", "left"), stage.append("right", "right")
    stage.until(left)
    stage.until(right)
    transcript.say(f"left was told: {' '.join(left.answer)}", f"right was told: {' '.join(right.answer)}")


@story
def killed_before_it_could_confirm(stage: Stage, transcript: Transcript) -> None:
    """A host is killed when its acceptances lie at all sites and before it has looked whether they count.

    Its next run finds the change in its journal, and then in the manifest: it is made once.
    """
    transcript.say("", "$ drtool backup one    # killed")
    victim = stage.host("host")
    accepting = stage.hold("host", name="v-000000000003")
    stage.append("host", "one")
    stage.until_waiting(accepting, 3)
    victim.process.alive = False
    accepting.release()
    stage.for_s(1.0)
    transcript.say("", "$ drtool backup two    # settles first what the last run left")
    again = stage.host("host")
    assert stage.world.settle(again.process, again.manifest.settling()) == 1
    transcript.say("settled: one")


@story
def wiped_site(stage: Stage, transcript: Transcript) -> None:
    """A site loses everything. It counts for nothing; after the next commit it begins a new life in a new configuration."""
    first, *_ = stage.world.sites
    stage.until(stage.append("host", "one"))
    stage.world.sites[first].objects.clear()
    transcript.forget()
    transcript.say("", f"$ drtool backup two    # {first} is empty")
    operation = stage.append("host", "two")
    stage.until(operation)
    transcript.say(f"chosen: {' '.join(operation.answer)}")


@story
def sealed_configuration(stage: Stage, transcript: Transcript) -> None:
    """A host that was away while the voters changed: the old registers are sealed, and a seal says where to go on."""
    first, second, _, fourth = stage.world.sites
    stage.until(stage.read("away"))
    stage.set_voters("admin", first, second, fourth)
    stage.for_s(20.0)
    transcript.forget()
    transcript.say("", "$ drtool snapshots")
    operation = stage.read("away")
    stage.until(operation)
    transcript.say("shown: no snapshots, in configuration 2")


@story
def two_of_three_away(stage: Stage, transcript: Transcript) -> None:
    """Two of three sites are away, and say so at once: a commit gives up without a single write."""
    _, second, third, _ = stage.world.sites
    transcript.forget()
    for site in (second, third):
        stage.world.sites[site].gone = True
    transcript.say("", "$ drtool backup one")
    errors: list[BaseException | None] = []
    host = stage.host("host")
    batch = stage.batch("host", "one")
    stage.world.start(host.process, host.manifest.committing(batch), lambda _value, error: errors.append(error))
    stage.for_s(5.0)
    assert isinstance(errors[0], NoQuorum)
    transcript.say(errors[0].message)
