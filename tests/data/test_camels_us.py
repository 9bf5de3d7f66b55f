"""The reader of the original CAMELS-US files: all products, all layouts, real and invented."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.data.camels_us import (
    FORCING_UNITS,
    BasinFiles,
    find_files,
    list_basins,
    read_attributes,
    read_basin,
)
from study.data.sacsma import ENDING, OutputFiles
from study.errors import DataError

GAUGE = "01013500"
AREA = 2_303_988_801.0

SPACES, TABS = "{y} {m:02d} {d:02d} {h}\t", "{y}\t{m}\t{d}\t{h}\t"
LOWER = "Year\tMnth\tDay\tHr\tdayl(s)\tprcp(mm/day)\tsrad(W/m2)\tswe(mm)\ttmax(C)\ttmin(C)\tvp(Pa)"
UPPER = "Year Mnth Day Hr\tDayl(s)\tPRCP(mm/day)\tSRAD(W/m2)\tSWE(mm)\tTmax(C)\tTmin(C)\tVp(Pa)"
OUTPUT = "YR MNTH DY HR SWE MOD_RUN OBS_RUN"
PRODUCTS = {
    "daymet": ("cida", 12, UPPER.lower().replace("year mnth day hr", "Year Mnth Day Hr"), SPACES),
    "maurer": ("maurer", 12, UPPER, SPACES),
    "maurer_extended": ("maurer", 12, LOWER, TABS),
    "nldas": ("nldas", 13, UPPER, SPACES),
}
"""Product -> word in the file's name, hour stamp, header, form of the date columns."""

COLUMNS = ("dayl", "prcp", "srad", "swe", "tmax", "tmin", "vp")


def forcing_values(days: int) -> np.ndarray:
    """(day, column) as printed with two decimals."""
    rng = np.random.default_rng(4)
    low, high = [30000, 0, 50, 0, 0, -10, 100], [50000, 40, 300, 9, 20, -1, 900]
    return rng.uniform(low, high, (days, 7)).round(2)


def write_basin(root: Path, product: str, huc: str = "01", days: int = 40) -> BasinFiles:
    word, hour, header, form = PRODUCTS[product]
    calendar = pd.date_range("1980-02-10", periods=days)  # holds a 29 February
    values = forcing_values(days)
    if product in ("maurer", "nldas"):
        values[:, 5] = values[:, 4]  # the daily mean twice
    lines = ["  47.24", " 250.31", f"{AREA:.0f}", header]
    for day, row in zip(calendar, values, strict=True):
        stamp = form.format(y=day.year, m=day.month, d=day.day, h=hour)
        lines.append(stamp + "\t".join(f"{v:.2f}" for v in row))
    forcing = root / "basin_mean_forcing" / product / huc / f"{GAUGE}_lump_{word}_forcing_leap.txt"
    discharge = root / "usgs_streamflow" / huc / f"{GAUGE}_streamflow_qc.txt"
    swe = root / "swe" / f"{GAUGE}_swe.csv"
    output = root / "model_output" / "flow_timeseries" / product / huc / f"{GAUGE}_05{ENDING}"
    for path, text in (
        (forcing, lines),
        (discharge, [f"{GAUGE} {d:%Y %m %d} {i * 10.0:9.2f} A" for i, d in enumerate(calendar)]),
        (swe, ["date,uaz_swe,snodas_swe", *(f"{d.date()},{i}.5," for i, d in enumerate(calendar))]),
        (output, [OUTPUT, *(f"{d:%Y %m %d} 12 0 {i}.25 -999" for i, d in enumerate(calendar))]),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(text) + "\n")
    return BasinFiles(
        gauge_id=GAUGE,
        forcing=forcing,
        discharge=discharge,
        swe=swe,
        swe_column=None,
        sacsma=OutputFiles(product=product, paths=(output,)),
    )


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_product_reads_alike(product: str, tmp_path: Path) -> None:
    record = read_basin(write_basin(tmp_path, product))
    values = forcing_values(40)
    assert record.days[0] == np.datetime64("1980-02-10")
    assert record.days[19] == np.datetime64("1980-02-29")
    assert (record.latitude, record.elevation, record.area) == (47.24, 250.31, AREA)
    assert list(record.forcing) == list(FORCING_UNITS)
    for name, series in record.forcing.items():
        same = "tmax" if name == "tmin" and product in ("maurer", "nldas") else name
        wanted = values[:, COLUMNS.index(same)].astype(np.float32)
        np.testing.assert_array_equal(series, wanted)


