"""Loading of plans: every error of all files at once, each with its place and the nearest name."""

import copy
import hashlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.config.document import Placeholder
from drtool.config.yaml import parse
from drtool.errors import ConfigError
from drtool.plans.language import load_plan
from drtool.plans.language.actions import Assert, Restore, Run
from drtool.plans.language.field_types import Need
from drtool.plans.language.probes import SqlProbe
from drtool.plans.language.quantities import When

PLANS = sorted((Path(__file__).parents[3] / "plans").glob("*.yaml"))
HEAD = "version: 1\nid: p\ntitle: T\n"
ONE = "steps:\n  - {id: a, uses: verify, with: {level: structure}}\n"


def load(directory: Path, text: str, name: str = "p.yaml"):
    file = directory / name
    file.write_text(text)
    return load_plan(file)


def problems(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(directory, text)
    assert caught.value.exit_code == 2
    return [line.removeprefix(f"{directory}/") for line in caught.value.message.splitlines()]


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_the_plans_that_we_ship_load(file):
    plan = load_plan(file)
    assert plan.id == file.stem
    assert plan.files[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert all(0 < step.timeout_s < float("inf") for step in (*plan.steps, *plan.always))


def test_the_five_plans_are_there():
    assert {file.stem for file in PLANS} >= {"database", "game-day", "single-file", "site-loss", "weekly-verify"}


def test_a_plan_is_typed(tmp_path):
    plan = load(
        tmp_path,
        HEAD
        + """\
objectives: {rto: 1h30m, rpo: 0s}
vars: {at: {type: timestamp, default: now-10m}}
sites: {paris: online, oslo: {state: any, min_free: 5GiB}}
guards: {max_bytes: 500GiB, windows: ["Tue-Thu 09:00-15:00 Europe/Berlin"]}
defaults: {timeout: 2h, on_failure: continue, retry: {attempts: 2, backoff: 500ms}}
steps:
  - id: f
    uses: restore
    with: {snapshot: {source: home, select: at, at: now-1d}, to: {scratch: true, engine: postgresql}}
    outputs: {dsn: dsn}
    timeout: 400ms
  - id: rows
    uses: probe
    needs: [f, "f:started"]
    with: {type: sql, engine: postgresql, dsn: "${{ steps.f.outputs.dsn }}", query: select 1, expect: {equals: 1}, within: 2m}
  - {id: good, uses: assert, needs: [f], if: failed('f'), with: {that: [vars.at < now()]}}
always:
  - {id: tidy, uses: run, with: {argv: ["true"], changes: nothing}}
""",
    )
    assert (plan.objectives.rto_s, plan.objectives.rpo_s, plan.objectives.wrt_s) == (5400.0, 0.0, None)
    assert (plan.sites["paris"].state, plan.sites["oslo"].min_free_bytes) == ("online", 5 << 30)
    assert plan.guards.max_bytes == 500 << 30
    fetch, rows, good = plan.steps
    assert (fetch.timeout_s, rows.timeout_s, plan.always[0].timeout_s) == (0.4, 7200.0, 7200.0)
    assert (fetch.on_failure, plan.always[0].on_failure, fetch.retry.attempts, fetch.retry.backoff_s) == (
        *("continue", "continue"),
        2,
        0.5,
    )
    assert isinstance(fetch.action, Restore)
    assert fetch.action.snapshot.at == When(offset_s=-86400.0)
    assert rows.needs == (Need("f"), Need("f", "started"))
    assert isinstance(rows.action, SqlProbe)
    assert isinstance(rows.action.dsn, Placeholder)
    assert rows.action.dsn.needs == {"f"}
    assert rows.action.within_s == 120.0
    assert isinstance(good.action, Assert)
    assert good.action.that[0].text == "vars.at < now()"
    assert isinstance(plan.always[0].action, Run)
    assert (plan.steps[0].place.line, plan.var_places["at"].line) == (10, 5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEAD + "stpes: []\n", "p.yaml:4:1: stpes: unknown key 'stpes'; the nearest known one is 'steps'"),
        ("version: 2\nid: p\ntitle: T\n" + ONE, "p.yaml:1:1: version: "),
        ("version: 1\ntitle: T\n" + ONE, "p.yaml:1:1: the key 'id' is missing"),
        ("version: 1\nid: Big One\ntitle: T\n" + ONE, "p.yaml:2:1: id: expected text matching regex"),
        (HEAD + "steps: []\n", "p.yaml:4:1: steps: a plan needs at least one step"),
        (
            HEAD + ONE.replace("verify", "verfy"),
            "p.yaml:5:13: steps[0].uses: unknown uses 'verfy'; the nearest known one",
        ),
        (
            HEAD + ONE.replace("structure", "struct"),
            "p.yaml:5:34: steps[0].with.level: expected structure, sample, full or restore, not 'struct'; the nearest",
        ),
        (
            HEAD + ONE.replace("level", "levl"),
            "p.yaml:5:34: steps[0].with.levl: unknown key 'levl'; the nearest known one",
        ),
        (HEAD + ONE.replace("{level: structure}", "{}"), "p.yaml:5:27: steps[0].with: the key 'level' is missing"),
        (HEAD + ONE + "defaults: {timeout: 5}\n", "p.yaml:6:12: defaults.timeout: not a duration (write 90s, 15m"),
        (HEAD + ONE + "defaults: {timeout: 0s}\n", "longer than zero"),
        (HEAD + ONE + "defaults: {timeout: 30m1h}\n", "not a duration"),
        (
            HEAD + ONE + "report: {formats: [pdf]}\n",
            "p.yaml:6:20: report.formats[0]: expected html, junit or json, not 'pdf'",
        ),
        (HEAD + ONE + "guards: {abort_if: [1 +]}\n", "p.yaml:6:21: guards.abort_if[0]: the expression ends too soon"),
        (HEAD + ONE + "objectives: {confidence: 95}\n", "not a share (write 2%"),
        (HEAD + ONE + "vars: {A B: {type: string}}\n", "p.yaml:6:8: vars.A B: expected text matching regex"),
        (HEAD + ONE + "vars: {a: {type: strng}}\n", "p.yaml:6:12: vars.a.type: expected string, int,"),
        (HEAD + ONE + "id: q\n", "p.yaml:6:1: the key 'id' is given twice (first on line 2)"),
        (HEAD + "steps: &x []\n", "anchors and aliases"),
        ("%YAML 1.1\n---\n" + HEAD + ONE, "only YAML 1.2 is supported"),
        (HEAD + "title2: !!str x\n" + ONE, "tags"),
        ("- a\n", "p.yaml:1:1: expected a mapping, got a list"),
        ("", "p.yaml:1:1: expected a mapping, got nothing"),
    ],
)
def test_a_problem_names_its_place(tmp_path, text, sentence):
    told = problems(tmp_path, text)
    assert any(sentence in line for line in told), told


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path):
    told = problems(
        tmp_path,
        """\
version: 1
id: p
title: ''
ownr: x
steps:
  - {id: a, uses: verify, with: {level: nothing, sampel: {}}}
  - {id: B, uses: nothing, tiemout: 3}
always:
  - {id: c, uses: run, with: {argv: ["${{ 1 + }}"]}, retry: {attempts: 0}}
""",
    )
    assert [line.split(":")[1] for line in told] == ["3", "4", "6", "6", "7", "7", "7", "9", "9"]


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_plan(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ("if: vars.nope", "steps[1].if: there is no variable 'nope'"),
        ("if: failed('c')", "steps[1].if: there is no step 'c'"),
        (
            "if: failed('z')",
            "steps[1].if: step 'z' may not have ended by then: step 'b' does not need it; add it to `needs`",
        ),
        ("if: steps.z.outputs.bad", "step 'z' may not have ended by then"),
        (
            "if: steps.a.outputs.bda",
            "steps[1].if: there is no output of step 'a' 'bda'; the nearest known one is 'bad'",
        ),
        ("if: steps.a.outputs.bad", "steps[1].if: expected true or false, but this is a list"),
        ("if: len(steps.a.outputs.bad) > 1h", "cannot be applied to a number and a duration"),
        ("if: objectives.rpo > 1h", "the plan sets no objective 'rpo'"),
        ("if: item == 1", "`item` exists only in a step with `foreach`"),
        ("if: steady_state.failing > 0.1", "there is no part of `steady_state` 'failing'"),
        ("foreach: vars.n", "steps[1].foreach: expected a list, but this is a number"),
        (
            "outputs: {x: bad_objcts}",
            "steps[1].outputs.x: a verify step has no result 'bad_objcts'; the nearest known one",
        ),
        ("needs: [aa]", "steps[1].needs[0]: there is no step 'aa'; the nearest known one is 'a'"),
        ("needs: ['a:ended']", "expected a step's id, ID:started or ID:injected"),
        ("needs: ['a:injected']", "only a fault is injected, but 'a' is a verify step"),
        (
            "with: {level: full, seed: '${{ steps.a.outputs.bad }}'}",
            "steps[1].with.seed: expected text, but this is a list",
        ),
        ("with: {level: full, seed: 'x ${{ vars.nope }}'}", "steps[1].with.seed: there is no variable 'nope'"),
        (
            "with: {level: '${{ vars.s }}'}",
            "steps[1].with.level: must be written out; expressions are not allowed here",
        ),
        ("with: {level: full, seed: '${{ vars.s'}", "steps[1].with.seed: ${{ is never closed by }}"),
    ],
)
def test_names_and_kinds_are_checked_before_a_run(tmp_path, step, sentence):
    fields = dict(part.split(": ", 1) for part in [step])
    lines = {"needs": "[a]", "with": "{level: full}", **fields}
    text = HEAD + "vars: {n: {type: int}, s: {type: string}}\nsteps:\n"
    text += "  - {id: a, uses: verify, with: {level: structure}, outputs: {bad: bad_objects}}\n"
    text += "  - id: b\n    uses: verify\n" + "".join(f"    {key}: {value}\n" for key, value in lines.items())
    text += "  - {id: z, uses: verify, with: {level: structure}, outputs: {bad: bad_objects}}\n"
    told = problems(tmp_path, text)
    assert any(sentence in line for line in told), told
    assert len(told) == 1


