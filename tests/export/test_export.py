"""Export and prediction: a bundle says what the study's own networks said, or refuses to speak."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from added import add_by_hand
from inline import InlineStudy

from study.data.store import open_store
from study.errors import BundleError, DataError, InputError, StudyError
from study.experiment.book import Book
from study.experiment.confirm import read_predictions
from study.experiment.progress import winner_of
from study.experiment.storage import LocalStorage
from study.export.bundle import read_bundle
from study.export.predict import named_period, predict, read_forcing, write_prediction
from study.export.winner import export_arm
from study.report.evidence import gather
from study.spec import Period

Finished = tuple[InlineStudy, Book]


@pytest.fixture(scope="module", params=["continuous", "windows"])
def finished(
    request: pytest.FixtureRequest,
    synthetic_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    """A small study of three arms, one of them without attributes."""
    storage = LocalStorage(tmp_path_factory.mktemp(request.param) / "small")
    study = InlineStudy(store=synthetic_store, storage=storage)
    factors = {"model": ["lstm", "ealstm"], "statics": ["on", "off"]}
    book = study.finish(
        factors=factors | {"snow": ["observed"]},
        exclude=[{"model": "ealstm", "statics": "off"}],
        training__simulation=request.param,
    )
    return study, book


ARMS = ("lstm-snow", "lstm-nostatics-snow", "ealstm-snow")


@pytest.fixture(scope="module")
def bundle(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the first arm."""
    out = tmp_path_factory.mktemp("bundles") / "lstm"
    export_arm(finished[1], finished[0].storage, ARMS[0], out)
    return out


def loaded(store: Path) -> xr.Dataset:
    """A store in memory, as somebody else's data would be: without how it was kept on disk."""
    dataset = open_store(store).load().drop_encoding().drop_attrs(deep=False)
    return dataset.assign_coords(basin=dataset["basin"].values.astype(object))


def as_csv(store: Path, out: Path, names: list[str]) -> Path:
    table = open_store(store)[names].to_dataframe().reset_index()
    table = table.rename(columns={"basin": "gauge_id", "time": "date"})
    table[["gauge_id", "date", *names]].to_csv(out, index=False)
    return out


def as_netcdf(store: Path, out: Path, names: list[str]) -> Path:
    loaded(store)[names].to_netcdf(out, engine="h5netcdf")
    return out


SERIES = ["prcp", "tmax", "srad", "swe"]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("kind", ["store", "csv", "nc"])
def test_parity(finished: Finished, arm: str, kind: str, tmp_path: Path) -> None:
    """Every member, on validation and test, from every kind of forcing."""
    study, book = finished
    source = {
        "store": lambda: study.store,
        "csv": lambda: as_csv(study.store, tmp_path / "forcing.csv", SERIES),
        "nc": lambda: as_netcdf(study.store, tmp_path / "forcing.nc", SERIES),
    }[kind]()
    export_arm(book, study.storage, arm, tmp_path / "bundle")
    read = read_bundle(tmp_path / "bundle")
    for name in ("validation", "test"):
        found = predict(read, read_forcing(source), named_period(read, name))
        for member, job in enumerate(book.replicates(arm)):
            expected = read_predictions(study.storage, job.key)[name]
            np.testing.assert_allclose(
                found["qsim_members"].values[member], expected, rtol=1e-6, atol=1e-5
            )
        mean = found["qsim_members"].values.mean(axis=0)
        np.testing.assert_allclose(found["qsim"].values, mean, rtol=1e-6)


SHYFT_ARMS = ("lstm-shyft", "lstm-residual", "lstm-shyft-residual")


