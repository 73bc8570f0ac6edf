"""Directed schedules: histories that dice hardly ever throw, each the end of an argument about what must not happen.

Each runs one history and returns what was violated: nothing by the protocol as it is, something by a broken one.
"""

from collections.abc import Callable
from dataclasses import replace

from sim_crash import crash_one, voters
from sim_options import limits_of
from sim_schedule import PEACE, Stage
from sim_world import Faults

from drtool.manifest.ports import Put, PutIfAbsent

PLOTS: dict[str, Callable[[], list[str]]] = {}


def plot(function: Callable[[], list[str]]) -> Callable[[], list[str]]:
    PLOTS[function.__name__.replace("_", "-")] = function
    return function


def without_two_values(violations: list[str]) -> list[str]:
    """`check` may say that one ballot carries two values: that is so, and harmless."""
    return [violation for violation in violations if "two-values" not in violation]


def dies_after_its_first_promise(stage: Stage, name: str, elsewhere: tuple[str, ...]) -> None:
    """A proposer that only one site ever heard of."""
    stage.host(name)
    hold = stage.hold(name, *elsewhere, kind=PutIfAbsent)
    stage.append(name, name)
    stage.until_waiting(hold, len(elsewhere))
    stage.for_s(0.3)
    stage.clients.pop(name).process.alive = False
    hold.waiting.clear()


@plot
def a_promise_that_a_wiped_site_has_forgotten() -> list[str]:
    """A proposer is slow between two promises; meanwhile the site that gave the first loses everything.

    If that site simply began anew, it would let a lower ballot pass, and what is chosen so would be overwritten.
    """
    with limits_of(PEACE):
        return _forgotten_promise(Stage(PEACE), set_back=False)


@plot
def a_promise_that_a_site_forgot_when_it_was_set_back() -> list[str]:
    """The same with a site that is restored from a backup: a host that notices must not let it vote as if nothing had been."""
    with limits_of(PEACE):
        return _forgotten_promise(Stage(PEACE), set_back=True)


def _forgotten_promise(stage: Stage, *, set_back: bool) -> list[str]:
    forgetful, second, third = stage.world.sites
    site = stage.world.sites[forgetful]
    before = dict(site.objects)
    if set_back:
        stage.until(stage.append("first", "early"))
    for name in ("dead", "dead too"):
        dies_after_its_first_promise(stage, name, (second, third))
    stage.host("slow")
    at_second, at_third = (stage.hold("slow", name, kind=PutIfAbsent) for name in (second, third))
    stage.append("slow", "slow")
    stage.until_waiting(at_second)
    stage.for_s(0.3)  # its promise at the first site is confirmed
    site.objects = before if set_back else {}
    stage.judge.faulty.add(forgetful)
    stage.until(stage.append("first", "first"))
    stage.for_s(1.0)
    at_first = stage.hold("slow", forgetful, kind=PutIfAbsent)
    next_version = 7 if set_back else 5
    accepting = stage.hold("slow", second, kind=PutIfAbsent, name=f"v-{next_version:012d}")
    at_second.release()
    stage.for_s(1.0)
    stage.world.cut["other", second] = stage.world.now + 1000.0
    stage.until(stage.append("other", "other"))
    for hold in (accepting, at_third, at_first):
        hold.release()
        stage.for_s(20.0)
    return stage.conclude()


@plot
def a_promise_that_landed_in_a_hole() -> list[str]:
    """A promise is put long after it was sent, where the version before and the one after were collected meanwhile.

    The site never heard of it: what others got accepted there since is unknown to the proposer, whose ballot is higher.
    """
    options = replace(PEACE, collect_every=1)
    with limits_of(options):
        stage = Stage(options)
        holed, second, third = stage.world.sites
        for name in ("dead", "dead too", "dead as well"):
            dies_after_its_first_promise(stage, name, (holed, second))
        stage.host("slow")
        at_first, at_second = (stage.hold("slow", site, kind=PutIfAbsent) for site in (holed, second))
        stage.append("slow", "slow")
        stage.until_waiting(at_first)
        stage.for_s(0.3)  # its promise at the third site is confirmed
        stage.world.cut["quick", third] = stage.world.now + 1000.0
        for mark in ("one", "two"):
            stage.until(stage.append("quick", mark))
            stage.for_s(20.0)
        at_first.release()
        stage.for_s(20.0)
        at_second.release()
        stage.for_s(20.0)
        return stage.conclude()


@plot
def a_switch_that_dies_when_the_old_registers_are_sealed() -> list[str]:
    """A change of voters dies at any of its steps; whoever comes next must find one configuration that stands."""
    options = replace(PEACE, spares=1)
    for step in range(1, 1000):
        crash = crash_one(replace(options, seed=step), voters("site0", "site1", "site3"), step, lands=True)
        if crash.violations:
            return [f"dead at step {step}: {violation}" for violation in crash.violations]
        if not crash.died:
            break
    return []


