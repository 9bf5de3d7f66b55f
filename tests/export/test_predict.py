"""Prediction: every forcing that is not what the model takes is refused by day and column, and
tomorrow needs one day of data."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from study.cli import app
from study.errors import DataError, InputError
from study.export.bundle import Bundle, read_bundle
from study.export.forcing import read_forcing
from study.export.predict import named_period, parse_quantiles, predict, write_prediction
from study.export.state import read_state, write_state
from study.export.winner import export_arm
from study.spec import Period

from .conftest import ARMS, SERIES, Finished, as_csv, as_netcdf, assert_within, loaded


@pytest.fixture(scope="module")
def read(bundle: Path) -> Bundle:
    return read_bundle(bundle)


def test_the_discharge_to_correct_is_asked_for(with_shyft: Finished, tmp_path: Path) -> None:
    study, book = with_shyft
    export_arm(book, study.storage, "lstm-residual", tmp_path / "bundle", members=1)
    read = read_bundle(tmp_path / "bundle")
    source = as_netcdf(study.store, tmp_path / "forcing.nc", ["prcp", "tmax", "srad"])
    with pytest.raises(DataError, match=r"no input `shyft_discharge` \(mm/d\); the model needs"):
        predict(read, read_forcing(source), named_period(read, "test"))


def test_a_basin_that_the_model_never_saw(
    continuous: Finished, read: Bundle, tmp_path: Path
) -> None:
    """It needs its attributes, from the forcing file or one of their own."""
    study, _ = continuous
    one = loaded(study.store).isel(basin=[0])
    expected = predict(read, read_forcing(study.store)).data.isel(basin=[0])
    renamed = one.assign_coords(basin=np.array(["99999999"], dtype=object))
    renamed.to_zarr(tmp_path / "new.zarr", zarr_format=2, consolidated=True)
    found = predict(read, read_forcing(tmp_path / "new.zarr")).data
    assert_within(found["qsim"].values, expected["qsim"].values)
    renamed[SERIES].to_zarr(tmp_path / "bare.zarr", zarr_format=2, consolidated=True)
    with pytest.raises(InputError, match=r"basin 99999999 is new .* no attribute `p_mean`"):
        predict(read, read_forcing(tmp_path / "bare.zarr"))
    table = renamed[list(read.manifest.inputs.static)].to_dataframe()
    table.to_csv(tmp_path / "attributes.csv", index_label="gauge_id")
    given = read_forcing(tmp_path / "bare.zarr", tmp_path / "attributes.csv")
    assert_within(predict(read, given).data["qsim"].values, expected["qsim"].values)
    (tmp_path / "attributes.csv").write_text("gauge_id,p_mean\n99999999,\n")
    with pytest.raises(InputError, match="basin 99999999 has no value of `p_mean`"):
        predict(read, read_forcing(tmp_path / "bare.zarr", tmp_path / "attributes.csv"))
    (tmp_path / "attributes.csv").write_text("basin,p_mean\n99999999,2\n")
    with pytest.raises(InputError, match=r"attributes.csv: cannot be read as attributes"):
        read_forcing(tmp_path / "bare.zarr", tmp_path / "attributes.csv")


def edit(text: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: path.write_text(text(path.read_text())) and None  # type: ignore[return-value]


def table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content = pd.read_csv(path, dtype={"gauge_id": str})
        change(content).to_csv(path, index=False)

    return apply


def on_one_day(name: str, value: object) -> Callable[[Path], None]:
    def change(content: pd.DataFrame) -> pd.DataFrame:
        column = content[name].astype(object)
        return content.assign(**{name: column.where(content.date != "1986-01-05", value)})

    return table(change)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (table(lambda t: t.drop(columns="swe")), "has no input `swe` (mm); the model needs prcp"),
        (table(lambda t: t.drop(columns="date")), "has no column `date`"),
        (table(lambda t: t.drop(columns="gauge_id")), "has no column `gauge_id`"),
        (table(lambda t: pd.concat([t, t.iloc[:1]])), "on 1980-10-01 twice"),
        (on_one_day("prcp", None), "has no `prcp` on 1986-01-05"),
        (on_one_day("tmax", "inf"), "has no `tmax` on 1986-01-05"),
        (on_one_day("srad", "n/a?"), "is no number, line 1924: 'n/a?'"),
        (on_one_day("prcp", -0.1), "1986-01-05: `prcp` is -0.1, but must lie between 0 and 2000"),
        (on_one_day("tmax", 290), "1986-01-05: `tmax` is 290, but must lie between -90 and 65"),
        (table(lambda t: t[t.date != "1986-01-05"]), "has no `prcp` on 1986-01-05"),
        (edit(lambda text: text.replace("1986-01-05", "1986-02-30", 1)), "and date '1986-02-30'"),
        (edit(lambda text: text.replace("1986-01-05", "05/01/1986", 1)), "and date '05/01/1986'"),
        (edit(lambda text: ""), "cannot be read as forcing"),
        (edit(lambda text: "\0\1"), "cannot be read as forcing"),
        (Path.unlink, "cannot be read as forcing"),
    ],
)  # fmt: skip
def test_bad_forcing(
    read: Bundle, synthetic_store: Path, tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    path = as_csv(synthetic_store, tmp_path / "forcing.csv", SERIES)
    damage(path)
    with pytest.raises(InputError) as refused:
        predict(read, read_forcing(path), named_period(read, "test"))
    assert told in str(refused.value) and str(path) in str(refused.value)


def changed(store: Path, out: Path, change: Callable[[xr.Dataset], xr.Dataset]) -> Path:
    change(loaded(store)[SERIES]).to_netcdf(out, engine="h5netcdf")
    return out


def with_units(units: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda data: data.assign(prcp=data["prcp"].assign_attrs(units=units))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_units("inch/d"), "`prcp` is in inch/d, the model takes mm/d"),
        (with_units("mm/h"), "`prcp` is in mm/h, the model takes mm/d"),
        (lambda d: d.isel(basin=[0, 0]), "twice"),
        (lambda d: d.isel(time=slice(None, None, -1)), "days must follow each other"),
        (lambda d: d.assign_coords(time=d["time"] + np.timedelta64(6, "h")), "no time of day"),
        (lambda d: d.assign_coords(time=np.arange(d.sizes["time"])), "`time` must hold dates"),
        (lambda d: d.rename(basin="catchment"), "must have the dims basin and time"),
        (lambda d: d.assign(swe=d["swe"].isel(time=0)), "has no daily input `swe`"),
    ],
)
def test_bad_grids(
    read: Bundle,
    synthetic_store: Path,
    tmp_path: Path,
    change: Callable[[xr.Dataset], xr.Dataset],
    told: str,
) -> None:
    path = changed(synthetic_store, tmp_path / "forcing.nc", change)
    with pytest.raises(InputError) as refused:
        predict(read, read_forcing(path))
    assert told in str(refused.value) and str(path) in str(refused.value)


@pytest.mark.parametrize("units", ["mm/day", "mm d-1", "MM/D"])
def test_units_written_otherwise(
    read: Bundle, synthetic_store: Path, tmp_path: Path, units: str
) -> None:
    path = changed(synthetic_store, tmp_path / "forcing.nc", with_units(units))
    found, whole = (predict(read, read_forcing(p)).data for p in (path, synthetic_store))
    assert_within(found["qsim"].values, whole["qsim"].values)


def test_what_the_model_never_saw_is_told(
    read: Bundle, synthetic_store: Path, tmp_path: Path
) -> None:
    assert not predict(read, read_forcing(synthetic_store), named_period(read, "train")).notes
    path = changed(synthetic_store, tmp_path / "wet.nc", lambda d: d.assign(prcp=d["prcp"] * 5))
    notes = predict(read, read_forcing(path), named_period(read, "train")).notes
    assert len(notes) == 1
    assert notes[0].startswith("prcp: ") and "beyond what the model was trained on" in notes[0]


@pytest.mark.parametrize("text", ["tset", "1985-10-01:", "1985-13-01:1986-01-01", "2000:1999", ":"])
def test_bad_period(read: Bundle, text: str) -> None:
    with pytest.raises(InputError, match="period"):
        named_period(read, text)


def test_a_period_outside_the_record(read: Bundle, synthetic_store: Path) -> None:
    period = Period.model_validate("1999-10-01:2000-09-30")
    with pytest.raises(InputError, match="on 1999-09-11"):  # where the warm-up begins
        predict(read, read_forcing(synthetic_store), period)


def days(first: str, last: str) -> Period:
    return Period.model_validate(f"{first}:{last}")


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_tomorrow_needs_one_day(
    read: Bundle, synthetic_store: Path, tmp_path: Path, backend: str
) -> None:
    """Day after day with a carried state, each day's forcing in a file of its own."""
    forcing = read_forcing(synthetic_store)
    whole = predict(read, forcing, days("1985-10-01", "1986-01-20"), backend=backend)
    before = predict(read, forcing, days("1985-10-01", "1986-01-16"), backend=backend)
    state = tmp_path / "state"
    write_state(before.carried(), state)
    for day in pd.date_range("1986-01-17", "1986-01-20"):
        path = tmp_path / f"{day:%Y%m%d}.csv"
        one = loaded(synthetic_store)[SERIES].sel(time=[day]).to_dataframe().reset_index()
        one.rename(columns={"basin": "gauge_id", "time": "date"}).to_csv(path, index=False)
        found = predict(read, read_forcing(path), state=read_state(state), backend=backend)
        assert found.data["time"].values == [np.datetime64(day)]
        expected = whole.data.sel(time=[day])
        for name in ("qsim", "qsim_members"):
            assert_within(found.data[name].values, expected[name].values)
        write_state(found.carried(), state)
    np.testing.assert_allclose(read_state(state).cell, whole.carried().cell, atol=1e-5)
    assert read_state(state).day == datetime.date(1986, 1, 20)