def test_a_cycle_is_reported_once(tmp_path):
    step = "  - {{id: {}, uses: verify, needs: [{}], with: {{level: full}}}}\n"
    told = problems(tmp_path, HEAD + "steps:\n" + step.format("a", "b") + step.format("b", "c") + step.format("c", "a"))
    assert told == ["p.yaml:5:27: steps[0].needs: steps need each other in a cycle: a → b → c → a"]
    assert "a → a" in problems(tmp_path, HEAD + "steps:\n" + step.format("a", "a"))[0]


def test_ids_are_unique_in_the_whole_plan(tmp_path):
    told = problems(tmp_path, HEAD + ONE + "always:\n  - {id: a, uses: verify, with: {level: full}}\n")
    assert "the id 'a' is already used at" in told[0]


def test_one_item_of_foreach_is_seen_by_the_step_and_its_undo(tmp_path):
    plan = load(
        tmp_path,
        HEAD
        + """\
vars: {names: {type: list, default: [a, b]}}
steps:
  - id: each
    uses: restore
    foreach: vars.names
    max_parallel: 2
    with: {snapshot: {source: "${{ item }}"}, to: {scratch: true}}
    outputs: {dir: path}
    compensate: {id: undo, uses: run, with: {argv: [rm, "${{ steps.each.outputs.dir }}", "${{ item }}"], changes: scratch}}
  - {id: after, uses: assert, needs: [each], with: {that: ["len(steps.each.outputs.dir) == 2"]}}
""",
    )
    (undo,) = plan.steps[0].compensate
    assert isinstance(undo.action, Run)
    assert [isinstance(word, Placeholder) for word in undo.action.argv] == [False, True, True]


