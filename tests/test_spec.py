"""The study file: what loads, what it means, and that nothing else gets in."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import small_content, small_spec

from study.data.features import SHYFT_FEATURES
from study.errors import SpecError
from study.experiment.arms import expand
from study.spec import (
    KRATZERT_2019,
    Period,
    SplitSpec,
    StudySpec,
    TrainingSpec,
    load_spec,
    parse_spec,
)

SPECS = sorted((Path(__file__).parent.parent / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_the_specs_that_come_along_load_and_round_trip(path: Path) -> None:
    spec = load_spec(path)
    assert spec.name == path.stem
    assert parse_spec(spec.model_dump(mode="json"), "again") == spec
    assert parse_spec(spec.model_dump(), "again").digest() == spec.digest()


def test_yaml_switches_are_levels_and_small_numbers_numbers(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    content = small_content()
    del content["factors"]
    text = yaml.safe_dump(content) + "factors: {statics: [on, off], snow: [off, simulated]}\n"
    path.write_text(text)
    spec = load_spec(path, ["search.space.learning_rate={low: 1e-4, high: 1e-2}"])
    assert spec.factors == {
        "model": ("lstm",),
        "statics": ("on", "off"),
        "snow": ("off", "simulated"),
        "shyft": ("off",),
    }
    assert spec.search.space["learning_rate"].model_dump() == {
        "low": 1e-4,
        "high": 1e-2,
        "log": False,
        "when": {},
    }


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(small_content()))
    spec = load_spec(path, ["search.cohorts=7", "question=why", "resources.gpus=0.5"])
    assert (spec.search.cohorts, spec.question, spec.resources.gpus) == (7, "why", 0.5)


def test_shorthands() -> None:
    spec = parse_spec(small_content(data__attributes="kratzert2019"), "test")
    assert spec.data.attributes == KRATZERT_2019 and len(KRATZERT_2019) == 27
    period = Period.model_validate("1999-10-01 : 2008-09-30")
    assert period == Period(start=datetime.date(1999, 10, 1), end=datetime.date(2008, 9, 30))
    assert str(period) == "1999-10-01:2008-09-30"


def test_excluded_combinations_are_no_arms() -> None:
    content = small_content(
        factors={"model": ["lstm", "ealstm"], "statics": ["on", "off"]},
        exclude=[{"model": "ealstm", "statics": "off"}],
    )
    arms = parse_spec(content, "test").combinations()
    assert [(a["model"], a["statics"], a["snow"]) for a in arms] == [
        ("lstm", "on", "off"),
        ("lstm", "off", "off"),
        ("ealstm", "on", "off"),
    ]


def test_what_may_grow_is_not_in_the_digest() -> None:
    digest = parse_spec(small_content(), "test").digest()
    for free in ("search__cohorts", "confirmation__seeds"):
        assert parse_spec(small_content(**{free: 9}), "test").digest() == digest
    fixed: dict[str, float] = {"search__seed": 9, "training__warmup": 9, "search__reduction": 4}
    fixed |= {"evidence__equivalence": 0.02, "evidence__repetitions": 300}
    for key, value in fixed.items():
        assert parse_spec(small_content(**{key: value}), "test").digest() != digest
    recomputed = small_content(data__attributes_source="recomputed")
    assert parse_spec(recomputed, "test").digest() != digest


def test_a_spec_from_before_there_was_a_split_is_the_same_study() -> None:
    """So a study begun then goes on, also with a split: that decides nothing of it."""
    spec = parse_spec(small_content(), "test")
    old = spec.model_dump(mode="json")
    del old["evidence"]["split"]
    assert parse_spec(old, "begun earlier").fixed() == spec.fixed()
    split = parse_spec(small_content(evidence__split={"at": 0.3}), "test")
    assert split.evidence.split == SplitSpec(attribute="frac_snow", at=0.3)
    assert split.fixed() == spec.fixed()


def test_basins_are_split_by_an_attribute_of_the_study_or_by_climate() -> None:
    for name in ("p_mean", "aridity"):
        content = small_content(data__attributes=["p_mean"], evidence__split={
            "attribute": name, "at": 1})  # fmt: skip
        split = parse_spec(content, "test").evidence.split
        assert split is not None and split.names == (f"{name} < 1", f"{name} ≥ 1")


def test_no_default_breaks_its_own_rule() -> None:
    assert TrainingSpec() == TrainingSpec.model_validate(TrainingSpec().model_dump())


# Fuzzing

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**12),
    st.floats(),
    st.dates(),
    st.sampled_from(["on", "off", "observed", "lstm", "1999-10-01:2001-09-30", "1e-3", "", "all"]),
    st.text(max_size=6),
)
KEYS = st.text(max_size=5) | st.sampled_from(
    ["factor", "a", "b", "low", "high", "log", "train", "model", "snow", "hidden_size", "epochs"]
)
TREES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


def places(content: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in nested data."""
    inner: list[tuple[Any, ...]] = []
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in items:
        inner += [(*here, key), *places(value, (*here, key))]
    return inner