def test_discharge_is_a_depth_of_the_header_area(tmp_path: Path) -> None:
    """100 ft3/s = 2.8316846592 m3/s; times 86400 s over 2303.988801 km2 is 0.106189... mm."""
    record = read_basin(write_basin(tmp_path, "daymet"))
    wanted = 2.8316846592 * 86_400 / 2_303_988_801 * 1000
    assert record.qobs[10] == pytest.approx(wanted, rel=1e-6)
    assert record.qobs[0] == 0


def test_missing_discharge_stays_missing(tmp_path: Path) -> None:
    files = write_basin(tmp_path, "daymet")
    lines = files.discharge.read_text().splitlines(keepends=True)
    lines[3] = f"{GAUGE} 1980 02 13   -999.00 M\n"
    files.discharge.write_text("".join(lines[:20]))
    qobs = read_basin(files).qobs
    assert np.isnan(qobs[3]) and np.isnan(qobs[20:]).all()
    assert np.isfinite(np.delete(qobs[:20], 3)).all()


def test_snow_of_partial_years_and_of_other_columns(tmp_path: Path) -> None:
    files = write_basin(tmp_path, "daymet")
    assert files.swe is not None
    files.swe.write_text(
        "date,swe,other\n1979-01-01,1,2\n1980-02-12,3.25,4\n1980-02-14,,6\n1980-02-15,7,8\n"
    )
    record = read_basin(files)
    assert record.swe is not None and record.swe_column == "swe"
    assert record.swe[[2, 5]].tolist() == [3.25, 7]
    assert np.isnan(np.delete(record.swe, [2, 5])).all()


@pytest.mark.parametrize("layout", ["huc", "flat"])
def test_files_in_folders_of_regions_or_not(layout: str, tmp_path: Path) -> None:
    files = write_basin(tmp_path, "nldas", "01" if layout == "huc" else ".")
    assert list_basins(tmp_path, "nldas") == [GAUGE]
    (found,) = find_files(tmp_path, [GAUGE], forcing="nldas", snow=tmp_path / "swe")
    assert found.forcing.samefile(files.forcing) and found.discharge.samefile(files.discharge)
    assert found.sacsma is not None and files.sacsma is not None
    assert found.sacsma.paths[0].samefile(files.sacsma.paths[0])


def test_windows_line_ends(tmp_path: Path) -> None:
    files = write_basin(tmp_path, "daymet")
    before = read_basin(files)
    for path in (files.forcing, files.discharge):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    after = read_basin(files)
    np.testing.assert_array_equal(before.qobs, after.qobs)
    np.testing.assert_array_equal(before.forcing["vp"], after.forcing["vp"])


def test_attributes_keep_numbers_text_and_gaps(synthetic_root: Path, tmp_path: Path) -> None:
    shutil.copytree(synthetic_root / "camels_attributes_v2.0", tmp_path / "camels_attributes_v2.0")
    ids = list_basins(synthetic_root, "maurer_extended")[::-1]
    path = tmp_path / "camels_attributes_v2.0" / "camels_vege.txt"
    table = pd.read_csv(path, sep=";", dtype=str, index_col="gauge_id")
    table.loc[ids[1], "root_depth_50"] = "NA"
    table.to_csv(path, sep=";")
    attributes = read_attributes(tmp_path, ids)
    assert list(attributes.index) == ids
    assert attributes["root_depth_50"].dtype == np.float64
    assert np.isnan(attributes.loc[ids[1], "root_depth_50"])
    assert float(table.loc[ids[0], "lai_max"]) == attributes.loc[ids[0], "lai_max"]
    assert len(attributes.loc[ids[0], "huc_02"]) == 2