def test_cleanup_may_ask_about_every_step(tmp_path):
    text = HEAD + ONE + "always:\n  - {id: t, uses: assert, with: {that: [\"not failed('a')\"]}}\n"
    assert load(tmp_path, text).always[0].id == "t"


# --- files that include others


def fragment(directory: Path, name: str, text: str) -> str:
    (directory / name).write_text("version: 1\n" + text)
    return hashlib.sha256((directory / name).read_bytes()).hexdigest()


def test_included_parts_come_before_those_of_the_including_file(tmp_path):
    (tmp_path / "sub").mkdir()
    inner = fragment(tmp_path / "sub", "inner.yaml", "vars: {x: {type: string, default: hello}}\n")
    pin = fragment(
        tmp_path / "sub", "first.yaml", "include: [inner.yaml]\nsteps: [{id: f, uses: verify, with: {level: full}}]\n"
    )
    text = (
        HEAD + f"include: [{{file: sub/first.yaml, sha256: {pin}}}]\n" + ONE.replace("}}", ", seed: '${{ vars.x }}'}}")
    )
    plan = load(tmp_path, text)
    assert [step.id for step in plan.steps] == ["f", "a"]
    assert {each.file: each.sha256 for each in plan.files} == {
        "p.yaml": hashlib.sha256(text.encode()).hexdigest(),
        "sub/first.yaml": pin,
        "sub/inner.yaml": inner,
    }
    before = plan.digest
    (tmp_path / "sub/inner.yaml").write_text("version: 1\nvars: {x: {type: string, default: bye}}\n")
    assert load(tmp_path, text).digest != before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("include: [none.yaml]", "none.yaml: cannot be read: No such file"),
        ("include: [/etc/x.yaml]", "p.yaml:4:11: include[0]: '/etc/x.yaml' must be relative"),
        ("include: [../x.yaml]", "p.yaml:4:11: include[0]: '../x.yaml' must be in the plan's directory"),
        ("include: [f.yaml, f.yaml]", "p.yaml:4:19: include[1]: 'f.yaml' is included twice"),
        ("include: [p.yaml]", "'p.yaml' includes itself, directly or through other files"),
        (
            "include: [loop.yaml]",
            "loop.yaml:2:11: include[0]: 'loop.yaml' includes itself, directly or through other files",
        ),
        ("include: [{file: f.yaml, sha256: " + "0" * 64 + "}]", "f.yaml:1:1: the file's SHA-256 is"),
        (
            "include: [f.yaml]\nvars: {x: {type: int}}",
            "p.yaml:5:8: vars.x: 'x' is already declared in an included file",
        ),
        ("include: [whole.yaml]", "whole.yaml:2:1: id: unknown key 'id'"),
        ("include: [bad.yaml]", "bad.yaml:2:30: steps[0].with.levl: unknown key 'levl'"),
    ],
)
def test_a_failed_include_names_its_place(tmp_path, text, sentence):
    fragment(tmp_path, "f.yaml", "vars: {x: {type: string}}\n")
    fragment(tmp_path, "loop.yaml", "include: [loop.yaml]\n")
    fragment(tmp_path, "whole.yaml", "id: x\ntitle: y\n")
    fragment(
        tmp_path,
        "bad.yaml",
        "steps: [{uses: verify, with: {levl: 3}, id: q}]\n".replace("uses: verify, ", "uses: verify,"),
    )
    told = problems(tmp_path, HEAD + text + "\n" + ONE)
    assert any(sentence in line for line in told), told


