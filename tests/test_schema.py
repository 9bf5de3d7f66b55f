"""Every key of a study file is explained, and the schema for editors agrees with what is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from small import small_content
from typer.testing import CliRunner

from study.cli import app
from study.errors import SpecError
from study.spec import TrainingSpec, load_spec, parse_spec
from study.spec.schema import explain, json_schema, keys, reference

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = sorted((REPOSITORY / "search_spaces").glob("*.yaml"))
SCHEMA = json_schema()
VALID = jsonschema.Draft202012Validator(SCHEMA)


def test_every_key_has_a_sentence() -> None:
    found = dict(keys(SCHEMA))
    assert len(found) > 80
    for key, about in found.items():
        assert re.search(r"\w{3}.*[.)`]$", about.get("description", "")), key
    assert {f"training.{name}" for name in TrainingSpec.model_fields} <= set(found)
    assert not any(key.startswith("levels") for key in found)


def test_the_page_is_what_the_code_says() -> None:
    page = REPOSITORY / "docs" / "spec.md"
    assert page.read_text() == reference(), "run `make docs`"


@pytest.mark.parametrize("path", FILES, ids=[p.name for p in FILES])
def test_shipped_studies_are_valid(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    content["data"]["periods"] = {k: str(v) for k, v in content["data"]["periods"].items()}
    assert [e.message for e in VALID.iter_errors(content)] == []
    load_spec(path)


FORMS: dict[str, dict[str, Any]] = {
    "levels": {"factors": {"model": ["lstm"], "soil": {"on": {}, "off": {"drop": ["soil"]}}}},
    "a family": {"factors": {"model": ["lstm"], "seen": {"leave_one_out": ["climate"]}}},
    "values": {"factors": {"model": ["lstm"], "hidden_size": [8, 16]}},
    "one contrast": {"contrasts": [{"factor": "snow", "a": "observed", "b": "off"}]},
    "two arms": {"contrasts": [{"a": {"snow": "observed"}, "b": {"snow": "off"}}]},
    "the published attributes": {"data__attributes": "kratzert2019"},
    "basins": {"data__basins": ["01013500"]},
    "a condition": {"search__space__dropout": {"low": 0, "high": 0.5, "when": {"snow": "off"}}},
    "choices": {"search__space__dropout": {"choices": [0, 0.5], "when": {"snow": ["off"]}}},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_read_is_valid(form: str) -> None:
    content = json.loads(json.dumps(small_content(**FORMS[form])))
    parse_spec(content, form)
    assert [e.message for e in VALID.iter_errors(content)] == []


@pytest.mark.parametrize(
    "change",
    [{"trainig": {}}, {"training__epochs": 0}, {"training__loss": "mae"}, {"search__rungs": [0]},
     {"data__periods__train": "1999"}, {"factors__soil": {"off": {"dorp": ["soil"]}}},
     {"evidence__equivalence": -1}],
)  # fmt: skip
def test_what_is_refused_is_not_valid(change: dict[str, Any]) -> None:
    content = json.loads(json.dumps(small_content(**change)))
    with pytest.raises(SpecError):
        parse_spec(content, "the change")
    assert list(VALID.iter_errors(content))


def test_a_key_is_explained_by_its_last_word_too() -> None:
    told = explain("training.window_warmup")
    assert told.startswith("training.window_warmup: whole number ≥ 0 | nothing")
    assert "Windows with a short one cost less" in told
    assert explain("window_warmup") == told
    assert "search.cohorts: whole number ≥ 1; 2 if left out" in explain("search")
    assert explain("search.space").count("search.space.NAME.low") == 1
    assert explain("label").startswith("factors.FACTOR.LEVEL.label")
    for key, hint in {
        "training.windw_warmup": "did you mean `training.window_warmup`",
        "seeed": "did you mean `seed",
    }.items():
        with pytest.raises(SpecError, match="there is no key") as error:
            explain(key)
        assert hint in str(error.value)


def test_commands() -> None:
    said = CliRunner().invoke(app, ["schema"])
    assert json.loads(said.output) == SCHEMA
    assert CliRunner().invoke(app, ["explain"]).output == reference()
    told = CliRunner().invoke(app, ["explain", "hidden_size"]).output
    assert "Memory cells of the network." in told
