"""Units on their way to Shyft and back, against hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from study.errors import InputError
from study.shyft.calibration import convert
from study.shyft.forcing import saturation_pressure, shyft_forcing
from study.shyft.stacks import REFUSED, STACKS, find_stack

ONE_DAY = {"prcp": 48.0, "srad": 300.0, "dayl": 28_800.0, "tmax": 14.0, "tmin": 6.0, "vp": 614.0}


def converted(**changes: float) -> dict[str, float]:
    series = {name: np.array([value]) for name, value in (ONE_DAY | changes).items()}
    return {name: float(values[0]) for name, values in shyft_forcing(series).items()}


def test_forcing_by_hand() -> None:
    """48 mm a day are 2 mm an hour; 300 W/m2 over 8 of 24 hours are 100 W/m2."""
    found = converted()
    assert found["precipitation"] == 2.0
    assert found["radiation"] == 100.0
    assert found["temperature"] == 10.0
    # Saturated air of 10 degC has 1228 Pa, so 614 Pa are half of it.
    assert found["rel_hum"] == pytest.approx(0.5, abs=2e-3)
    assert found["wind_speed"] == 2.0


def test_humidity_stays_a_share() -> None:
    assert converted(vp=5000.0)["rel_hum"] == 1.0
    assert converted(vp=0.0)["rel_hum"] > 0


def test_saturation_pressure_at_known_temperatures() -> None:
    """World Meteorological Organization's table: 611 Pa at 0 degC, 2339 Pa at 20 degC."""
    assert saturation_pressure(np.array([0.0, 20.0])) == pytest.approx([611, 2339], rel=2e-3)


def test_series_by_hand() -> None:
    """On 8.64 km2, 0.1 m3/s are 1 mm a day; 0.05 mm an hour are 1.2 mm a day."""
    series = {
        "discharge": np.array([0.1, 0.2]),
        "outflow": np.array([0.4, 0.3]),
        "aet": np.array([0.05, 0.0]),
        "swe": np.array([7.0, 8.0]),
        "sca": np.array([0.5, 1.0]),
    }
    found = convert(series, 8.64e6, (0, 2))
    assert found["shyft_discharge"] == pytest.approx([1.0, 2.0])
    assert found["shyft_outflow"] == pytest.approx([4.0, 3.0])
    assert found["shyft_aet"] == pytest.approx([1.2, 0.0])
    # 4 - 1.2 - 1 = 1.8 stay on the first day, 3 - 2 = 1 on the second; the mean is 2.3.
    assert found["shyft_storage"] == pytest.approx([-0.5, 0.5])


def test_unknown_stack_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean `pt_st_k`"):
        find_stack("pt_st_kk")


def test_stack_that_loses_water_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="does not conserve mass"):
        find_stack("pt_hps_k")
    assert not set(REFUSED) & set(STACKS)


def test_bounds_are_ranges() -> None:
    for stack in STACKS.values():
        assert all(low < high for low, high in stack.bounds.values())
        assert set(stack.series) == {"discharge", "swe", "sca", "aet", "outflow"}
