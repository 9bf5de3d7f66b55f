"""What pydantic finds wrong, in the words of a study file."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from study.spec.base import nearest, shown

FORMS = ("(range)", "(choices)", "(options)")
"""Tags of the forms of a search range: pydantic puts them in places, files do not have them."""


def describe(error: ValidationError, root: type[BaseModel]) -> str:
    """One paragraph of all that is wrong, each with its key and, for a typo, the likely one."""
    parts = []
    problems = error.errors()
    for problem in problems:
        loc = problem["loc"]
        if any(len(p["loc"]) > len(loc) and p["loc"][: len(loc)] == loc for p in problems):
            continue  # follows from what is wrong inside
        place = [p for p in loc if p not in FORMS]
        where = _dotted(place)
        if place[:1] == ["levels"]:  # written within `factors`
            where = _dotted(["factors", *place[1:]])
        if problem["type"] == "extra_forbidden":
            parts.append(f"unknown key `{where}`{_likely(root, place)}")
        elif problem["type"] == "missing":
            parts.append(f"the key `{where}` is missing; add it")
        else:
            said = sentence(problem)
            colon = ":" if problem["type"] == "value_error" else ""
            parts.append(f"`{where}`{colon} {said}" if where else said)
    return "; ".join(dict.fromkeys(parts))


def sentence(problem: Mapping[str, Any]) -> str:
    """What one value must be, to be read after its key."""
    kind, value = problem["type"], problem.get("input")
    context = problem.get("ctx", {})
    if kind == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    if value is None:
        return "is empty; give it a value, or remove the key"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return f"must be one of {', '.join(known)}, but is {shown(value)}{nearest(value, known)}"
    if kind == "string_type":
        return f"must be text, but YAML reads it as {shown(value)}; put it in quotes"
    rule = _RULES.get(kind)
    if rule is None:
        return f"{problem['msg']} (it is {shown(value)})"
    return f"{rule.format(**context)}, but is {shown(value)}"


_RULES = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "must be a finite number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "must be true or false"),
    **dict.fromkeys(
        ("date_from_datetime_parsing", "date_parsing", "date_type"),
        "must be a date such as 1999-10-01",
    ),
    **dict.fromkeys(("model_type", "dict_type"), "must have keys of its own below it"),
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} entries",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "may hold letters, digits and `_ . -` only, the first no sign",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "neither": "is no range and no choice: write {{low: 0.001, high: 0.01}} or [32, 64]",
    "invalid_key": "must have words as keys",
}


def _dotted(place: Sequence[int | str]) -> str:
    """`contrasts[0].factor`"""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place)
    return text.removeprefix(".")


def _likely(root: type[BaseModel], place: Sequence[int | str]) -> str:
    """The key that was meant: one beside it that is like it, or the same in another section."""
    name = str(place[-1])
    beside = nearest(name, _fields(_model_at(root, place[:-1])))
    if beside:
        return beside
    for section, field in root.model_fields.items():
        if name in _fields(_model_of(field.annotation)):
            return f" (did you mean `{section}.{name}`?)"
    return "; remove it"


def _fields(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else list(model.model_fields)


def _model_at(root: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel] | None:
    """The part of the spec that has its keys at this place."""
    model: type[BaseModel] | None = root
    for step in place:
        if model is not None and step in model.model_fields:
            model = _model_of(model.model_fields[str(step)].annotation)
    return model


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, dict, Union, types.UnionType) or hasattr(
        annotation, "__metadata__"
    ):
        return next((m for a in get_args(annotation) if (m := _model_of(a)) is not None), None)
    return None
