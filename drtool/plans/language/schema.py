"""The JSON Schema of plans for editors, generated from the structs that load them.

    # yaml-language-server: $schema=…/plan.schema.json

Invariants
    Every plan that loads is valid by the schema. The schema accepts more: only `plan check` applies rules that span
    several keys. The file `plan.schema.json` in the package is this module's output, and a test compares them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import fields

from drtool.plans.language.actions import KINDS
from drtool.plans.language.model import FragmentForm, PlanForm, StepForm

SCHEMA_FILE = Path(__file__).parents[1] / "plan.schema.json"
Schema: TypeAlias = dict[str, Any]
_PLAIN: dict[object, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    Any: {},
}
_EXPRESSION: Schema = {"type": "string", "pattern": r"\$\{\{"}
_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "pattern": "pattern"}
_SHORT: dict[str, Schema] = {"SiteNeed": {"type": "string"}, "Include": {"type": "string"}}
"""Structs that may be written as one word instead of a mapping."""


def plan_schema() -> Schema:
    """Return the schema of a plan, or of an included part of one."""
    making = _Making()
    whole = [making.visit(PlanForm), making.visit(FragmentForm)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A plan of drtool",
        "if": {"required": ["id"]},
        "then": whole[0],
        "else": whole[1],
        "$defs": dict(sorted(making.definitions.items())),
    }


def schema_text() -> str:
    return json.dumps(plan_schema(), indent=1, ensure_ascii=False) + "\n"


class _Making:
    """One walk over the types. Each struct becomes a definition once."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._in_action = False

    def visit(self, kind: Any) -> Schema:  # noqa: ANN401 - a type as msgspec takes it
        metas = [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
        for meta in metas:
            if meta.extra_json_schema is not None:
                return self._or_expression(dict(meta.extra_json_schema))
        if get_origin(kind) is Annotated:
            return self._limited(self.visit(get_args(kind)[0]), metas)
        return self._plain(kind)

    def _plain(self, kind: Any) -> Schema:  # noqa: ANN401
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, UnionType):
            return self._union(arguments)
        if origin is Literal:
            return {"enum": sorted(arguments, key=str)}  # typing caches equal Literals, in the order seen first
        if origin is tuple:
            return self._or_expression({"type": "array", "items": self.visit(arguments[0])})
        if origin is dict:
            return {"type": "object", "additionalProperties": self.visit(arguments[1])}
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(kind)
        return self._or_expression(dict(_PLAIN[kind])) if kind in {int, float} else dict(_PLAIN[kind])

    def _limited(self, schema: Schema, metas: list[msgspec.Meta]) -> Schema:
        length = "minItems" if schema.get("type") == "array" else "minLength"
        limits = {
            word: getattr(meta, name) for meta in metas for name, word in {**_LIMITS, "min_length": length}.items()
        }
        given = {word: limit for word, limit in limits.items() if limit is not None}
        branches = schema.get("anyOf")
        if branches is not None:  # the limits do not apply to an expression
            return {"anyOf": [{**branches[0], **given}, *branches[1:]]}
        return {**schema, **given}

    def _union(self, members: tuple[Any, ...]) -> Schema:
        known = [member for member in members if member is not NoneType]
        branches = [self.visit(member) for member in known]
        if NoneType in members:
            branches.append({"type": "null"})
        return branches[0] if len(branches) == 1 else {"anyOf": branches}

    def _or_expression(self, schema: Schema) -> Schema:
        """Inside `with`, allow an expression in place of numbers, quantities and lists."""
        return {"anyOf": [schema, _EXPRESSION]} if self._in_action else schema

    def _struct(self, kind: type[msgspec.Struct]) -> Schema:
        name = kind.__name__.removesuffix("Form")
        if name not in self.definitions:
            self.definitions[name] = {}  # steps contain steps
            self.definitions[name] = self._definition(kind)
        reference = {"$ref": f"#/$defs/{name}"}
        return {"anyOf": [_SHORT[name], reference]} if name in _SHORT else reference

    def _definition(self, kind: type[msgspec.Struct]) -> Schema:
        hints = get_type_hints(kind, include_extras=True)
        properties = {field.encode_name: self.visit(hints[field.name]) for field in fields(kind)}
        required = [field.encode_name for field in fields(kind) if field.required]
        config = kind.__struct_config__
        if config.tag_field is not None:
            properties = {config.tag_field: {"const": config.tag}, **properties}
            required = [config.tag_field, *required]
        schema: Schema = {"type": "object", "properties": properties, "required": required}
        words = (kind.__doc__ or "").partition("\n")[0]
        schema |= {"description": words} if words and not words.startswith(kind.__name__) else {}
        return {**schema, "additionalProperties": False, **(self._by_action(schema) if kind is StepForm else {})}

    def _by_action(self, step: Schema) -> Schema:
        """Return the branches that make the schema of `with` depend on `uses`."""
        step["properties"]["uses"] = {"enum": list(KINDS)}
        step["properties"]["with"] = {"type": "object"}
        undo = step["properties"]["compensate"]
        step["properties"]["compensate"] = {"anyOf": [undo, {"$ref": "#/$defs/Step"}]}
        self._in_action = True
        branches = [_when("uses", uses, self._action(kind)) for uses, kind in KINDS.items()]
        self._in_action = False
        return {"allOf": branches}

    def _action(self, kind: Any) -> Schema:  # noqa: ANN401
        """Return the schema of an action. A probe branches on its `type`, so editors report errors of that kind."""
        if get_origin(kind) not in (Union, UnionType):
            return self.visit(kind)
        kinds = {member.__struct_config__.tag: self.visit(member) for member in get_args(kind)}
        branches = [
            {"if": {"properties": {"type": {"const": tag}}, "required": ["type"]}, "then": schema}
            for tag, schema in kinds.items()
        ]
        return {"required": ["type"], "properties": {"type": {"enum": list(kinds)}}, "allOf": branches}


def _when(key: str, word: str, schema: Schema) -> Schema:
    condition: Mapping[str, Any] = {"properties": {key: {"const": word}}, "required": [key]}
    return {"if": condition, "then": {"properties": {"with": schema}}}


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