# --- plans in plans

INNER = HEAD.replace("id: p", "id: inner") + "vars: {x: {type: int, required: true}}\n" + ONE


def nesting(text: str, scope: str = "scratch") -> str:
    return f"{HEAD}scope: {scope}\nsteps:\n  - {{id: s, uses: plan, with: {{{text}}}}}\n"


def test_a_nested_plan_is_loaded_too_and_counts_for_the_digest(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/inner.yaml").write_text(INNER)
    plan = load(tmp_path, nesting("file: sub/inner.yaml, vars: {x: '3'}"))
    assert [each.file for each in plan.files] == ["p.yaml", "sub/inner.yaml"]
    assert plan.files[1].sha256 == hashlib.sha256(INNER.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file: none.yaml", "p.yaml:6:32: steps[0].with.file: the plan is invalid: "),
        ("file: '${{ run.id }}.yaml'", "steps[0].with.file: the file of a nested plan must be written out"),
        ("file: ../x.yaml", "must be in the plan's directory"),
        ("file: p.yaml", "'p.yaml' runs itself, directly or through other plans"),
        ("file: around.yaml", "the plan is invalid: "),
        ("file: inner.yaml, vars: {y: '3', x: '1'}", "steps[0].with.vars.y: the plan 'inner' has no variable 'y'"),
        ("file: inner.yaml", "the plan 'inner' requires the variable 'x'"),
        ("file: live.yaml", "scope: scratch, but the plan 'inner' is live"),
    ],
)
def test_a_plan_that_cannot_be_nested_is_refused_with_the_reason(tmp_path, text, sentence):
    (tmp_path / "inner.yaml").write_text(INNER)
    (tmp_path / "live.yaml").write_text(
        INNER.replace("required: true", "default: 3").replace("vars", "scope: live\nvars")
    )
    (tmp_path / "around.yaml").write_text(nesting("file: p.yaml"))
    told = problems(tmp_path, nesting(text))
    assert any(sentence in line for line in told), told


# --- any file gives a plan or our own error

ODD = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**17,
        1.5,
        "",
        "x",
        "now",
        "${{ vars.at }}",
        "${{",
        "24h",
        [],
        {},
        ["a"],
        {"a": 1},
        [[]],
        "\0",
    ]
)


def paths_of(value, path=()):
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from paths_of(item, (*path, key))


DOCUMENTS = [parse(file.read_bytes(), file.name).value for file in PLANS]


@st.composite
def broken_documents(draw):
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from([path for path in paths_of(document) if path]))
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        if isinstance(holder, dict) and draw(st.booleans()):
            holder[draw(st.sampled_from(["x", "if", "with", "uses", "needs", path[-1]]))] = holder.pop(path[-1])
        else:
            holder[path[-1]] = draw(ODD)
    return document


@given(broken_documents())
@settings(max_examples=sample(250), deadline=None)
def test_no_document_makes_anything_but_a_plan_or_our_error(document):
    data = json.dumps(document).encode()
    before = time.process_time()
    try:
        load_plan(Path("fuzz.yaml"), lambda _: data)
    except ConfigError as error:
        assert all(line.startswith("fuzz.yaml:") for line in error.message.splitlines())  # noqa: PT017
    assert time.process_time() - before < 5