def test_a_carried_state_may_be_of_more_basins_and_of_earlier_days(
    read: Bundle, synthetic_store: Path
) -> None:
    forcing = read_forcing(synthetic_store)
    whole = predict(read, forcing, days("1985-10-01", "1986-01-20")).data
    state = predict(read, forcing, days("1985-10-01", "1985-12-31")).carried()
    two = replace(forcing, data=forcing.data.isel(basin=[4, 1]))
    found = predict(read, two, days("1986-01-11", "1986-01-20"), state=state).data
    expected = whole["qsim"].isel(basin=[4, 1]).sel(time=slice("1986-01-11", None))
    assert_within(found["qsim"].values, expected.values)


def test_states_that_do_not_fit(
    read: Bundle, continuous: Finished, synthetic_store: Path, tmp_path: Path
) -> None:
    forcing = read_forcing(synthetic_store)
    state = predict(read, forcing, days("1985-10-01", "1985-12-31")).carried()
    with pytest.raises(InputError, match=r"first day it can predict is 1986-01-01; .* 1985-12-05"):
        predict(read, forcing, days("1985-12-05", "1986-01-05"), state=state)
    late = replace(forcing, data=forcing.data.sel(time=slice("1986-01-03", None)))
    with pytest.raises(InputError, match="has no `prcp` on 1986-01-01"):
        predict(read, late, state=state)
    with pytest.raises(InputError, match="no state of basin"):
        predict(read, forcing, state=replace(state, basins=tuple("abcdef")))
    with pytest.raises(InputError, match="was left by other networks"):
        predict(read, forcing, state=replace(state, networks="0"))
    for content in (b"", b"\x08\0\0\0\0\0\0\0{}      ", b"PK\x03\x04"):
        (tmp_path / "state").write_bytes(content)
        with pytest.raises(InputError, match="is no carried state"):
            read_state(tmp_path / "state")
    write_state(replace(state, cell=state.cell * np.nan), tmp_path / "state")
    with pytest.raises(InputError, match="is no carried state"):
        read_state(tmp_path / "state")


