"""What a study compares: families of contrasts, and the effects that its design implies."""

from __future__ import annotations

from typing import Any

import pytest
from small import small_spec

from study.errors import SpecError
from study.experiment.arms import expand
from study.experiment.contrasts import declared_contrasts, factorial_effects, in_the_log

MATRIX = {"model": ["lstm", "ealstm"], "statics": ["on", "off"], "snow": ["off", "observed"]}
NO_EALSTM_WITHOUT_STATICS = [{"model": "ealstm", "statics": "off"}]


def declared(contrasts: list[dict[str, Any]], **changes: Any) -> list[tuple[str, str]]:
    spec = small_spec(
        **{"factors": MATRIX, "exclude": NO_EALSTM_WITHOUT_STATICS, **changes}, contrasts=contrasts
    )
    return [(c.a, c.b) for c in declared_contrasts(spec, expand(spec))]


def test_leave_one_out_takes_each_thing_away_from_the_whole() -> None:
    whole = {"model": "lstm", "statics": "on", "snow": "observed"}
    assert declared([{"leave_one_out": whole}]) == [
        ("lstm-snow", "lstm"),
        ("lstm-snow", "lstm-nostatics-snow"),
        ("lstm-snow", "ealstm-snow"),
    ]


def test_add_one_in_gives_each_thing_to_the_base() -> None:
    """The EA-LSTM without statics is excluded, and so no neighbour."""
    assert declared([{"add_one_in": {"statics": False}}]) == [
        ("lstm", "lstm-nostatics"),
        ("lstm-nostatics-snow", "lstm-nostatics"),
    ]


def test_names_say_what_changes_and_what_stays() -> None:
    spec = small_spec(factors=MATRIX, exclude=NO_EALSTM_WITHOUT_STATICS,
                      contrasts=[{"leave_one_out": {"snow": "observed"}}])  # fmt: skip
    names = [c.name for c in declared_contrasts(spec, expand(spec))]
    assert names[0] == "snow: observed - off (lstm, statics on)"


@pytest.mark.parametrize(
    "contrast",
    [
        {"leave_one_out": {"model": "ealstm", "statics": "off"}},
        {"leave_one_out": {"snow": "observed"}, "add_one_in": {"snow": "off"}},
        {"leave_one_out": {"snow": "observed"}, "factor": "snow"},
        {"a": {"snow": "off"}},
        {"leave_one_out": {"snow": "much"}},
        {"add_one_in": {"rain": "off"}},
    ],
)
def test_what_makes_no_contrast_is_refused(contrast: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="contrasts"):
        declared([contrast])


def test_a_family_of_one_arm_has_nothing_to_compare() -> None:
    with pytest.raises(SpecError, match="no arms to compare"):
        declared([{"add_one_in": {}}], factors={"model": ["lstm"]}, exclude=[])


def test_main_effects_and_interactions_of_a_square() -> None:
    spec = small_spec(factors={"model": ["lstm", "ealstm"], "snow": ["off", "observed"]})
    model, snow, both = factorial_effects(spec, expand(spec))
    assert model.weights == {"ealstm": 0.5, "lstm": -0.5, "ealstm-snow": 0.5, "lstm-snow": -0.5}
    assert snow.weights == {"lstm-snow": 0.5, "lstm": -0.5, "ealstm-snow": 0.5, "ealstm": -0.5}
    assert both.weights == {"ealstm-snow": 1, "lstm-snow": -1, "ealstm": -1, "lstm": 1}
    assert (model.kind, both.kind) == ("main effect", "interaction")


def test_what_is_excluded_is_in_no_effect() -> None:
    """Statics vary for the LSTM only: two pairs, and no square with the model."""
    spec = small_spec(factors=MATRIX, exclude=NO_EALSTM_WITHOUT_STATICS)
    effects = {effect.name: effect for effect in factorial_effects(spec, expand(spec))}
    assert {name: effect.pairs for name, effect in effects.items()} == {
        "model: ealstm - lstm": 2,
        "statics: off - on": 2,
        "snow: observed - off": 3,
        "model: ealstm - lstm, with snow observed rather than off": 1,
        "statics: off - on, with snow observed rather than off": 1,
    }
    for effect in effects.values():
        assert sum(effect.weights.values()) == pytest.approx(0)
        assert sum(map(abs, effect.weights.values())) in (pytest.approx(2), pytest.approx(4))


def test_one_factor_has_contrasts_and_no_factorial_effects() -> None:
    spec = small_spec()
    assert factorial_effects(spec, expand(spec)) == ()
    assert in_the_log(spec, expand(spec)) == [
        {"name": "snow: observed - off", "weights": {"lstm-snow": 1, "lstm": -1}}
    ]
