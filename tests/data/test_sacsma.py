"""SAC-SMA output of CAMELS-US: which files are read, what they say, and what they leave alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from study.data.camels_us import list_basins
from study.data.sacsma import ENDING, FOLDER, OutputFiles, find_output, read_output
from study.data.store import build_camels_us, describe, open_store, variables_of, verify
from study.evaluation.metrics import nse

HEADER = "YR MNTH DY HR SWE PRCP RAIM TAIR PET ET MOD_RUN OBS_RUN"


def write_output(
    root: Path, gauge_id: str, runs: list[float], *, product: str = "daymet", seed: str = "05",
    first_day: str = "1981-09-30",
) -> Path:  # fmt: skip
    """A file as CAMELS has it; every column but MOD_RUN says something else than `runs`."""
    path = root / FOLDER / product / "01" / f"{gauge_id}_{seed}{ENDING}"
    path.parent.mkdir(parents=True, exist_ok=True)
    days = pd.date_range(first_day, periods=len(runs))
    rows = [f"{d:%Y %m %d} 12 90.0 91.0 92.0 93.0 94.0 95.0 {run:11.7f} 96.0"
            for d, run in zip(days, runs, strict=True)]  # fmt: skip
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_mean_over_seeds_and_no_negative_flow(tmp_path: Path) -> None:
    paths = (
        write_output(tmp_path, "01013500", [1.0, 2.5, -999.0, 0.0]),
        write_output(tmp_path, "01013500", [2.0, 0.5, 4.0, 0.0], seed="94"),
    )
    days, run = read_output(OutputFiles(product="daymet", paths=paths))
    assert days.astype(str).tolist() == ["1981-09-30", "1981-10-01", "1981-10-02", "1981-10-03"]
    np.testing.assert_array_equal(run, [1.5, 1.5, np.nan, 0.0])


@pytest.mark.parametrize(
    ("forcing", "products", "read"),
    [
        ("maurer_extended", ["daymet", "maurer"], "maurer"),
        ("maurer", ["daymet", "maurer"], "maurer"),
        ("nldas_extended", ["daymet", "nldas", "nldas_extended"], "nldas_extended"),
        ("maurer_extended", ["nldas", "daymet"], "daymet"),
        ("maurer_extended", [], None),
    ],
)
def test_the_product_of_the_stores_own_forcing_is_preferred(
    forcing: str, products: list[str], read: str | None, tmp_path: Path
) -> None:
    wanted = {p: write_output(tmp_path, "01013500", [1.0], product=p) for p in products}
    found = find_output(tmp_path, ["01013500", "01030500"], forcing)
    expected = {} if read is None else {
        "01013500": OutputFiles(product=read, paths=(wanted[read],))}  # fmt: skip
    assert found == expected


def test_a_product_without_these_basins_is_passed_over(tmp_path: Path) -> None:
    write_output(tmp_path, "01030500", [1.0], product="maurer")
    path = write_output(tmp_path, "01013500", [1.0], product="nldas")
    (tmp_path / FOLDER / "daymet").mkdir()
    path.with_name("01013500_05_model_parameters.txt").write_text("not output\n")
    found = find_output(tmp_path, ["01013500"], "maurer_extended")
    assert found == {"01013500": OutputFiles(product="nldas", paths=(path,))}


@pytest.fixture(scope="module")
def with_output(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """The synthetic store, built from files of which the second basin has SAC-SMA output."""
    root = tmp_path_factory.mktemp("with_output")
    shutil.copytree(synthetic_root, root / "camels")
    gauge_id = list_basins(root / "camels", "maurer_extended")[1]
    write_output(root / "camels", gauge_id, [7.0, 1.25, 2.5], first_day="1982-01-01")
    before_all = "1970-01-01"
    write_output(root / "camels", gauge_id, [9.0], product="nldas", first_day=before_all)
    return build_camels_us(root / "camels", root / "us.zarr", snow=root / "camels" / "swe_uaz")


def test_other_groups_keep_their_digests(with_output: xr.Dataset, synthetic_store: Path) -> None:
    before, after = open_store(synthetic_store).attrs["digests"], with_output.attrs["digests"]
    assert "sacsma" not in before
    assert set(after) == {*before, "sacsma"}
    assert {group: after[group] for group in before} == before
    verify(with_output, "with_output")


def test_other_basins_and_days_stay_missing(with_output: xr.Dataset) -> None:
    assert variables_of(with_output, "sacsma") == ["qsim_sacsma"]
    series = with_output["qsim_sacsma"]
    assert series.dtype == np.float32 and series.attrs["product"] == "daymet"
    assert "SAC-SMA" in series.attrs["source"]
    assert describe(with_output)["groups"]["sacsma"]["variables"]["qsim_sacsma"]["units"] == "mm/d"
    there = series.sel(time=slice("1982-01-01", "1982-01-03")).values
    np.testing.assert_array_equal(there[1], [7.0, 1.25, 2.5])
    assert int(series.notnull().sum()) == 3


def test_real_output(camels_root: Path | None, tmp_path: Path) -> None:
    """Against the text of a file, a plain reading, and a score that is known."""
    if camels_root is None or not (camels_root / FOLDER).is_dir():
        pytest.skip("no real SAC-SMA output: set CAMELS_US_ROOT")
    ids = ["01022500", "01031500", "13331500"]
    store = build_camels_us(camels_root, tmp_path / "us.zarr", basins=ids)
    series = store["qsim_sacsma"]
    assert np.isnan(series.sel(basin="01022500").values).all()
    # Two lines of the file: 1980 10 02 ... 2.0492000 0.4979000
    np.testing.assert_array_equal(
        series.sel(basin="01031500", time=slice("1980-09-30", "1980-10-02")).values,
        np.array([np.nan, 2.4764, 2.0492], np.float32),
    )
    files = sorted(camels_root.rglob("13331500_*_model_output.txt"))
    runs = [pd.read_csv(f, sep=r"\s+")["MOD_RUN"].to_numpy() for f in files]
    mean = series.sel(basin="13331500", time=slice("1980-10-01", None)).values
    assert len(files) == 3
    np.testing.assert_allclose(mean, np.mean(runs, axis=0)[: len(mean)], rtol=1e-6)
    days = store.sel(basin="01031500", time=slice("1981-10-01", "1995-09-30"))
    score = nse(sim=days["qsim_sacsma"].values, obs=days["qobs"].values)
    assert float(score) == pytest.approx(0.777, abs=5e-4)


def test_real_output_has_its_known_scores(camels_root: Path | None) -> None:
    """In the years it was calibrated with, and in those after."""
    if camels_root is None or not (camels_root / FOLDER).is_dir():
        pytest.skip("no real SAC-SMA output: set CAMELS_US_ROOT")
    found = find_output(camels_root, ["01031500"], "maurer_extended")
    days, run = read_output(found["01031500"])
    obs = pd.read_csv(found["01031500"].paths[0], sep=r"\s+")["OBS_RUN"].to_numpy()
    for first, last, known in (
        ("1981-10-01", "1995-09-30", 0.777),
        ("1995-10-01", "2010-09-30", 0.742),
    ):
        span = (days >= np.datetime64(first)) & (days <= np.datetime64(last))
        assert float(nse(sim=run[span], obs=obs[span])) == pytest.approx(known, abs=5e-4)