def test_window_by_window_carries_nothing(windows: Finished, tmp_path: Path) -> None:
    study, book = windows
    export_arm(book, study.storage, ARMS[0], tmp_path / "bundle", members=1)
    read, forcing = read_bundle(tmp_path / "bundle"), read_forcing(study.store)
    found = predict(read, forcing)
    with pytest.raises(InputError, match="leaves no state"):
        found.carried()
    state = predict(read, forcing, days("1985-10-01", "1985-12-31"), continuous=True).carried()
    with pytest.raises(InputError, match="carries no state"):
        predict(read, forcing, state=state)
    predict(read, forcing, state=state, continuous=True)


def test_ensembles_have_spread_and_quantiles(read: Bundle, synthetic_store: Path) -> None:
    period = named_period(read, "test")
    found = predict(read, read_forcing(synthetic_store), period, quantiles=(0.0, 0.5, 1.0)).data
    members = found["qsim_members"].values
    np.testing.assert_allclose(found["qsim"], members.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["qsim_std"], members.std(axis=0, ddof=1), rtol=1e-5)
    low, middle, high = found["qsim_quantiles"].values
    np.testing.assert_array_equal(low, members.min(axis=0))
    np.testing.assert_array_equal(high, members.max(axis=0))
    np.testing.assert_allclose(middle, members.mean(axis=0), rtol=1e-5)  # two members


@pytest.mark.parametrize("text", ["", "0.1;0.9", "1.5", "half", "nan"])
def test_bad_quantiles(text: str) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        parse_quantiles(text)


