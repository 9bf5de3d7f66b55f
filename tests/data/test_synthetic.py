"""Invented catchments: the layout of the real data, closed balances, snow that tells something."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.data.synthetic import files, synthesize
from study.data.synthetic.attributes import baseflow
from study.data.synthetic.basins import REGIONS, draw_basins
from study.data.synthetic.record import Record, make_record, round_discharge, shuffle_winters
from study.data.synthetic.weather import water_years
from study.errors import DataError, InputError

FORCING_HEADER = (
    "Year\tMnth\tDay\tHr\tdayl(s)\tprcp(mm/day)\tsrad(W/m2)\tswe(mm)\ttmax(C)\ttmin(C)\tvp(Pa)"
)
TABLE_HEADERS = {
    "clim": "gauge_id;p_mean;pet_mean;p_seasonality;frac_snow;aridity;high_prec_freq;"
    "high_prec_dur;high_prec_timing;low_prec_freq;low_prec_dur;low_prec_timing",
    "geol": "gauge_id;geol_1st_class;glim_1st_class_frac;geol_2nd_class;glim_2nd_class_frac;"
    "carbonate_rocks_frac;geol_porostiy;geol_permeability",
    "hydro": "gauge_id;q_mean;runoff_ratio;slope_fdc;baseflow_index;stream_elas;q5;q95;"
    "high_q_freq;high_q_dur;low_q_freq;low_q_dur;zero_q_freq;hfd_mean",
    "name": "gauge_id;huc_02;gauge_name",
    "soil": "gauge_id;soil_depth_pelletier;soil_depth_statsgo;soil_porosity;soil_conductivity;"
    "max_water_content;sand_frac;silt_frac;clay_frac;water_frac;organic_frac;other_frac",
    "topo": "gauge_id;gauge_lat;gauge_lon;elev_mean;slope_mean;area_gages2;area_geospa_fabric",
    "vege": "gauge_id;frac_forest;lai_max;lai_diff;gvf_max;gvf_diff;dom_land_cover_frac;"
    "dom_land_cover;root_depth_50;root_depth_99",
}


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(12, 12, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "camels"
    synthesize(out, basins=4, years=3, seed=5)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def table(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "camels_attributes_v2.0" / f"camels_{name}.txt"
    return pd.read_csv(path, sep=";", dtype={"gauge_id": str, "huc_02": str}, index_col="gauge_id")


# Layout


def test_files_lie_where_the_readers_of_the_real_data_look(folder: Path) -> None:
    gauge_ids = (folder / "basins.txt").read_text().split()
    expected = {"basins.txt"}
    expected |= {f"camels_attributes_v2.0/camels_{name}.txt" for name in TABLE_HEADERS}
    for gauge_id in gauge_ids:
        huc = gauge_id[:2]
        expected |= {
            f"basin_mean_forcing/maurer_extended/{huc}/{gauge_id}_lump_maurer_forcing_leap.txt",
            f"usgs_streamflow/{huc}/{gauge_id}_streamflow_qc.txt",
            f"swe_uaz/{gauge_id}_swe.csv",
        }
    assert set(contents(folder)) == expected


def test_gauge_ids_have_eight_digits_and_keep_leading_zeros(record: Record) -> None:
    gauge_ids = record.basins.gauge_ids
    assert all(len(gauge_id) == 8 and gauge_id.isdigit() for gauge_id in gauge_ids)
    assert len(set(gauge_ids)) == 12
    assert any(gauge_id.startswith("0") for gauge_id in gauge_ids)
    assert len({gauge_id[:2] for gauge_id in gauge_ids}) == 6


@pytest.mark.parametrize("name", TABLE_HEADERS)
def test_attribute_tables_have_the_published_columns(folder: Path, name: str) -> None:
    text = (folder / "camels_attributes_v2.0" / f"camels_{name}.txt").read_text()
    assert text.splitlines()[0] == TABLE_HEADERS[name]
    published = table(folder, name)
    assert list(published.index) == (folder / "basins.txt").read_text().split()
    assert not published.drop(columns="geol_2nd_class", errors="ignore").isna().any(axis=None)


def test_forcing_file_has_three_lines_of_site_and_a_table(folder: Path) -> None:
    path = sorted(folder.glob("basin_mean_forcing/*/*/*"))[0]
    lines = path.read_text().splitlines()
    topography = table(folder, "topo").loc[path.name[:8]]
    assert float(lines[0]) == pytest.approx(topography["gauge_lat"], abs=0.01)
    assert float(lines[1]) == pytest.approx(topography["elev_mean"], abs=0.01)
    assert int(lines[2]) == pytest.approx(topography["area_gages2"] * 1e6, rel=1e-6)
    assert lines[3] == FORCING_HEADER
    assert lines[4].startswith("1980\t10\t1\t12\t")
    assert lines[-1].startswith("1983\t9\t30\t12\t")
    assert len(lines) == 4 + 3 * 365


def test_streamflow_file_has_the_published_line_format(folder: Path) -> None:
    for path in folder.glob("usgs_streamflow/*/*"):
        lines = path.read_text().splitlines()
        assert len(lines) == 3 * 365
        assert lines[0].startswith(f"{path.name[:8]} 1980 10 01 ")
        for line in lines:
            gauge_id, year, month, day, value, flag = line.split()
            assert line == f"{gauge_id} {year} {month} {day} {float(value):8.2f} {flag}"
            assert flag == "M" if value == "-999.00" else flag in {"A", "A:e"}


def test_swe_file_is_complete_and_leaves_snodas_empty(folder: Path) -> None:
    for path in folder.glob("swe_uaz/*"):
        lines = path.read_text().splitlines()
        assert lines[0] == "date,uaz_swe,snodas_swe"
        assert lines[1].startswith("1980-10-01,") and lines[1].endswith(",")
        swe = pd.read_csv(path, parse_dates=["date"])
        assert len(swe) == 3 * 365
        assert swe["uaz_swe"].ge(0.0).all()
        assert swe["snodas_swe"].isna().all()


# Reproducibility


def test_same_arguments_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "again", basins=4, years=3, seed=5)
    assert contents(tmp_path / "again") == contents(folder)


def test_another_seed_gives_other_series(folder: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "other", basins=4, years=3, seed=6)
    other = contents(tmp_path / "other")
    same = [name for name, text in contents(folder).items() if other[name] == text]
    assert same == ["basins.txt"] or set(same) == {
        "basins.txt",
        "camels_attributes_v2.0/camels_name.txt",
    }


def test_a_basin_does_not_depend_on_the_number_of_basins(folder: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "fewer", basins=2, years=3, seed=5)
    fewer, more = contents(tmp_path / "fewer"), contents(folder)
    for name, text in fewer.items():
        if name == "basins.txt" or name.startswith("camels_attributes"):
            assert more[name].startswith(text)
        else:
            assert more[name] == text


# Hydrology


def test_water_is_neither_made_nor_lost(record: Record) -> None:
    truth = record.truth
    fallen = record.weather.precipitation.sum(axis=0)
    left = truth.discharge.sum(axis=0) + truth.aet.sum(axis=0)
    stored = truth.end.total - truth.start.total
    np.testing.assert_allclose(left + stored, fallen, rtol=1e-9)


def test_fluxes_and_stores_are_never_negative(record: Record) -> None:
    truth = record.truth
    for series in (truth.discharge, truth.aet, truth.swe, record.precipitation):
        assert series.min() >= 0.0


def test_half_of_the_basins_are_snowy_and_some_hardly_know_snow(tmp_path: Path) -> None:
    synthesize(tmp_path / "camels", basins=12, years=12)
    snow = table(tmp_path / "camels", "clim")["frac_snow"]
    assert 5 <= (snow > 0.4).sum() <= 7
    assert (snow < 0.05).sum() >= 2
    signatures = table(tmp_path / "camels", "hydro")
    assert signatures["runoff_ratio"].between(0.2, 0.8).all()
    assert signatures["baseflow_index"].between(0.3, 0.9).all()


def test_discharge_remembers_yesterday_like_real_rivers(record: Record) -> None:
    flow = np.log(record.discharge)
    memory = [np.corrcoef(series[:-1], series[1:])[0, 1] for series in flow.T]
    assert min(memory) > 0.85 and max(memory) < 0.998


def test_snowy_basins_peak_in_spring(record: Record) -> None:
    flow = pd.DataFrame(record.discharge).groupby(np.asarray(record.dates.month)).mean()
    snowy = [region.temperature < 4.0 for region in record.basins.regions]
    assert set(flow.idxmax()[snowy]) <= {4, 5, 6}


def test_snow_melts_every_summer(record: Record) -> None:
    assert record.truth.swe[np.asarray(record.dates.month) == 9].max() < 25.0


def test_weather_is_consistent(record: Record) -> None:
    weather = record.weather
    assert (weather.tmin < weather.tmax).all()
    assert weather.day_length.min() > 6 * 3600 and weather.day_length.max() < 18 * 3600
    assert weather.srad.min() > 0.0 and weather.srad.max() < 900.0
    wet = weather.precipitation > 0.0
    assert weather.srad[wet].mean() < weather.srad[~wet].mean()
    fallen = weather.precipitation.mean(axis=0)
    np.testing.assert_allclose(fallen, record.basins.climate.precipitation, rtol=0.3)


def test_days_are_twelve_hours_long_at_the_equinox(record: Record) -> None:
    equinox = record.dates.strftime("%m-%d") == "03-21"
    assert record.weather.day_length[equinox] == pytest.approx(12 * 3600, rel=0.01)


def test_every_region_is_used_once_there_are_basins_enough() -> None:
    drawn = draw_basins(36, seed=1)
    assert {region.huc for region in drawn.regions} == {region.huc for region in REGIONS}
    assert len({region.huc for region in REGIONS}) == 18


def test_attributes_stay_within_their_meaning() -> None:
    landscape = draw_basins(200, seed=1).landscape
    for share in (landscape.frac_forest, landscape.gvf_max, landscape.carbonate_rocks_frac):
        assert share.min() >= 0.0 and share.max() <= 1.0
    texture = landscape.sand_frac + landscape.silt_frac + landscape.clay_frac
    assert min(landscape.silt_frac.min(), landscape.clay_frac.min()) > 0.0
    assert texture.max() <= 100.0
    assert (landscape.lai_diff < landscape.lai_max).all()


def test_baseflow_of_a_steady_river_is_all_of_it() -> None:
    steady = np.full((50, 2), 3.0)
    np.testing.assert_array_equal(baseflow(steady), steady)


# Measurement


def test_gauges_miss_snow_and_only_snow(record: Record) -> None:
    snowfall = record.weather.snowfall
    missed = record.weather.precipitation - record.precipitation
    assert missed.min() >= -1e-9
    assert np.abs(missed[snowfall == 0.0]).max() == 0.0
    catch = 1.0 - missed[snowfall > 0.0].sum() / snowfall.sum()
    assert 0.55 < catch < 0.8


def test_catch_varies_from_winter_to_winter(record: Record) -> None:
    snowfall = record.weather.snowfall
    missed = record.weather.precipitation - record.precipitation
    year = water_years(record.dates)
    catch = 1.0 - np.stack(
        [missed[year == y].sum(axis=0) / snowfall[year == y].sum(axis=0) for y in range(12)]
    )
    assert (catch.std(axis=0) / catch.mean(axis=0)).mean() > 0.2


def test_snow_pack_tells_more_of_a_year_than_published_precipitation(record: Record) -> None:
    year = water_years(record.dates)
    flow, published = (
        np.stack([series[year == y].sum(axis=0) for y in range(12)])
        for series in (record.truth.discharge, record.precipitation)
    )
    peak = np.stack([record.truth.swe[year == y].max(axis=0) for y in range(12)])
    snowy = [basin for basin, r in enumerate(record.basins.regions) if r.temperature < 4.0]
    told_by_snow = [np.corrcoef(flow[:, b], peak[:, b])[0, 1] for b in snowy]
    told_by_gauge = [np.corrcoef(flow[:, b], published[:, b])[0, 1] for b in snowy]
    assert np.median(told_by_snow) > np.median(told_by_gauge) + 0.05


def test_gaps_come_in_runs_and_spare_some_basins(record: Record) -> None:
    share = record.gap.mean(axis=0)
    assert (share == 0.0).sum() == 4
    assert share[share > 0.0].min() >= 0.03
    assert share.max() < 0.06
    for gap in record.gap.T[share > 0.0]:
        begins = np.count_nonzero(gap[1:] & ~gap[:-1]) + int(gap[0])
        assert gap.sum() / begins >= 5


@pytest.mark.parametrize(
    ("cfs", "rounded"),
    [
        (0.0, 0.0),
        (0.004, 0.0),
        (0.456, 0.46),
        (4.56, 4.6),
        (45.6, 46.0),
        (456.4, 456.0),
        (4564.0, 4560.0),
        (45640.0, 45600.0),
    ],
)
def test_discharge_is_rounded_like_published_series(cfs: float, rounded: float) -> None:
    assert round_discharge(np.array([cfs])) == pytest.approx(rounded)


# The control: snow without a signal


def test_without_snow_signal_only_the_swe_files_change(folder: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "control", basins=4, years=3, seed=5, snow_signal=False)
    control = contents(tmp_path / "control")
    original = contents(folder)
    assert set(control) == set(original)
    changed = {name for name, text in original.items() if control[name] != text}
    assert changed == {name for name in original if name.startswith("swe_uaz/")}


def test_shuffled_winters_are_other_winters(record: Record) -> None:
    shuffled = shuffle_winters(record, seed=1)
    year = water_years(record.dates)
    for basin in range(shuffled.shape[1]):
        true, other = (
            [series[year == y, basin][:365] for y in range(12)]
            for series in (record.truth.swe, shuffled)
        )
        source = [
            next(y for y, winter in enumerate(true) if np.array_equal(winter, o)) for o in other
        ]
        assert sorted(source) == list(range(12))
        assert all(a != b for a, b in enumerate(source))


def test_shuffled_winters_do_not_follow_the_true_anomalies(record: Record) -> None:
    day = record.dates.strftime("%m-%d")
    true, shuffled = (
        pd.DataFrame(series).groupby(day).transform(lambda days: days - days.mean())
        for series in (record.truth.swe, shuffle_winters(record, seed=1))
    )
    correlation = true.corrwith(shuffled)
    assert abs(correlation.mean()) < 0.25
    assert correlation.max() < 0.7


# What can go wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"basins": 1}, "basins must be from 2 to 200, not 1"),
        ({"basins": 201}, "basins must be from 2 to 200, not 201"),
        ({"years": 1}, "years must be from 2 to 60, not 1"),
        ({"years": 61}, "years must be from 2 to 60, not 61"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
    ],
)
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        synthesize(tmp_path / "camels", **arguments)
    assert not any(tmp_path.iterdir())


def test_a_folder_in_use_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="not an empty folder") as caught:
        synthesize(tmp_path, basins=2, years=2)
    assert str(tmp_path) in str(caught.value)
    assert contents(tmp_path) == {"mine.txt": b"precious"}


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "camels").write_text("precious")
    with pytest.raises(DataError, match="not an empty folder"):
        synthesize(tmp_path / "camels", basins=2, years=2)


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "camels").mkdir()
    synthesize(tmp_path / "camels", basins=2, years=2)
    assert [path.name for path in tmp_path.iterdir()] == ["camels"]
    assert (tmp_path / "camels" / "basins.txt").exists()


def test_nothing_is_left_behind_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "attribute_tables", full_disk)
    with pytest.raises(DataError, match="No space left on device"):
        synthesize(tmp_path / "camels", basins=2, years=2)
    assert not any(tmp_path.iterdir())


def test_nothing_is_left_behind_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "attribute_tables", interrupt)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "camels", basins=2, years=2)
    assert not any(tmp_path.iterdir())
