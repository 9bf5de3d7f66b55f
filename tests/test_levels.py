"""Levels of one's own: what they change, what they may not, and a study of them to its bundle."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from inline import QUICK, InlineStudy
from small import ATTRIBUTES, FORCING, small_content, small_spec

from study.data.arrays import assemble
from study.data.levels import resolve, sets_of, snow_products, water_years
from study.data.placebo import with_placebos
from study.data.store import open_store, write_store
from study.errors import DataError, InputError, SpecError
from study.experiment.arms import Arm, all_inputs, expand
from study.experiment.engine import open_ledger, prepare
from study.experiment.storage import LocalStorage
from study.export.bundle import read_bundle
from study.export.winner import export_arm
from study.report.compare import write_report
from study.spec import StudySpec, load_spec, parse_spec


def arms_of(store: xr.Dataset, **changes: Any) -> dict[str, Arm]:
    spec = small_spec(**changes)
    return {arm.name: arm for arm in expand(spec, resolve(spec, store))}


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> xr.Dataset:
    """The synthetic basins, with one more series and one more attribute."""
    store = open_store(synthetic_store).load()
    wetness = store["prcp"].rolling(time=30, min_periods=1).mean().astype("float32")
    store["wetness"] = ("basin", "time"), wetness.values, {"units": "mm/d", "group": "forcing"}
    store["steep"] = "basin", np.linspace(0.0, 1.0, store.sizes["basin"]), {"group": "attributes"}
    return store


@pytest.fixture(scope="module")
def path(store: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("levels") / "store.zarr"
    write_store(store, path)
    return path


def test_what_a_level_changes(store: xr.Dataset) -> None:
    arms = arms_of(store, factors={
        "model": ["lstm"],
        "water": {"dry": None, "wet": {"inputs": ["wetness"], "attributes": ["steep"]},
                  "placebo(wet)": None},
        "sun": {"on": {}, "off": {"drop": ["srad"]}, "long": {"replace": {"srad": "vp"}}},
        "recipe": {"ours": {}, "paper": {"training": {"loss": "mse", "forget_bias": 1},
                                         "label": "like-2018"}},
    })  # fmt: skip
    assert list(arms)[:3] == ["lstm", "lstm-like-2018", "lstm-sun.off"]
    assert len(arms) == 3 * 3 * 2
    assert arms["lstm-placebo-wet"].inputs.dynamic == (*FORCING, "placebo(wetness)")
    assert arms["lstm"].inputs.dynamic == FORCING
    assert arms["lstm"].inputs.static == ATTRIBUTES
    wet = arms["lstm-water.wet-sun.off"]
    assert wet.inputs.dynamic == ("prcp", "tmax", "wetness")
    assert wet.inputs.static == (*ATTRIBUTES, "steep")
    assert arms["lstm-sun.long"].inputs.dynamic == ("prcp", "tmax", "vp")
    spec = small_spec()
    assert arms["lstm-like-2018"].training(spec.training, {}).loss == "mse"
    assert arms["lstm-like-2018"].training(spec.training, {}).forget_bias == 1.0
    assert arms["lstm"].training(spec.training, {}) == spec.training


def test_a_set_is_what_the_store_says(store: xr.Dataset) -> None:
    levels = {"all": {}, "without": {"drop": ["climate"]}}
    arms = arms_of(store, factors={"model": ["lstm"], "weather": levels})
    assert arms["lstm-weather.without"].inputs.static == ("area_gages2",)
    other = store.copy()
    for name in ("p_mean", "area_gages2"):
        other[name] = other[name].assign_attrs(set="climate")
    arms = arms_of(other, factors={"model": ["lstm"], "weather": levels})
    assert arms["lstm-weather.without"].inputs.static == ("frac_snow",)
    assert set(sets_of(other)) == {"climate"}
    assert set(sets_of(other)["climate"]) == {"p_mean", "area_gages2"}


def test_families_of_levels_are_written_in_one_line(store: xr.Dataset) -> None:
    left_out = arms_of(store, factors={
        "model": ["lstm"], "seen": {"leave_one_out": ["climate", "topography", "srad"]},
    })  # fmt: skip
    assert list(left_out) == ["lstm", "lstm-no-climate", "lstm-no-topography", "lstm-no-srad"]
    assert left_out["lstm-no-climate"].inputs.static == ("area_gages2",)
    assert left_out["lstm-no-srad"].inputs.dynamic == ("prcp", "tmax")
    added = arms_of(store, factors={
        "model": ["lstm"], "seen": {"add_one_in": ["climate", "topography"]},
    })  # fmt: skip
    seen = {name: set(arm.inputs.static) for name, arm in added.items()}
    assert seen == {
        "lstm-no-seen": set(),
        "lstm-climate": {"p_mean", "frac_snow"},
        "lstm-topography": {"area_gages2"},
    }


def test_snow_has_the_products_of_the_store(store: xr.Dataset) -> None:
    assert snow_products(store) == {"uaz": "swe"}
    other = store.copy()
    other["swe_daymet"] = store["swe"] * 2
    other["swe_daymet"].attrs = {"units": "mm", "group": "snow"}
    own = {"off": {}, "uaz": {}, "dim": {"drop": ["srad"]}}
    mixed = arms_of(other, factors={"model": ["lstm"], "snow": own})
    assert mixed["lstm-snow.uaz"].inputs.dynamic == (*FORCING, "swe")
    assert mixed["lstm-snow.dim"].inputs.dynamic == ("prcp", "tmax")
    levels = ["off", "simulated", "observed", "uaz", "daymet", "placebo(uaz)", "placebo(observed)"]
    arms = arms_of(other, factors={"model": ["lstm"], "snow": levels})
    seen = {name: arm.inputs.dynamic[len(FORCING) :] for name, arm in arms.items()}
    assert seen == {
        "lstm": (),
        "lstm-simsnow": ("swe_simulated",),
        "lstm-snow": ("swe",),
        "lstm-uaz": ("swe",),
        "lstm-daymet": ("swe_daymet",),
        "lstm-placebo-uaz": ("placebo(swe)",),
        "lstm-placebo-snow": ("placebo(swe)",),
    }


def test_a_placebo_has_the_season_and_not_the_year(store: xr.Dataset) -> None:
    fed = with_placebos(store, ["prcp", "placebo(swe)", "placebo(prcp)"], seed=1)
    days = store["time"].values.astype("datetime64[D]")
    years = water_years(days)
    assert years[days == np.datetime64("1985-09-30")] == 1985
    assert years[days == np.datetime64("1985-10-01")] == 1986
    same_day = np.array([str(d)[5:] for d in days])
    whole = [y for y in np.unique(years) if (years == y).sum() >= 365]
    taken = []
    for basin in range(store.sizes["basin"]):
        rows = {}
        for name in ("swe", "prcp"):
            real, placebo = store[name].values[basin], fed[f"placebo({name})"].values[basin]
            rows[name] = []
            for year in whole:
                of_year = (years == year) & (same_day != "02-29")
                (source,) = [
                    y for y in whole
                    if np.array_equal(placebo[of_year], real[(years == y) & (same_day != "02-29")])
                ]  # fmt: skip
                assert source != year
                rows[name].append(source)
        assert rows["swe"] == rows["prcp"], "all inputs of a placebo are of one year"
        assert sorted(rows["swe"]) == whole, "every year is taken once"
        taken.append(rows["swe"])
    assert any(a != b for a, b in itertools.pairwise(taken)), "basins have their own"
    assert np.isfinite(fed["placebo(swe)"].values).all()


def test_a_placebo_is_a_function_of_seed_and_basin(store: xr.Dataset) -> None:
    def placebo(seed: int, basins: slice) -> np.ndarray:
        found = with_placebos(store.isel(basin=basins), ["placebo(prcp)"], seed)
        return np.asarray(found["placebo(prcp)"].values)

    np.testing.assert_array_equal(placebo(1, slice(1, 3)), placebo(1, slice(None))[1:3])
    assert not np.array_equal(placebo(1, slice(None)), placebo(2, slice(None)))


def test_a_placebo_needs_years_without_a_gap(store: xr.Dataset) -> None:
    short = store.sel(time=slice("1981-10-01", "1982-12-31"))
    with pytest.raises(DataError, match="only 1 of its years"):
        with_placebos(short, ["placebo(prcp)"], 1)


def test_a_unit_of_ones_own_must_be_stated(store: xr.Dataset) -> None:
    spec = small_spec(factors={"model": ["lstm"]}, data__forcing=["prcp", "wetness"])
    inputs = all_inputs(expand(spec))
    arrays = assemble(store, spec, inputs)
    assert arrays.inputs.dynamic == ("prcp", "wetness")
    other = store.copy()
    other["wetness"] = store["wetness"].assign_attrs(units="")
    with pytest.raises(DataError, match="does not say in which unit `wetness` is"):
        assemble(other, spec, inputs)


OWN = {"a": {}, "b": {"inputs": ["wetness"]}}
REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a key that is none": ({"f": {"a": {"input": ["swe"]}}}, ("factors.f.a.input", "inputs")),
    "a name that the store lacks": ({"f": {"a": {}, "b": {"inputs": ["wetnes"]}}},
                                    ("level `b`", "`wetnes` (did you mean `wetness`?)")),
    "an attribute that it lacks": ({"f": {"a": {}, "b": {"attributes": ["stepp"]}}},
                                   ("`stepp` (did you mean `steep`?)",)),
    "the target": ({"f": {"a": {}, "b": {"inputs": ["qobs"]}}}, ("no daily input `qobs`",)),
    "a baseline that is no discharge": ({"f": {"a": {}, "b": {"baseline": "tmax"}}},
                                        ("no daily series in mm/d `tmax`",)),
    "a drop of what is not there": ({"f": {"a": {}, "b": {"drop": ["wetness"]}}},
                                    ("drops wetness", "sees nothing")),
    "a replacement of it": ({"f": {"a": {}, "b": {"replace": {"vp": "wetness"}}}},
                            ("replaces vp", "sees nothing")),
    "a drop of all inputs": ({"f": {"a": {}, "b": {"drop": list(FORCING)}}},
                             ("no daily input left",)),
    "a set that is none": ({"f": {"a": {}, "b": {"drop": ["climat"]}}},
                           ("`climat` (did you mean `climate`?)",)),
    "a cycle": ({"f": {"a": {"requires": ["g.c"]}, "b": {}},
                 "g": {"c": {"requires": ["f.a"]}, "d": {}}}, ("requires", "itself")),
    "a requirement that is none": ({"f": {"a": {"requires": ["snow.of"]}, "b": {}}},
                                   ("`snow.of` (did you mean `snow.off`?)",)),
    "a requirement that an arm lacks": (
        {"f": {"a": {}, "b": {"requires": ["snow.observed"]}}, "snow": ["off", "observed"]},
        ("requires snow.observed", "exclude: [{f: b, snow: off}]")),
    "an EA-LSTM without attributes": (
        {"model": ["lstm", "ealstm"], "f": {"a": {}, "b": {"drop": ["attributes"]}}},
        ("level `ealstm` of `model` requires static attributes", "f b")),
    "a setting that is none": ({"f": {"a": {}, "b": {"training": {"los": "mse"}}}},
                               ("factors.f.b", "`los` (did you mean `loss`?)")),
    "a value that it cannot have": ({"f": {"a": {}, "b": {"training": {"dropout": 2}}}},
                                    ("factors.f.b", "`dropout` cannot be 2")),
    "the protocol": ({"f": {"a": {}, "b": {"training": {"epochs": 9}}}},
                     ("`epochs` is part of the protocol",)),
    "a setting that is searched": ({"f": {"a": {}, "b": {"training": {"dropout": 0.1}}}},
                                   ("`dropout` is set by the factor `f` and searched",)),
    "a setting twice": ({"f": {"a": {}, "b": {"training": {"loss": "mse"}}},
                         "g": {"a": {}, "b": {"training": {"loss": "nse"}}}},
                        ("`f` and `g` both set `loss`",)),
    "levels of a setting": ({"loss": {"a": {}, "b": {}}}, ("is a setting of `training`",)),
    "values of what is none": ({"f": ["a", "b"]}, ("names `f`", "nothing reads")),
    "a level that is built in": ({"snow": {"off": {}, "observed": {"inputs": ["wetness"]}}},
                                 ("`observed` changes what it always changes",)),
    "a name with a slash": ({"f": {"a": {}, "b/c": {"inputs": ["wetness"]}}},
                            ("cannot be a level's name",)),
    "two arms of one name": ({"f": {"a": {"inputs": ["wetness"], "label": "x"},
                                    "b": {"drop": ["srad"], "label": "x"}}},
                             ("two arms have the name lstm-x",)),
    "a product that the store lacks": ({"snow": ["off", "snodas"]},
                                       ("no level `snodas`", "snow products (uaz)")),
    "a slip in a level of snow": ({"snow": ["off", "obsreved"]}, ("did you mean `observed`?",)),
    "a placebo of nothing": ({"snow": ["off", "placebo(off)"]}, ("`off` has none",)),
    "a placebo of no level": ({"f": {**OWN, "placebo(c)": {}}}, ("`placebo(c)` is of no level",)),
    "a placebo of a base": ({"f": {**OWN, "placebo(a)": {}}}, ("`a` has none",)),
    "a placebo that says more": ({"f": {**OWN, "placebo(b)": {"inputs": ["swe"]}}},
                                 ("leave it empty",)),
    "a placebo without inputs": ({"f": {"a": {}, "b": {"placebo": True}}}, ("name some",)),
    "two forms at once": ({"f": {"leave_one_out": ["soil"], "b": {}}}, ("nothing else",)),
    "no list": ({"f": {"leave_one_out": "soil"}}, ("leave_one_out: [climate, soil]",)),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_level_may_not_is_one_paragraph(what: str, path: Path) -> None:
    factors, words = REFUSED[what]
    with pytest.raises(InputError) as error:
        prepare(small_spec(factors={"model": ["lstm"], **factors}), path)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and len(message) < 700


FACTORS: dict[str, Any] = {
    "model": ["lstm", "ealstm"],
    "snow": ["off", "uaz", "placebo(uaz)"],
    "climate_attributes": {"on": {}, "off": {"drop": ["climate"]}},
    "recipe": {"ours": {}, "paper": {"training": {"loss": "mse"}}},
}


def test_what_a_file_says_is_what_a_dump_says(tmp_path: Path) -> None:
    """The log keeps the spec as plain data and reads it back."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_content(factors=FACTORS)))
    spec = load_spec(tmp_path / "small.yaml")
    again = parse_spec(spec.model_dump(mode="json"), "the dump")
    assert again == spec and again.digest() == spec.digest()
    assert again.levels["climate_attributes"]["off"].drop == ("climate",)
    changed = {**FACTORS, "climate_attributes": {"on": {}, "off": {"drop": ["soil"]}}}
    assert small_spec(factors=changed).digest() != spec.digest()