@pytest.mark.parametrize("ending", ["csv", "nc", "zarr"])
def test_written_predictions(
    read: Bundle, synthetic_store: Path, tmp_path: Path, ending: str
) -> None:
    period = named_period(read, "test")
    prediction = predict(read, read_forcing(synthetic_store), period, quantiles=(0.1, 0.9)).data
    out = tmp_path / f"qsim.{ending}"
    write_prediction(prediction, out, members=True)
    if ending == "csv":
        read_back = pd.read_csv(out, dtype={"gauge_id": str})
        assert list(read_back) == [
            *("gauge_id", "date", "qsim", "qsim_std", "qsim_quantile_0.1", "qsim_quantile_0.9"),
            *("qsim_member_0", "qsim_member_1"),
        ]
        values = read_back["qsim"].to_numpy()
    else:
        opened = xr.open_dataset(out) if ending == "nc" else xr.open_zarr(out)
        assert opened["qsim"].attrs["units"] == "mm/d"
        assert opened.attrs["bundle"] == read.digest
        values = opened["qsim"].values.ravel()
    np.testing.assert_allclose(values, prediction["qsim"].values.ravel(), rtol=1e-6)
    with pytest.raises(InputError, match="exists already"):
        write_prediction(prediction, out)


def test_new_basins_from_a_csv_bring_their_attributes_on_every_line(
    read: Bundle, synthetic_store: Path, tmp_path: Path
) -> None:
    path = as_csv(synthetic_store, tmp_path / "forcing.csv", SERIES)
    content = pd.read_csv(path, dtype={"gauge_id": str})
    known = content["gauge_id"].iloc[0]
    mine = content[content["gauge_id"] == known].assign(gauge_id="99999999")
    for name in read.manifest.inputs.static:
        mine[name] = read.attributes.loc[known, name]
    mine.to_csv(path, index=False)
    found = predict(read, read_forcing(path)).data["qsim"].sel(basin="99999999")
    whole = predict(read, read_forcing(synthetic_store)).data["qsim"].sel(basin=known)
    assert_within(found.values, whole.values)
    mine[name] = np.arange(len(mine)).astype(float)
    mine.to_csv(path, index=False)
    with pytest.raises(InputError, match=f"`{name}` of basin 99999999 changes with time"):
        predict(read, read_forcing(path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"attributes_source": "recomputed"}, "recomputed from its own training days"),
        ({"discharge_scale": "basin"}, "99999999 is new to the model, whose unit of discharge"),
    ],
)
def test_what_is_known_of_trained_basins_only_is_not_mixed_with_a_file(
    read: Bundle, synthetic_store: Path, tmp_path: Path, change: dict[str, str], says: str
) -> None:
    changed = replace(read, manifest=read.manifest.model_copy(update=change))
    if "attributes_source" in change:
        predict(changed, read_forcing(synthetic_store))
    one = loaded(synthetic_store).isel(basin=[0])
    one = one.assign_coords(basin=np.array(["99999999"], dtype=object))
    one.to_zarr(tmp_path / "new.zarr", zarr_format=2, consolidated=True)
    with pytest.raises(InputError, match=says):
        predict(changed, read_forcing(tmp_path / "new.zarr"))


def test_the_command(bundle: Path, synthetic_store: Path, tmp_path: Path) -> None:
    """A season, then the day after it, by the command line."""
    runner, state, out = CliRunner(), tmp_path / "state", tmp_path / "season.csv"
    common = ["predict", str(bundle), "--forcing", str(synthetic_store)]
    season = ["--period", "1985-10-01:1986-03-31", "--out", str(out), "--state-out", str(state)]
    first = runner.invoke(app, [*common, *season, "--quantiles", "0.1,0.9"])
    assert first.exit_code == 0 and "6 basins, 182 days, 2 members" in first.output
    day = ["--period", "1986-04-01:1986-04-01", "--out", str(tmp_path / "day.csv")]
    second = runner.invoke(app, [*common, *day, "--state-in", str(state)])
    assert second.exit_code == 0 and "6 basins, 1 days, 2 members" in second.output
    assert len(pd.read_csv(tmp_path / "day.csv")) == 6
    taken = runner.invoke(app, [*common, "--out", str(out)])
    assert taken.exit_code != 0 and "exists already" in str(taken.exception)
    backend = runner.invoke(app, [*common, "--out", str(tmp_path / "x.nc"), "--backend", "tflite"])
    assert "must be one of onnx, torch, exported" in str(backend.exception)
