"""What every key of a study file means: as JSON schema for editors, as text for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from study.errors import SpecError
from study.spec.base import nearest
from study.spec.study import StudySpec

PERIOD = {
    "type": "string",
    "pattern": r"^\s*\d{4}-\d{2}-\d{2}\s*:\s*\d{4}-\d{2}-\d{2}\s*$",
    "description": "Scored days, both ends included: `1999-10-01:2008-09-30`.",
}
NAMES = {"type": "array", "items": {"type": "string"}, "minItems": 1}
LEVELS = {"type": ["array", "string", "number", "boolean"]}
WORDS = {"type": ["string", "number", "boolean"]}


def json_schema() -> dict[str, Any]:
    """JSON schema of a study file: what an editor completes and checks; what it lets pass may
    still break a rule that `study check` knows."""
    schema = StudySpec.model_json_schema()
    definitions, properties = schema["$defs"], schema["properties"]
    definitions["Period"] = PERIOD
    del properties["levels"]  # written within `factors`
    level = {"anyOf": [{"$ref": "#/$defs/LevelSpec"}, {"type": "null"}]}
    families = {"type": "object", "properties": {"leave_one_out": NAMES, "add_one_in": NAMES},
                "minProperties": 1, "maxProperties": 1, "additionalProperties": False}  # fmt: skip
    of_ones_own = {
        "type": "object",
        "additionalProperties": level,
        "propertyNames": {"not": {"enum": ["leave_one_out", "add_one_in"]}},
    }
    values = {"type": "array", "items": WORDS, "minItems": 1}
    properties["factors"]["additionalProperties"] = {"anyOf": [values, families, of_ones_own]}
    _as_written(definitions)
    properties["exclude"]["items"] = {"type": "object", "additionalProperties": WORDS}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema,
            "title": "A study file"}  # fmt: skip


def _as_written(definitions: dict[str, Any]) -> None:
    """Forms that a file may use and that are read into others."""
    arm = {"type": "object", "additionalProperties": WORDS}
    contrast = definitions["ContrastSpec"]["properties"]
    for side in ("a", "b"):
        contrast[side]["anyOf"] = [WORDS, arm, {"type": "null"}]
    for family in ("leave_one_out", "add_one_in"):
        contrast[family]["anyOf"] = [arm, {"type": "null"}]
    for name in ("RangeSpec", "OptionsSpec"):
        when = definitions[name]["properties"]["when"]
        when["additionalProperties"] = {"anyOf": [WORDS, {"type": "array", "items": WORDS}]}
    attributes = definitions["DataSpec"]["properties"]["attributes"]
    listed = {key: attributes.pop(key) for key in ("type", "items") if key in attributes}
    attributes["anyOf"] = [{"const": "kratzert2019"}, listed]
    attributes["default"] = "kratzert2019"


def keys(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of a schema by its dotted name, in the order of the file."""
    yield from _keys(schema, schema, "")


def _keys(
    schema: dict[str, Any], part: dict[str, Any], above: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, found in part.get("properties", {}).items():
        dotted = f"{above}{name}"
        yield dotted, found
        for below, prefix in _parts(schema, found, dotted):
            yield from _keys(schema, below, prefix)


def _parts(
    schema: dict[str, Any], found: dict[str, Any], dotted: str
) -> Iterator[tuple[dict[str, Any], str]]:
    """What has keys of its own below a key."""
    for form in (found, *found.get("anyOf", ()), *found.get("allOf", ())):
        if "$ref" in form:
            yield schema["$defs"][form["$ref"].rpartition("/")[2]], f"{dotted}."
    if "$ref" in found.get("items", {}):
        yield schema["$defs"][found["items"]["$ref"].rpartition("/")[2]], f"{dotted}[]."
    if dotted == "factors":
        yield schema["$defs"]["LevelSpec"], "factors.FACTOR.LEVEL."
    if dotted == "search.space":
        yield schema["$defs"]["RangeSpec"], "search.space.NAME."
        choices = schema["$defs"]["OptionsSpec"]["properties"]["choices"]
        yield {"properties": {"choices": choices}}, "search.space.NAME."


def form(schema: dict[str, Any], found: dict[str, Any]) -> str:
    """What a value may be, in a few words."""
    if "const" in found:
        return f"`{found['const']}`"
    if "enum" in found:
        return " | ".join(f"`{value}`" for value in found["enum"])
    for key in ("anyOf", "oneOf"):
        if key in found:
            return " | ".join(dict.fromkeys(form(schema, one) for one in found[key]))
    if "$ref" in found:
        target = schema["$defs"][found["$ref"].rpartition("/")[2]]
        return "first day:last day" if target == PERIOD else "keys below"
    kind: Any = found.get("type", "")
    names = {"integer": "whole number", "number": "number", "string": "text", "null": "nothing",
             "boolean": "true | false", "object": "keys below"}  # fmt: skip
    if kind == "array":
        return f"list of {form(schema, found.get('items', {})) or 'values'}"
    if isinstance(kind, list):
        return " | ".join(names[str(one)] for one in kind)
    limits = [f"{sign} {found[key]:g}" for key, sign in
              (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"),
               ("exclusiveMaximum", "<")) if key in found]  # fmt: skip
    return " ".join([names.get(kind, kind), *limits])


def explain(key: str) -> str:
    """A key: what it may be, its default and what it does; with the keys below it.

    Raises:
        SpecError: There is no such key.
    """
    schema = json_schema()
    known = dict(keys(schema))
    wanted = re.sub(r"\[\d*\]", "[]", key)
    if wanted not in known:
        last = [name for name in known if name.rpartition(".")[2] == wanted]
        if len(last) != 1:
            near = nearest(wanted, known) or nearest(wanted, [n.rpartition(".")[2] for n in known])
            hint = f" (there are {', '.join(last)})" if last else near
            raise SpecError(f"there is no key `{key}`{hint}; `study explain` lists all")
        wanted = last[0]
    below = [name for name in known if name.startswith((f"{wanted}.", f"{wanted}[]."))]
    return "\n\n".join(_told(schema, name, known[name]) for name in [wanted, *below])


def _told(schema: dict[str, Any], name: str, found: dict[str, Any]) -> str:
    return f"{name}: {_facts(schema, found)}\n    {_prose(found)}"


def _facts(schema: dict[str, Any], found: dict[str, Any]) -> str:
    default = found.get("default", ...)
    plain = isinstance(default, str | int | float | bool)
    told = "" if not plain or default == "" else f"; {_shown(default)} if left out"
    return f"{form(schema, found)}{told}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _prose(found: dict[str, Any]) -> str:
    return " ".join(str(found.get("description", "")).split())


def reference() -> str:
    """All keys as Markdown: `docs/spec.md`."""
    schema = json_schema()
    lines = [
        "# Keys of a study file",
        "",
        "Written by `make docs`, from the sentences beside the fields of `study/spec/`. One key:",
        "`study explain training.window_warmup`; for an editor: `study schema > spec.schema.json`.",
        "",
    ]
    section = ""
    for name, found in keys(schema):
        top = name.partition(".")[0]
        if top != section:
            section = top
            lines += [f"## {top}", ""]
        lines.append(f"- **`{name}`** ({_facts(schema, found)}): {_prose(found)}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