def check_refused_or_round_trips(content: Any) -> None:
    try:
        spec = parse_spec(content, "fuzz.yaml")
    except SpecError as error:
        message = str(error)
        assert message.startswith("fuzz.yaml: ") and len(message) > 20
        assert "pydantic" not in message and "Input should" not in message, message
        return
    assert parse_spec(spec.model_dump(), "again") == spec
    assert parse_spec(spec.model_dump(mode="json"), "again") == spec
    assert parse_spec(spec.model_dump(mode="json"), "again").digest() == spec.digest()


FULL = small_content(
    contrasts=[{"factor": "snow", "a": "observed", "b": "off"}],
    evidence={"split": {"attribute": "frac_snow", "at": 0.3}},
    exclude=[{"model": "lstm", "snow": "simulated"}],
    factors={"model": ["lstm"], "snow": ["off", "simulated", "observed"]},
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_spec_is_refused_in_words_or_is_valid(data: st.DataObject) -> None:
    content = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(content)))
        *parents, last = place
        inner: Any = content
        for key in parents:
            inner = inner[key]
        if data.draw(st.booleans()):
            inner[last] = data.draw(TREES)
        elif isinstance(inner, dict) and data.draw(st.booleans()):
            inner[data.draw(KEYS)] = inner.pop(last)
        else:
            del inner[last]
        if not places(content):
            break
    check_refused_or_round_trips(content)


@settings(max_examples=50, deadline=None)
@given(content=st.dictionaries(st.sampled_from(list(StudySpec.model_fields)) | KEYS, TREES))
def test_any_mapping_is_refused_in_words_or_is_valid(content: dict[str, Any]) -> None:
    check_refused_or_round_trips(content)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    at=st.floats(0, 1, exclude_max=True),
    piece=st.text(max_size=4) | st.sampled_from(["\t", ": ", "- ", "!!set", "&a", "*a", "{", "\n"]),
)
def test_a_mutated_file_is_refused_in_words_or_is_valid(
    at: float, piece: str, tmp_path: Path
) -> None:
    text = yaml.safe_dump(FULL)
    cut = int(at * len(text))
    path = tmp_path / "fuzz.yaml"
    path.write_text(text[:cut] + piece + text[cut:], encoding="utf-8", errors="surrogatepass")
    try:
        load_spec(path)
    except SpecError as error:
        assert str(path) in str(error)


def test_levels_of_shyft_are_arms_with_inputs_and_a_baseline() -> None:
    levels = ["off", "input", "residual", "both"]
    arms = expand(small_spec(factors={"model": ["lstm"], "shyft": levels}))
    assert [arm.name for arm in arms] == ["lstm", "lstm-shyft", "lstm-residual",
                                          "lstm-shyft-residual"]  # fmt: skip
    plain, fed, corrected, both = (arm.inputs for arm in arms)
    assert set(fed.dynamic) - set(plain.dynamic) == set(SHYFT_FEATURES)
    assert corrected.dynamic == plain.dynamic and both.dynamic == fed.dynamic
    assert plain.baseline is fed.baseline is None
    assert corrected.baseline == both.baseline == "shyft_discharge"


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ({"warmup": 10, "window_warmup": 11}, "needs `window_warmup <= warmup`"),
        ({"warmup": 10, "gradient_warmup": 11}, "needs `gradient_warmup <= window_warmup`"),
        ({"warmup": 10, "window_warmup": 5, "gradient_warmup": 6}, "window_warmup=5"),
    ],
)
def test_days_before_the_first_scored_one_fit_in_each_other(
    training: dict[str, Any], says: str
) -> None:
    with pytest.raises(SpecError, match=says):
        small_spec(**{f"training__{name}": value for name, value in training.items()})