@pytest.fixture(scope="module")
def with_shyft(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A small study of the levels of `shyft`, with basins held out."""
    folder = tmp_path_factory.mktemp("with_shyft")
    basins = [str(b) for b in open_store(synthetic_store)["basin"].values]
    store = add_by_hand(synthetic_store, folder / "store.zarr", calibrated=basins[1:])
    study = InlineStudy(store=store, storage=LocalStorage(folder / "small"))
    factors = {"model": ["lstm"], "shyft": ["input", "residual", "both"]}
    return study, study.finish(factors=factors, data__held_out=basins[:1])


@pytest.mark.parametrize("arm", SHYFT_ARMS)
def test_parity_of_what_shyft_gives(with_shyft: Finished, arm: str, tmp_path: Path) -> None:
    """Inputs and corrected discharge come from the forcing file, as on the platform."""
    study, book = with_shyft
    export_arm(book, study.storage, arm, tmp_path / "bundle")
    read = read_bundle(tmp_path / "bundle")
    assert (read.manifest.baseline is not None) == ("residual" in arm)
    found = predict(read, read_forcing(study.store), named_period(read, "test"))
    for member, job in enumerate(book.replicates(arm)):
        expected = read_predictions(study.storage, job.key)["test"]
        np.testing.assert_allclose(
            found["qsim_members"].values[member], expected, rtol=1e-6, atol=1e-5
        )


def test_the_discharge_to_correct_is_asked_for(with_shyft: Finished, tmp_path: Path) -> None:
    study, book = with_shyft
    export_arm(book, study.storage, "lstm-residual", tmp_path / "bundle")
    read = read_bundle(tmp_path / "bundle")
    source = as_netcdf(study.store, tmp_path / "forcing.nc", ["prcp", "tmax", "srad"])
    with pytest.raises(DataError, match=r"no input `shyft_discharge` \(mm/d\); the model needs"):
        predict(read, read_forcing(source), named_period(read, "test"))


def test_only_held_out_basins_are_scored_on_test_days(with_shyft: Finished) -> None:
    study, book = with_shyft
    period = gather(book, study.storage).periods
    scored = {name: np.isfinite(p.nse("lstm-shyft")[0]) for name, p in period.items()}
    assert scored["test"].tolist() == [True, False, False, False, False, False]
    assert scored["validation"].tolist() == [False, True, True, True, True, True]


def test_the_winner_is_the_best_on_validation(finished: Finished) -> None:
    _, book = finished
    scores = {
        arm: np.mean([book.evaluations[j.key]["validation"]["nse_median"]
                      for j in book.replicates(arm)])
        for arm in book.arms
    }  # fmt: skip
    assert winner_of(book) == max(scores, key=lambda arm: scores[arm])


def test_a_basin_that_the_model_never_saw(finished: Finished, bundle: Path, tmp_path: Path) -> None:
    """It needs its attributes from the forcing file."""
    study, _ = finished
    read = read_bundle(bundle)
    one = loaded(study.store).isel(basin=[0])
    expected = predict(read, read_forcing(study.store)).isel(basin=[0])
    renamed = one.assign_coords(basin=np.array(["99999999"], dtype=object))
    renamed.to_zarr(tmp_path / "new.zarr", zarr_format=2, consolidated=True)
    found = predict(read, read_forcing(tmp_path / "new.zarr"))
    np.testing.assert_allclose(found["qsim"].values, expected["qsim"].values, rtol=1e-5, atol=1e-6)
    renamed[SERIES].to_zarr(tmp_path / "bare.zarr", zarr_format=2, consolidated=True)
    with pytest.raises(InputError, match=r"basin 99999999 is new .* no attribute `p_mean`"):
        predict(read, read_forcing(tmp_path / "bare.zarr"))


def edit(text: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: path.write_text(text(path.read_text())) and None  # type: ignore[return-value]


def table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content = pd.read_csv(path, dtype={"gauge_id": str})
        change(content).to_csv(path, index=False)

    return apply


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (table(lambda t: t.drop(columns="swe")), "has no input `swe` (mm)"),
        (table(lambda t: t.drop(columns="date")), "cannot be read as forcing"),
        (table(lambda t: t.drop(columns="gauge_id")), "cannot be read as forcing"),
        (table(lambda t: pd.concat([t, t.iloc[:1]])), "cannot be read as forcing"),
        (table(lambda t: t.assign(prcp=t.prcp.where(t.date != "1986-01-05"))),
         "has no `prcp` on 1986-01-05"),
        (table(lambda t: t[t.date != "1986-01-05"]), "on 1986-01-05"),
        (edit(lambda text: ""), "cannot be read as forcing"),
        (edit(lambda text: "\0\1"), "cannot be read as forcing"),
        (Path.unlink, "cannot be read as forcing"),
    ],
)  # fmt: skip
def test_bad_forcing(
    bundle: Path,
    synthetic_store: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    told: str,
) -> None:
    path = as_csv(synthetic_store, tmp_path / "forcing.csv", SERIES)
    damage(path)
    with pytest.raises(InputError) as refused:
        read = read_bundle(bundle)
        predict(read, read_forcing(path), named_period(read, "test"))
    assert told in str(refused.value) and str(path) in str(refused.value)


def test_other_units_are_refused(bundle: Path, synthetic_store: Path, tmp_path: Path) -> None:
    dataset = loaded(synthetic_store)[SERIES]
    dataset["prcp"].attrs["units"] = "inch/d"
    dataset.to_zarr(tmp_path / "inch.zarr", zarr_format=2, consolidated=True)
    with pytest.raises(InputError, match="`prcp` is in inch/d, the model takes mm/d"):
        predict(read_bundle(bundle), read_forcing(tmp_path / "inch.zarr"))


@pytest.mark.parametrize("text", ["tset", "1985-10-01:", "1985-13-01:1986-01-01", "2000:1999", ":"])
def test_bad_period(bundle: Path, text: str) -> None:
    with pytest.raises(InputError, match="period"):
        named_period(read_bundle(bundle), text)


def test_a_period_outside_the_record(bundle: Path, synthetic_store: Path) -> None:
    period = Period.model_validate("1999-10-01:2000-09-30")
    with pytest.raises(InputError, match="on 1999-09-11"):  # where the warm-up begins
        predict(read_bundle(bundle), read_forcing(synthetic_store), period)


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "manifest.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def flip(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-3] ^= 1
        (folder / name).write_bytes(content)

    return apply


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda b: shutil.rmtree(b), "give a folder made by `study export`"),
        (lambda b: (b / "manifest.json").write_text("{"), "is not a bundle's manifest"),
        (lambda b: (b / "manifest.json").write_text("[]"), "is not a bundle's manifest"),
        (manifest(lambda m: m.update(format=99)), "`format` must be 1"),
        (manifest(lambda m: m.pop("target")), "`target`"),
        (manifest(lambda m: m.update(extra=1)), "`extra`"),
        (manifest(lambda m: m["checksums"].pop("attributes.csv")), "lacks attributes.csv"),
        (manifest(lambda m: m["checksums"].pop("weights-000.safetensors")), "must name"),
        (manifest(lambda m: m["checksums"].update({"../x": ""})), "must name"),
        (manifest(lambda m: m["training"].update(hidden_size=5)), "does not fit"),
        (manifest(lambda m: m.update(model="transformer")), "does not fit"),
        (flip("weights-001.safetensors"), "differs from its checksum"),
        (flip("attributes.csv"), "differs from its checksum"),
        (lambda b: (b / "weights-000.safetensors").unlink(), "cannot be read"),
    ],
)
def test_a_damaged_bundle_is_refused(
    bundle: Path, tmp_path: Path, damage: Callable[[Path], Any], told: str
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    damage(copy)
    with pytest.raises(BundleError, match=r"export|bundle") as refused:
        read_bundle(copy)
    assert told in str(refused.value) and str(copy) in str(refused.value)


@pytest.mark.parametrize("ending", ["csv", "nc", "zarr"])
def test_written_predictions(
    bundle: Path, synthetic_store: Path, tmp_path: Path, ending: str
) -> None:
    read = read_bundle(bundle)
    prediction = predict(read, read_forcing(synthetic_store), named_period(read, "test"))
    out = tmp_path / f"qsim.{ending}"
    write_prediction(prediction, out)
    if ending == "csv":
        read_back = pd.read_csv(out, dtype={"gauge_id": str})
        assert list(read_back) == ["gauge_id", "date", "qsim"]
        values = read_back["qsim"].to_numpy()
    else:
        opened = xr.open_dataset(out) if ending == "nc" else xr.open_zarr(out)
        assert opened["qsim"].attrs["units"] == "mm/d"
        values = opened["qsim"].values.ravel()
    np.testing.assert_allclose(values, prediction["qsim"].values.ravel(), rtol=1e-6)
    with pytest.raises(InputError, match="exists already"):
        write_prediction(prediction, out)


def test_refusals(finished: Finished, tmp_path: Path) -> None:
    study, book = finished
    with pytest.raises(InputError, match=r"has no arm `gru`; its arms are lstm-snow"):
        export_arm(book, study.storage, "gru", tmp_path / "x")
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already"):
        export_arm(book, study.storage, ARMS[0], tmp_path / "there")
    unfinished = InlineStudy(store=study.store, storage=LocalStorage(tmp_path / "other"))
    begun, _ = unfinished.train()
    with pytest.raises(StudyError, match="is not finished"):
        export_arm(begun, unfinished.storage, "lstm", tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_new_basins_from_a_csv_bring_their_attributes_on_every_line(
    bundle: Path, synthetic_store: Path, tmp_path: Path
) -> None:
    read = read_bundle(bundle)
    path = as_csv(synthetic_store, tmp_path / "forcing.csv", SERIES)
    content = pd.read_csv(path, dtype={"gauge_id": str})
    known = content["gauge_id"].iloc[0]
    mine = content[content["gauge_id"] == known].assign(gauge_id="99999999")
    for name in read.manifest.inputs.static:
        mine[name] = read.attributes.loc[known, name]
    mine.to_csv(path, index=False)
    found = predict(read, read_forcing(path))["qsim"].sel(basin="99999999")
    whole = predict(read, read_forcing(synthetic_store))["qsim"].sel(basin=known)
    np.testing.assert_allclose(found.values, whole.values, rtol=1e-5, atol=1e-6)
    mine[name] = np.arange(len(mine)).astype(float)
    mine.to_csv(path, index=False)
    with pytest.raises(InputError, match=f"`{name}` changes with time"):
        predict(read, read_forcing(path))


def test_recomputed_attributes_are_not_mixed_with_those_of_a_file(
    bundle: Path, synthetic_store: Path, tmp_path: Path
) -> None:
    read = read_bundle(bundle)
    manifest = read.manifest.model_copy(update={"attributes_source": "recomputed"})
    recomputed = read.model_copy(update={"manifest": manifest})
    predict(recomputed, read_forcing(synthetic_store))
    one = loaded(synthetic_store).isel(basin=[0])
    one = one.assign_coords(basin=np.array(["99999999"], dtype=object))
    one.to_zarr(tmp_path / "new.zarr", zarr_format=2, consolidated=True)
    with pytest.raises(InputError, match="recomputed from its own training days"):
        predict(recomputed, read_forcing(tmp_path / "new.zarr"))