@plot
def a_late_finisher_and_a_register_that_was_lost() -> list[str]:
    """A switch began at two of three voters; one of them loses everything, and somebody who was stuck finishes the switch.

    If he began what is missing, two empty registers would outvote the one that remembers.
    """
    options = replace(PEACE, spares=1)
    with limits_of(options):
        stage = Stage(options)
        first, second, _, fourth = stage.world.sites
        begins = stage.hold("admin", kind=PutIfAbsent, name="c000002/v-")
        stage.set_voters("admin", first, second, fourth)
        stage.until_waiting(begins, 3)
        stuck = stage.hold("late", prefix="c000002/")
        late = stage.read("late")
        stage.until_waiting(stuck, 3)
        stage.world.sites[fourth].gone = True
        begins.release()
        stage.for_s(20.0)
        stage.until(stage.append("admin", "acknowledged"))
        stage.world.sites[second].objects.clear()
        stage.world.sites[fourth].gone = False
        stuck.release()
        stage.for_s(60.0)
        known = late.answer is None or "acknowledged" in late.answer[0]
        return [] if known else [f"a reader was shown {late.answer}"]


@plot
def a_commit_between_the_look_and_the_seal_of_a_recovery() -> list[str]:
    """An administrator who does not reach the majority recovers from one site, and the majority is alive.

    What is acknowledged at that site until the moment of its seal must not be given up.
    """
    with limits_of(PEACE):
        stage = Stage(PEACE)
        survivor, *rest = stage.world.sites
        stage.world.cut |= {("admin", site): stage.world.now + 1000.0 for site in rest}
        seal = stage.hold("admin", survivor, kind=PutIfAbsent, name="z-sealed")
        outcome = stage.recover("admin", survivor)
        stage.until_waiting(seal)
        stage.until(stage.append("host", "between"))
        stage.for_s(5.0)
        seal.release()
        stage.for_s(60.0)
        view, error = outcome
        marks = [row.source for row in view.state.snapshots] if view else [repr(error)]
        return [] if marks == ["between"] else [f"recovered {marks}"]


@plot
def a_rotation_while_a_commit_folds() -> list[str]:
    """A host stores the pages of a head that it builds on the catalogue of before a rotation; meanwhile the rotation is done.

    The site that the rotation did not reach has only the old slot, and that head's own table asks for no other.
    """
    options = replace(PEACE, profile="rotated", recent_limit=5)
    with limits_of(options):
        stage = Stage(options)
        stage.world.faults = Faults()
        away = list(stage.world.sites)[2]
        for number in range(2):
            stage.until(stage.append("slow", f"before {number}"))
        pages = stage.hold("slow", kind=Put, name="manifest/obj/")
        stage.append("slow", "late")
        stage.until_waiting(pages)
        rotated = stage.rotate("keeper", away)
        stage.for_s(60.0)
        assert rotated, "the rotation is not done"
        pages.release()
        stage.for_s(60.0)
        return stage.conclude()


@plot
def a_page_that_one_site_never_got() -> list[str]:
    """A put of a page is lost on its way to one site; later that site is the only one that is left."""
    options = replace(PEACE, recent_limit=5)
    with limits_of(options):
        stage = Stage(options)
        *lost, left = stage.world.sites
        page = stage.hold("host", left, kind=Put, name="manifest/obj/")
        marks = ["one", "two", "folds"]
        for mark in marks:
            folding = stage.append("host", mark)
            stage.world.run(lambda operation=folding: bool(operation.answer or page.waiting))
        assert page.waiting, "nothing is folded"
        page.forget()
        stage.until(folding)
        stage.for_s(20.0)
        return _recovered_alone(stage, lost, left, set(marks))


@plot
def a_compaction_while_one_site_keeps_an_older_head() -> list[str]:
    """A site misses some folds, and the head of the compaction as well; later it is the only one that is left.

    The pages of its own head are garbage to the compaction.
    """
    options = replace(PEACE, recent_limit=5, retired_changes=2)
    with limits_of(options):
        stage = Stage(options)
        *lost, left = stage.world.sites
        early = [f"early {number}" for number in range(4)]
        late = [f"late {number}" for number in range(4)]
        for mark in early:
            stage.until(stage.append("host", mark))
        stage.for_s(20.0)
        stage.world.cut["host", left] = stage.world.now + 1000.0
        for mark in late:
            stage.until(stage.append("host", mark))
        stage.hold("keeper", left, kind=PutIfAbsent)
        stage.compact("keeper")
        stage.for_s(60.0)
        return _recovered_alone(stage, lost, left, set(early))


def _recovered_alone(stage: Stage, lost: list[str], left: str, acknowledged: set[str]) -> list[str]:
    stage.lose(*lost)
    outcome = stage.recover("admin", left)
    stage.for_s(200.0)
    view, error = outcome
    if view is None:
        return [f"nothing can be recovered from the site that is left: {error!r}"]
    marks = {row.source for row in view.state.snapshots}
    return [] if acknowledged <= marks else [f"{sorted(acknowledged - marks)} were lost"]


