"""docs/plans.md and the language agree."""

import re
from pathlib import Path
from typing import get_args

import pytest

from drtool.plans.language import context_of, load_plan
from drtool.plans.language.actions import KINDS, RESULTS
from drtool.plans.language.evaluating import _FUNCTIONS
from drtool.plans.language.model import Guards, PlanForm, StepForm, Var
from drtool.plans.language.probes import Probe

PAGE = (Path(__file__).parents[3] / "docs/plans.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
REST = "steps: [{id: a, uses: verify, with: {level: full}}]\n"


def rows(heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table under a heading or a header row: first cell to all cells."""
    table = PAGE.partition(heading)[2].partition("\n\n")[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("|")]
    return {word: row for row in cells for word in re.findall(r"`([a-z_]+)", row[0])}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_loads(block):
    text = block if "id:" in block.splitlines()[2] else "version: 1\nid: x\ntitle: X\n" + block + REST
    assert load_plan(Path("docs.yaml"), lambda _: text.encode()).steps


def names(struct) -> set[str]:
    return set(struct.__struct_encode_fields__)


def test_every_key_is_documented():
    assert set(rows("| key | meaning; default |\n")) == names(PlanForm)
    assert set(rows("## Steps\n\n| key | meaning; default |\n")) == names(StepForm)
    told = " ".join(rows("| key | meaning; default |\n")["guards"])
    assert set(re.findall(r"`([a-z_]+)`", told)) - {"guards"} == names(Guards)
    variables = PAGE.partition("### Variables")[2].partition("###")[0]
    assert all(name in variables for name in names(Var))


def test_every_action_is_documented_with_inputs_and_results():
    told = rows("| uses | with | results |\n")
    assert set(told) == set(KINDS)
    for uses, row in told.items():
        assert set(re.findall(r"`([a-z_]+)`", row[2])) == set(RESULTS[uses])
        if uses != "probe":
            assert {name for name in names(KINDS[uses]) if f"`{name}" not in row[1]} == set()


def test_every_probe_is_documented_with_its_inputs():
    told = rows("| probe | with | expect |\n")
    probes = {probe.__struct_config__.tag: probe for probe in get_args(Probe)}
    assert set(told) == set(probes)
    for name, probe in probes.items():
        for key in names(probe) - {"every", "within", "successes", "expect"}:
            assert f"`{key}" in told[name][1]
        kind = {field: kind for field, kind in probe.__annotations__.items() if field == "expect"}.get("expect")
        assert kind is None or all(f"`{key}" in told[name][2] for key in names(kind))


def test_every_root_and_function_is_documented():
    plan = load_plan(Path("x.yaml"), lambda _: ("version: 1\nid: x\ntitle: X\n" + REST).encode())
    assert set(rows("| root | |\n")) == {*context_of(plan, None).roots, "item"}
    assert set(rows("| function | is |\n")) == set(_FUNCTIONS)