@pytest.mark.parametrize(
    "change",
    [
        {"training__window_warmup": 5, "search__space": {"gradient_warmup": [3, 8]}},
        {"training__gradient_warmup": 8, "search__space": {"window_warmup": [5, 10]}},
        {"training__gradient_warmup": 8, "factors": {"window_warmup": ["5", "10"]}},
        {"search__space": {"gradient_warmup": {"low": 0, "high": 11}}, "training__warmup": 10},
    ],
)
def test_gradients_end_within_every_warmup(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="gradient_warmup"):
        small_spec(**{"training__warmup": 10} | change)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"held_out": [1013500]}, "quotes"),
        ({"held_out": "01013500"}, "list of gauge ids"),
        ({"held_out": ["01013500", "01013500"]}, "more than once"),
        ({"held_out": ["01013500"], "basins": ["01030500"]}, "01013500, which is not among"),
        ({"held_out": ["01013500"], "basins": ["01013500"]}, "leave some to train on"),
        ({"forcing": ["prcp", "shyft_swe"]}, "`shyft_swe` comes by the factor `shyft`"),
        ({"forcing": ["prcp", "swe"]}, "`swe` comes by the factor `snow`"),
    ],
)
def test_data_that_cannot_be_are_refused(data: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        small_spec(**{f"data__{key}": value for key, value in data.items()})


@pytest.mark.parametrize(
    "change",
    [
        {"training__discharge_scale": "basin"},
        {"factors": {"discharge_scale": ["common", "basin"]}},
        {"search__space": {"discharge_scale": ["common", "basin"]}},
    ],
)
def test_held_out_basins_have_no_unit_of_discharge(change: dict[str, Any]) -> None:
    small_spec(**change)
    periods = {"data__held_out": ["00000001"], "data__periods__test": "1990-10-01:1991-09-30"}
    with pytest.raises(SpecError, match="discharge_scale: basin takes the spread of each basin"):
        small_spec(**change, **periods)


def test_held_out_basins_need_test_days() -> None:
    periods = {"train": "1981-10-01:1983-09-30", "validation": "1983-10-01:1985-09-30"}
    with pytest.raises(SpecError, match=r"add periods\.test"):
        small_spec(data__periods=periods, data__held_out=["01013500"])


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (
            {"low": 0.0, "high": 0.5, "when": {"modle": "lstm"}},
            "names the factor `modle`",
        ),
        ({"low": 0.0, "high": 0.5, "when": {"snow": "simulated"}}, "level `simulated` of `snow`"),
        ({"choices": [0.1], "when": {"snow": "off"}}, "at least 2 entries"),
        ({"choices": [0.1, 2.0], "when": {"snow": "off"}}, "must be below 1"),
        ({"choices": [0.1, 0.2], "whem": {"snow": "off"}}, "did you mean `when`"),
    ],
)
def test_conditions_that_cannot_be_are_refused(choice: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        small_spec(search__space={"dropout": choice})


def test_a_condition_that_no_arm_meets_is_refused() -> None:
    choice = {"low": 0.0, "high": 0.5, "when": {"model": "ealstm", "statics": "off"}}
    with pytest.raises(SpecError, match=r"dropout.when is true of no arm"):
        small_spec(
            search__space={"dropout": choice},
            factors={"model": ["lstm", "ealstm"], "statics": ["on", "off"]},
            exclude=[{"model": "ealstm", "statics": "off"}],
        )


def test_conditions_are_levels_one_or_several() -> None:
    space = {"dropout": {"choices": [0.1, 0.2], "when": {"snow": False}}}
    spec = small_spec(search__space=space)
    assert set(spec.search.space_of({"snow": "off"})) == {"dropout"}
    assert spec.search.space_of({"snow": "observed"}) == {}
    assert parse_spec(spec.model_dump(mode="json"), "again") == spec