@plot
def a_voter_that_never_began_and_one_that_denies_to_have() -> list[str]:
    """A change of voters began at a quorum, by the word of a site that drops its register afterwards.

    The configuration bears one such site, so those that never began must not keep the others from a quorum.
    """
    options = replace(PEACE, site_count=4, spares=1, liars=1)
    with limits_of(options):
        stage = Stage(options)
        first, second, third, _, fifth = stage.world.sites
        never = stage.hold("admin", third, kind=PutIfAbsent, name="c000002/v-")
        stage.set_voters("admin", first, second, third, fifth)
        stage.until_waiting(never)
        never.forget()
        stage.for_s(60.0)
        dies_after_its_first_promise(stage, "dead", (second, third, fifth))
        stage.judge.faulty.add(fifth)
        stage.world.sites[fifth].objects.clear()
        reading = stage.read("reader")
        stage.for_s(60.0)
        return [] if reading.answer else ["a configuration that bears one liar has no quorum left"]


@plot
def a_compaction_by_a_host_that_a_recovery_gave_less() -> list[str]:
    """A host whose backup was given up compacts first and reads then: what was given up must be said to whoever reads."""
    options = replace(PEACE, profile="recovery")
    with limits_of(options):
        stage = Stage(options)
        stage.world.faults = Faults()
        *lost, left = stage.world.sites
        stage.until(stage.append("host", "kept"))
        stage.world.cut["host", left] = stage.world.now + 1000.0
        stage.until(stage.append("host", "given up"))
        stage.for_s(20.0)
        stage.world.cut.clear()
        stage.lose(*lost)
        stage.recover("admin", left)
        stage.for_s(60.0)
        stage.compact("host")
        stage.for_s(60.0)
        stage.until(stage.read("host"))
        return stage.run.violations


@plot
def a_compaction_that_is_tried_again_while_another_host_folds() -> list[str]:
    """The first try was chosen, and its host did not hear of it. Then another host stores the pages of a fold.

    The second try must not take the first one's change for a proof that nobody needs these pages.
    """
    options = replace(PEACE, recent_limit=8)
    with limits_of(options):
        stage = Stage(options)
        stage.until(stage.append("host", "one"))
        stage.for_s(20.0)
        first_try = stage.hold("keeper", kind=PutIfAbsent, name="v-000000000005")
        stage.compact("keeper")
        stage.until_waiting(first_try, 3)
        stage.clients["keeper"].process.alive = False
        first_try.release()
        stage.until(stage.append("host", "two"))
        stage.for_s(20.0)
        folding = stage.hold("other", kind=PutIfAbsent, name="v-000000000009")
        stage.append("other", "three")
        stage.until_waiting(folding, 3)
        stage.compact("keeper")
        stage.for_s(60.0)
        folding.release()
        stage.for_s(60.0)
        return stage.conclude()


@plot
def two_lives_of_one_machine_with_one_ballot() -> list[str]:
    """A machine is frozen with its promises in hand. Each of its two lives proposes something else under their ballot."""
    with limits_of(PEACE):
        stage = Stage(PEACE)
        third = list(stage.world.sites)[2]
        first, second = stage.frozen("vm", "one", "two")
        late = stage.hold("vm'", kind=PutIfAbsent)
        lost = stage.hold("vm", third, kind=PutIfAbsent)
        stage.until(first)
        lost.forget()
        late.release()
        stage.until(second)
        return without_two_values(stage.conclude())


@plot
def a_change_that_others_finished_in_another_past() -> list[str]:
    """A host's first change reached one site, its second one was acknowledged at the two others, and one of them is set back.

    Another host finishes the first change without the second. The host finds its change made, and must not forget the other.
    """
    options = replace(PEACE, profile="rolled-back")
    with limits_of(options):
        stage = Stage(options)
        stage.world.faults = Faults()
        restored, second, third = stage.world.sites
        copy = dict(stage.world.sites[restored].objects)
        proposed = stage.hold("host", restored, second, kind=PutIfAbsent, name="v-000000000003")
        stage.append("host", "first")
        stage.until_waiting(proposed, 2)
        stage.for_s(1.0)
        stage.clients["host"].process.alive = False
        proposed.forget()
        stage.world.cut["host", third] = stage.world.now + 1000.0
        stage.host("host")
        stage.until(stage.append("host", "acknowledged"))
        stage.for_s(20.0)
        stage.world.sites[restored].objects = copy
        stage.judge.faulty.add(restored)
        stage.world.cut = {("host", second): stage.world.now + 1000.0, ("other", second): stage.world.now + 1000.0}
        for mark in ("other", "another"):
            stage.until(stage.append("other", mark))
        stage.for_s(20.0)
        stage.restart("host")
        stage.for_s(20.0)
        stage.until(stage.read("host"))
        return stage.run.violations