def test_a_spec_without_levels_of_its_own_has_the_digest_it_had() -> None:
    content = small_spec().model_dump(mode="json")
    assert "levels" not in content
    assert StudySpec.model_validate(content) == small_spec()


def test_a_study_of_ones_own_levels_comes_to_a_bundle(path: Path, tmp_path: Path) -> None:
    study = InlineStudy(store=path, storage=LocalStorage(tmp_path / "small"))
    exclude = [{"model": "ealstm", "recipe": "paper"}]
    book = study.finish(factors=FACTORS, exclude=exclude)
    opened = open_ledger(study.storage)
    assert list(opened.arms.values()) == list(book.arms.values()), "the log knows what levels mean"
    report = write_report(opened, study.storage, tmp_path / "report")
    assert {arm["arm"] for arm in report["arms"]} == set(opened.arms)
    name = "lstm-uaz-climate_attributes.off-recipe.paper"
    export_arm(opened, study.storage, name, tmp_path / "bundle")
    manifest = read_bundle(tmp_path / "bundle").manifest
    assert [i.name for i in manifest.dynamic_inputs] == [*FORCING, "swe"]
    assert [i.name for i in manifest.static_inputs] == ["area_gages2"]
    assert manifest.training["loss"] == "mse"
    assert manifest.factors["climate_attributes"] == "off"
    with pytest.raises(InputError, match=r"is a control.*placebo\(swe\)"):
        export_arm(opened, study.storage, "lstm-placebo-uaz", tmp_path / "control")
    grown = small_spec(**QUICK | {"factors": FACTORS, "exclude": exclude, "confirmation__seeds": 3})
    study.finish_spec(grown)
    assert len(open_ledger(study.storage).evaluations) == 3 * len(opened.arms)


def test_levels_stand_within_factors() -> None:
    with pytest.raises(SpecError, match="no level of `factors`"):
        small_spec(levels={"soil": {"off": {"drop": ["soil"]}}})


def test_other_data_do_not_change_what_levels_mean(
    store: xr.Dataset, path: Path, tmp_path: Path
) -> None:
    """Sets are no part of a store's digests."""
    study = InlineStudy(store=path, storage=LocalStorage(tmp_path / "small"))
    factors = {"model": ["lstm"], "weather": {"all": {}, "without": {"drop": ["climate"]}}}
    study.train(factors=factors)
    other = store.copy()
    for name in ("frac_snow", "area_gages2"):
        other[name] = other[name].assign_attrs(set="climate")
    write_store(other, tmp_path / "other.zarr")
    with pytest.raises(SpecError, match="gave its levels another meaning"):
        InlineStudy(store=tmp_path / "other.zarr", storage=study.storage).train(factors=factors)