def test_real_basins(camels_root: Path | None) -> None:
    """Against a plain reading with pandas."""
    if camels_root is None:
        pytest.skip("no real data: set CAMELS_US_ROOT (the invented basins test the rest)")
    ids = list_basins(camels_root, "maurer_extended")[:3]
    for files in find_files(
        camels_root, ids, forcing="maurer_extended", snow=camels_root / "swe_uaz"
    ):
        record = read_basin(files)
        table = pd.read_csv(files.forcing, sep=r"\s+", skiprows=3)
        assert len(record.days) == len(table) == 10_593
        np.testing.assert_allclose(record.forcing["vp"], table["vp(Pa)"], rtol=1e-7)
        assert record.swe is not None
        assert np.isnan(record.swe[: int(np.flatnonzero(np.isfinite(record.swe))[0])]).all()


# Fuzzing: a damaged file is refused, or reads to what it says; never a wrong number of days.

FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MUTATION = st.tuples(
    st.sampled_from(["insert", "delete", "replace", "cut", "swap"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=4) | st.sampled_from([b"\n", b"\t", b"-", b"nan", b",", b"9"]),
)


def mutated(content: bytes, kind: str, place: float, piece: bytes) -> bytes:
    at = int(place * len(content))
    if kind == "swap":
        lines = content.split(b"\n")
        i = int(place * max(len(lines) - 2, 0))
        lines[i : i + 2] = lines[i : i + 2][::-1]
        return b"\n".join(lines)
    end = {"insert": at, "delete": at + len(piece), "replace": at + len(piece)}.get(
        kind, len(content)
    )
    put = piece if kind in ("insert", "replace") else b""
    return content[:at] + put + content[end:]


@FUZZ
@given(
    mutations=st.lists(MUTATION, min_size=1, max_size=3),
    part=st.sampled_from(["forcing", "q", "swe", "sacsma"]),
)
def test_a_damaged_file_is_refused_or_read_right(
    mutations: list[tuple[str, float, bytes]], part: str, tmp_path: Path
) -> None:
    files = write_basin(tmp_path, "daymet", days=12)
    assert files.swe is not None and files.sacsma is not None
    (output,) = files.sacsma.paths
    path = {"forcing": files.forcing, "q": files.discharge, "swe": files.swe, "sacsma": output}[
        part
    ]
    content = path.read_bytes()
    for kind, place, piece in mutations:
        content = mutated(content, kind, place, piece)
    path.write_bytes(content)
    try:
        record = read_basin(files)
    except DataError as error:
        assert GAUGE in str(error) and "\n" not in str(error)
        return
    text = content.decode().replace("\r\n", "\n")
    if part == "forcing":
        rows = [line.split() for line in text.split("\n")[4:-1]]
        names = [n.partition("(")[0] for n in text.split("\n")[3].lower().split()]
        assert len(record.days) == len(rows)
        for name, series in record.forcing.items():
            wanted = np.array([float(r[names.index(name)]) for r in rows], np.float32)
            np.testing.assert_array_equal(series, wanted)
        at = [names.index(n) for n in ("year", "mnth", "day")]
        wrote = ["-".join(f"{int(float(r[i])):02d}" for i in at) for r in rows]
        assert list(map(str, record.days)) == wrote
    elif part == "q":
        rows = [line.split() for line in text.split("\n")[:-1]]
        there = {tuple(int(float(f)) for f in r[1:4]): float(r[4]) for r in rows}
        for day, q in zip(record.days, record.qobs, strict=True):
            stamp = day.astype(object)
            wanted = there.get((stamp.year, stamp.month, stamp.day), -1)
            depth = wanted * 0.3048**3 * 86_400_000 / AREA if wanted >= 0 else np.nan
            np.testing.assert_allclose(q, depth, rtol=1e-6)
    elif part == "sacsma":
        header, *rows = [line.split() for line in text.split("\n")[:-1]]
        names = [name.lower() for name in header]
        at = [names.index(n) for n in ("yr", "mnth", "dy", "mod_run")]
        runs = {tuple(int(float(r[i])) for i in at[:3]): float(r[at[3]]) for r in rows}
        assert record.qsim_sacsma is not None
        for day, run in zip(record.days, record.qsim_sacsma, strict=True):
            stamp = day.astype(object)
            wanted = runs.get((stamp.year, stamp.month, stamp.day), -1)
            np.testing.assert_array_equal(run, np.float32(wanted) if wanted >= 0 else np.nan)
    else:
        assert record.swe is not None and len(record.swe) == 12
        assert not (record.swe < 0).any()
