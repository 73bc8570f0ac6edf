"""Decisions of a run: order, failures, retries, faults, undo, always. A run killed at any point ends the same way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import Killed, Simulated
from thoroughness import sample

from drtool.plans.journal.events import Began, Ended, Injected
from drtool.plans.running.deciding import will_pass
from drtool.plans.running.tasks import Edge, Graph, Retries, Task, task_id
from drtool.plans.running.verdict import conclude


def task(name, *needs, **more):
    edges = tuple(Edge(*need.split(":")) if ":" in need else Edge(need) for need in needs)
    return Task(id=name, needs=edges, **more)


def graph(*tasks, **more):
    return Graph(tasks=tasks, **more)


def ran(graph, **more):
    return Simulated(graph, **more).run()


def test_each_task_waits_for_its_needs():
    done = ran(graph(task("c", "a", "b"), task("a"), task("b", "a"))).done
    assert done == ["a", "b", "c"]


def test_tasks_run_in_parallel_up_to_the_limit():
    run = Simulated(graph(*(task(f"t{n}") for n in range(9)), max_parallel=3))
    most = 0
    plain = run.write

    def write(event):
        nonlocal most
        plain(event)
        most = max(most, len(run.state.running))

    run.write = write
    run.run()
    assert most == 3


def test_a_failure_blocks_those_that_need_it_and_stops_the_others():
    found = ran(
        graph(task("a"), task("b", "a"), task("c"), task("d", "c"), task("z", phase="always")), outcomes={"a": "failed"}
    )
    assert found.statuses() == {"a": "failed", "b": "blocked", "c": "passed", "d": "blocked", "z": "passed"}
    assert "a, which failed" in found.state.ended["b"].detail
    assert "a failed, and that ends the plan" in found.state.ended["d"].detail
    assert not will_pass(found.graph, found.state)


def test_continue_goes_on_with_the_others_and_still_does_not_pass():
    found = ran(
        graph(
            task("a", on_failure="continue"),
            task("b", "a"),
            task("c", "a", conditional=True, handles=True),
            task("d"),
            task("e", "d"),
        ),
        outcomes={"a": "failed"},
    )
    assert found.statuses() == {"a": "failed", "b": "blocked", "c": "passed", "d": "passed", "e": "passed"}
    assert not will_pass(found.graph, found.state)


def test_tolerated_counts_as_good():
    found = ran(graph(task("a", on_failure="tolerate"), task("b", "a")), outcomes={"a": "failed"})
    assert found.statuses() == {"a": "tolerated", "b": "passed"}
    assert will_pass(found.graph, found.state)


def test_an_optional_task_may_fail_or_be_unproven():
    for status in ("failed", "unproven"):
        found = ran(graph(task("a", optional=True), task("b", "a")), outcomes={"a": status})
        assert found.statuses() == {"a": status, "b": "passed"}
        assert will_pass(found.graph, found.state)


def test_a_condition_that_does_not_hold_skips_it_and_those_that_need_it():
    found = ran(
        graph(task("a", conditional=True), task("b", "a"), task("c", "b", conditional=True, handles=True)),
        conditions={"a": False, "c": lambda state: state.status("b") == "passed"},
    )
    assert found.statuses() == {"a": "skipped", "b": "skipped", "c": "skipped"}
    assert found.done == []


def test_a_condition_that_cannot_be_evaluated_fails():
    found = ran(graph(task("a", conditional=True)), conditions={"a": "vars.x is no number"})
    assert found.statuses() == {"a": "failed"}


def test_tried_again_after_growing_pauses():
    retries = Retries(attempts=3, backoff_s=10, factor=3)
    found = ran(graph(task("a", retries=retries), task("b", "a")), outcomes={"a": ["failed", "failed", "passed"]})
    assert found.statuses() == {"a": "passed", "b": "passed"}
    assert [event.retry_at_s for event in found.events if isinstance(event, Ended) and event.key == "a"] == [
        11,
        42,
        None,
    ]
    found = ran(graph(task("a", retries=retries)), outcomes={"a": "failed"})
    assert len(found.done) == 3
    found = ran(graph(task("a", retries=Retries(attempts=3, only=("timeout",)))), outcomes={"a": "failed"})
    assert len(found.done) == 1


def test_one_failing_item_fails_the_task_and_all_are_visible():
    each = task("a", each=True, max_parallel=2)
    found = ran(graph(each, task("b", "a")), items={"a": "xyz"})
    assert found.statuses() == {"a": "passed", "b": "passed"}
    found = ran(graph(each, task("b", "a")), items={"a": "xyzuvw"}, outcomes={"a[1]": "failed"})
    assert found.statuses() == {"a": "failed", "b": "blocked"}
    assert found.state.status("a[5]") == "aborted"
    found = ran(graph(each), items={"a": ""})
    assert found.statuses() == {"a": "skipped"}


def test_a_fault_is_held_until_those_that_wait_for_it_have_ended():
    found = ran(graph(task("f", holds=True), task("a", "f:injected"), task("b", "f:injected", "a"), task("c", "f")))
    lines = [(type(event).__name__, event.key) for event in found.events]
    assert lines.index(("Injected", "f")) < lines.index(("Began", "a"))
    assert lines.index(("Ended", "b")) < lines.index(("Ended", "f")) < lines.index(("Began", "c"))


def test_a_fault_without_dependents_lasts_its_time_unless_the_plan_fails():
    found = ran(graph(task("f", holds=True), task("a", "f")))
    assert found.statuses() == {"f": "passed", "a": "passed"}
    found = ran(graph(task("f", holds=True), task("a")), outcomes={"a": "failed"})
    assert found.statuses()["f"] == "passed"


def test_a_fault_that_was_refused_blocks_those_that_wait_for_it():
    found = ran(graph(task("f", holds=True), task("a", "f:injected")), outcomes={"f": "failed"})
    assert found.statuses() == {"f": "failed", "a": "blocked"}


def test_undo_runs_in_reverse_and_only_where_the_run_does_not_pass():
    tasks = graph(
        task("a", undo=True),
        task("b", "a", undo=True),
        task("c", "b"),
        task("n", "c", undo=True),
        task("z", phase="always"),
    )
    assert "undo:a" not in ran(tasks).done
    found = ran(tasks, outcomes={"c": "failed"})
    assert found.done == ["a", "b", "c", "undo:b", "undo:a", "z"]
    found = ran(tasks, outcomes={"c": "failed", "undo:b": "failed"})
    assert found.done == ["a", "b", "c", "undo:b", "undo:a", "z"], "one undo that fails does not stop the next"
    found = ran(tasks, outcomes={"b": "failed"})
    assert "undo:b" in found.done, "armed before it began, because it may have done half of its work"


def test_several_undo_steps_are_pieces_of_work_of_their_own():
    tasks = graph(task("a", undo=2), task("b", "a", each=True, undo=2), task("c", "b"))
    found = ran(tasks, outcomes={"c": "failed", "undo:b[1]": "failed"}, items={"b": "xy"})
    undone = ["undo:b[1]", "undo:b[1].2", "undo:b[0]", "undo:b[0].2", "undo:a", "undo:a.2"]
    assert [key for key in found.done if key.startswith("undo:")] == undone
    assert [task_id(key) for key in undone] == ["b", "b", "b", "b", "a", "a"]


def test_always_runs_after_any_outcome():
    tasks = graph(
        task("p", phase="preconditions"), task("a"), task("y", phase="always"), task("z", "y", phase="always")
    )
    found = ran(tasks, outcomes={"p": "failed"})
    assert found.statuses() == {"p": "failed", "a": "blocked", "y": "passed", "z": "passed"}
    found = ran(tasks, outcomes={"p": "unproven"})
    assert found.statuses()["a"] == "blocked", "an unproven precondition blocks the step"
    assert conclude(tasks, found.state).verdict == "unproven", "and nothing has failed"
    assert conclude(tasks, ran(tasks, outcomes={"p": "failed"}).state).verdict == "failed"
    two = graph(task("p", phase="preconditions"), task("q", phase="preconditions"), task("a"))
    assert conclude(two, ran(two, outcomes={"p": "unproven", "q": "failed"}).state).verdict == "failed"
    found = ran(tasks, outcomes={"y": "failed"})
    assert found.statuses()["z"] == "passed"
    found = Simulated(tasks, cancel_after=2).run()
    assert found.statuses()["a"] == "aborted"
    assert (found.statuses()["y"], found.statuses()["z"]) == ("passed", "passed")


@pytest.mark.parametrize(
    ("policy", "outcomes", "expected"),
    [
        ("retry", {}, "passed"),
        ("skip", {}, "unproven"),
        ("confirm", {}, "passed"),
        ("confirm", {"confirm:a": "failed"}, "passed"),
    ],
)
def test_work_that_was_running_when_the_process_died(policy, outcomes, expected):
    run = Simulated(graph(task("a", on_resume=policy), task("b", "a")), outcomes=outcomes, kill_after=1)
    with pytest.raises(Killed):
        run.run()
    run.resume()
    run.run()
    assert run.statuses() == {"a": expected, "b": "passed"}
    again = run.done.count("a")
    assert again == (0 if policy == "skip" or (policy == "confirm" and not outcomes) else 1)


def test_a_fault_is_injected_again_after_its_holder_died():
    tasks = graph(task("f", holds=True), task("a", "f:injected"))
    run = Simulated(tasks, kill_after=3)
    with pytest.raises(Killed):
        run.run()
    assert isinstance(run.events[1], Injected)
    assert isinstance(run.events[2], Began)
    run.resume()
    assert "f" not in run.state.injected
    run.run()
    assert run.statuses() == {"f": "passed", "a": "passed"}
    assert run.done.count("f") == 2


@st.composite
def graphs(draw):
    """Draw any acyclic plan of up to eight steps, with an outcome for each."""
    count = draw(st.integers(1, 8))
    tasks, outcomes = [], {}
    for number in range(count):
        needs = draw(st.lists(st.integers(0, number - 1), unique=True, max_size=3)) if number else []
        edges = []
        for other in needs:
            kinds = ["ended", "started"] + (["injected"] if tasks[other].holds else [])
            edges.append(Edge(f"t{other}", draw(st.sampled_from(kinds))))
        holds = draw(st.booleans()) and draw(st.booleans())
        tasks.append(
            Task(
                id=f"t{number}",
                needs=tuple(edges),
                phase="steps",
                handles=draw(st.booleans()),
                on_failure=draw(st.sampled_from(["fail", "fail", "continue", "tolerate"])),
                optional=draw(st.booleans()) and draw(st.booleans()),
                retries=Retries(attempts=draw(st.integers(1, 3)), backoff_s=draw(st.sampled_from([0.0, 5.0]))),
                undo=draw(st.booleans()),
                holds=holds,
                each=draw(st.booleans()) and not holds,
                max_parallel=draw(st.integers(1, 3)),
                on_resume=draw(st.sampled_from(["retry", "retry", "confirm", "skip"])) if not holds else "retry",
            )
        )
        outcomes[f"t{number}"] = draw(
            st.sampled_from(["passed", "passed", "passed", "failed", "unproven", ["failed", "passed"]])
        )
    tasks += [Task(id=f"z{number}", phase="always") for number in range(draw(st.integers(0, 2)))]
    return Graph(tasks=tuple(tasks), max_parallel=draw(st.integers(1, 4))), outcomes


def check_order(run):
    """Check that no line comes before those it depends on."""
    began, ended, injected = set(), set(), set()
    for event in run.events:
        match event:
            case Began(key=key):
                if ":" not in key:
                    for edge in run.graph.task(key).needs:
                        known = {
                            "ended": ended,
                            "started": began | ended | set(run.state.items),
                            "injected": injected | ended,
                        }[edge.until]
                        assert edge.task in known or any(one.startswith(edge.task + "[") for one in known)
                began |= {key, key.partition("[")[0]}
            case Ended(key=key, retry_at_s=None):
                assert key not in ended, "it ended twice"
                ended.add(key)
            case Injected(key=key):
                injected.add(key)
    assert not run.state.running
    assert all(run.statuses().values())
    assert all(run.statuses()[one.id] == "passed" for one in run.graph.of("always"))


@settings(max_examples=sample(150))
@given(graphs())
def test_any_plan_ends_in_order(made):
    tasks, outcomes = made
    run = Simulated(tasks, outcomes=outcomes, items={one.id: "xyz" for one in tasks.tasks}).run()
    check_order(run)


@settings(max_examples=sample(25))
@given(graphs(), st.booleans())
def test_killed_after_any_line_a_plan_that_is_resumed_ends(made, twice):
    tasks, outcomes = made
    items = {one.id: "xy" for one in tasks.tasks}
    whole = Simulated(tasks, outcomes=outcomes, items=items).run()
    for position in range(1, len(whole.events) + 1):
        run = Simulated(tasks, outcomes=outcomes, items=items, kill_after=position)
        with pytest.raises(Killed):
            run.run()
        try:
            run.kill_after = len(run.events) + 2 if twice else None
            run.resume()
            run.run()
        except Killed:
            run.resume()
            run.run()
        check_order(run)
        done_before = {
            event.key for event in whole.events[:position] if isinstance(event, Ended) and event.retry_at_s is None
        }
        for key in done_before:
            ends = [
                event
                for event in run.events
                if isinstance(event, Ended) and event.key == key and event.retry_at_s is None
            ]
            assert len(ends) == 1, "a finished step is not repeated"


@settings(max_examples=sample(100))
@given(graphs(), st.integers(1, 40))
def test_cancelled_at_any_moment_it_undoes_and_ends(made, when):
    tasks, outcomes = made
    run = Simulated(tasks, outcomes=outcomes, items={one.id: "xy" for one in tasks.tasks}, cancel_after=when).run()
    check_order(run)
    if run.state.cancelled is not None:
        begun = {"undo:" + one.id for one in tasks.tasks if one.undo and one.id in run.state.order}
        assert begun <= set(run.state.ended)
