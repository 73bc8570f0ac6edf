"""The schema for editors: it is current and agrees with the loader. Checked by a small validator of our own."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from drtool.config.yaml import parse
from drtool.plans.language.actions import KINDS
from drtool.plans.language.schema import SCHEMA_FILE, plan_schema, schema_text

PLANS = sorted((Path(__file__).parents[3] / "plans").glob("*.yaml"))
SCHEMA = plan_schema()
TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int, "number": (int, float)
}  # fmt: skip
KNOWN = {
    *("$schema", "$defs", "$ref", "title", "description", "examples", "type", "enum", "const", "pattern", "minimum"),
    *("maximum", "minLength", "minItems", "properties", "required", "additionalProperties", "items", "anyOf", "allOf"),
    *("if", "then", "else"),
}


def is_type(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and not (isinstance(value, bool) and name in {"integer", "number"})


def valid(value: Any, schema: dict[str, Any]) -> bool:
    """Validate by the parts of JSON Schema that our schema uses. An unimplemented keyword fails."""
    assert not set(schema) - KNOWN
    if "$ref" in schema and not valid(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]):
        return False
    names = schema.get("type", [])
    checks = [
        not names or any(is_type(value, name) for name in ([names] if isinstance(names, str) else names)),
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
        all(valid(value, each) for each in schema.get("allOf", ())),
        "anyOf" not in schema or any(valid(value, each) for each in schema["anyOf"]),
    ]
    if "if" in schema:
        branch = "then" if valid(value, schema["if"]) else "else"
        checks.append(valid(value, schema.get(branch, {})))
    if isinstance(value, str):
        checks += [
            "pattern" not in schema or re.search(schema["pattern"], value),
            len(value) >= schema.get("minLength", 0),
        ]
    if isinstance(value, int | float) and not isinstance(value, bool):
        checks.append(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    if isinstance(value, list):
        checks += [len(value) >= schema.get("minItems", 0), *(valid(item, schema.get("items", {})) for item in value)]
    if isinstance(value, dict):
        checks.append(valid_mapping(value, schema))
    return all(checks)


def valid_mapping(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    if not all(name in value for name in schema.get("required", ())):
        return False
    for name, item in value.items():
        if name in known:
            if not valid(item, known[name]):
                return False
        elif others is False or (isinstance(others, dict) and not valid(item, others)):
            return False
    return True


def test_the_file_in_the_package_is_current():
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run: python -m drtool.plans.language.schema"
    assert json.loads(schema_text()) == SCHEMA


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_the_plans_that_we_ship_are_valid(file):
    assert valid(parse(file.read_bytes(), file.name).value, SCHEMA)


HEAD = {"version": 1, "id": "p", "title": "T"}


def plan(uses: str, inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**HEAD, "steps": [{"id": "a", "uses": uses, "with": inputs, **more}]}


@pytest.mark.parametrize(
    ("document", "good"),
    [
        (plan("verify", {"level": "full"}), True),
        (plan("verify", {"level": "all"}), False),
        (plan("verify", {"levl": "full"}), False),
        (plan("verify", {}), False),
        (plan("verfy", {"level": "full"}), False),
        (plan("verify", {"level": "full"}, tiemout="5s"), False),
        (plan("verify", {"level": "full"}, timeout="5s"), True),
        (plan("verify", {"level": "full"}, timeout=5), False),
        (plan("verify", {"level": "full"}, needs=["b", "c:started"]), True),
        (plan("verify", {"level": "full"}, needs=["b:ended"]), False),
        (plan("verify", {"level": "sample", "sample": {"count": "${{ vars.n }}"}}), True),
        (plan("verify", {"level": "sample", "sample": {"count": "many"}}), False),
        (plan("verify", {"level": "full", "objects": "${{ steps.x.outputs.bad }}"}), True),
        (plan("probe", {"type": "tcp", "host": "x", "port": 5}), True),
        (plan("probe", {"type": "tcp", "host": "x", "prot": 5}), False),
        (plan("probe", {"type": "smtp", "host": "x"}), False),
        (plan("run", {"argv": ["x"]}, compensate={"id": "u", "uses": "run", "with": {"argv": ["y"]}}), True),
        (plan("run", {"argv": ["x"]}, compensate=[{"id": "u", "uses": "run", "with": {"arg": ["y"]}}]), False),
        (HEAD, True),  # `plan check` checks that there are steps
        ({**HEAD, "version": 2}, False),
        ({**HEAD, "sites": {"a": "online", "b": {"state": "any", "min_free": "5GiB"}}}, True),
        ({"version": 1, "steps": [], "vars": {"x": {"type": "int"}}}, True),
        ({"version": 1, "guards": {}}, False),  # an included part has no guards
    ],
)
def test_an_editor_sees_what_the_loader_sees(document, good):
    assert valid(document, SCHEMA) == good


def test_every_action_has_its_own_inputs():
    branches = SCHEMA["$defs"]["Step"]["allOf"]
    assert [branch["if"]["properties"]["uses"]["const"] for branch in branches] == list(KINDS)
