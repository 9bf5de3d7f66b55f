"""Periods on a calendar, warm-up and the common mask, by brute force."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.data.features import INPUT_UNITS, inputs_of
from study.data.splits import day_range, warmed_up
from study.spec import DataSpec, Period, PeriodsSpec


@given(st.dates(datetime.date(1900, 1, 1)), st.integers(0, 900), st.integers(0, 900))
def test_day_range_counts_both_ends(first: datetime.date, before: int, length: int) -> None:
    try:
        start = first + datetime.timedelta(days=before)
        end = start + datetime.timedelta(days=length)
    except OverflowError:
        return
    span = day_range(Period(start=start, end=end), first)
    days = [first + datetime.timedelta(days=i) for i in (span.start, span.stop - 1)]
    assert days == [start, end]


@given(
    basins=st.integers(1, 4),
    days=st.integers(1, 60),
    warmup=st.integers(0, 70),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_day_is_warm_if_it_and_all_days_before_are_valid(
    basins: int, days: int, warmup: int, share: float, seed: int
) -> None:
    valid = np.random.default_rng(seed).random((basins, days)) < share
    wanted = np.zeros_like(valid)
    for basin in range(basins):
        for day in range(warmup, days):
            wanted[basin, day] = valid[basin, day - warmup : day + 1].all()
    np.testing.assert_array_equal(warmed_up(valid, warmup), wanted)


@pytest.mark.parametrize(
    ("snow", "statics", "dynamic", "static"),
    [
        ("off", "on", ("prcp", "tmax"), ("p_mean",)),
        ("off", "off", ("prcp", "tmax"), ()),
        ("simulated", "on", ("prcp", "tmax", "swe_simulated"), ("p_mean",)),
        ("observed", "on", ("prcp", "tmax", "swe"), ("p_mean",)),
    ],
)
def test_levels_become_inputs(
    snow: str, statics: str, dynamic: tuple[str, ...], static: tuple[str, ...]
) -> None:
    periods = PeriodsSpec.model_validate(
        {"train": "1990-01-01:1991-01-01", "validation": "1992-01-01:1993-01-01"}
    )
    data = DataSpec(forcing=("prcp", "tmax"), attributes=("p_mean",), periods=periods)
    inputs = inputs_of({"snow": snow, "statics": statics, "shyft": "off"}, data)
    assert inputs.dynamic == dynamic and inputs.static == static
    assert set(inputs.dynamic) <= set(INPUT_UNITS)
