"""The study file: YAML and `--set` into a validated spec."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from study.errors import SpecError
from study.spec.messages import describe
from study.spec.study import StudySpec


def load_spec(path: Path | str, overrides: Sequence[str] = ()) -> StudySpec:
    """Read and validate a study file.

    Args:
        path: The YAML file.
        overrides: `key=value` with a dotted key and a YAML value, as given to `--set`.

    Raises:
        SpecError: The file cannot be read, is not YAML, or breaks a rule.
    """
    path = Path(path)
    try:
        content = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise SpecError(f"{path}: cannot be read: {reason}; give the study's YAML file") from None
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path}: byte {error.start} is not UTF-8 text; save the study file as UTF-8"
        ) from None
    except _NotYaml as error:
        raise SpecError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise SpecError(
            f"{path}: a study file is a mapping of keys (name, data, factors, ...), one a line as "
            f"`key: value`, but this one is {'empty' if content is None else 'none'}"
        )
    for override in overrides:
        _set(content, override)
    return parse_spec(content, str(path))


def parse_spec(content: Mapping[str, Any], source: str) -> StudySpec:
    """Validate a study given as plain data; `source` is named in errors."""
    try:
        return StudySpec.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"{source}: {describe(error, StudySpec)}") from None


class _NotYaml(Exception):
    """What is wrong with a text as YAML, and where."""


class _Loader(yaml.SafeLoader):
    """YAML without objects and without keys given twice; 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key `{key.value}` is given twice; remove one of the two",
                        problem_mark=key.start_mark,
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _parse(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        problem = error.problem or error.context or "a character that YAML does not know"
        if "constructor for the tag" in problem:
            problem = f"a tag is not allowed here ({problem}); write a plain value"
        raise _NotYaml(f"{where}not a valid study file: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _NotYaml(f"not valid YAML: {' '.join(str(error).split())}; correct it") from None


def _set(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise SpecError(f"--set {override}: write key=value, e.g. --set search.cohorts=3")
    *parents, last = key.split(".")
    place: Any = content
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise SpecError(f"--set {override}: `{parent}` is a value, it has no keys below it")
    try:
        place[last] = _parse(text)
    except _NotYaml as error:
        raise SpecError(f"--set {override}: `{text}` is not a YAML value ({error})") from None
