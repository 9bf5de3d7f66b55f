"""Synthetic basins look like basins, and a network learns from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from study.data.arrays import assemble
from study.data.features import inputs_of
from study.data.store import build_camels_us
from study.data.synthetic import synthesize
from study.evaluation.metrics import nse
from study.evaluation.simulate import simulate_period
from study.spec import parse_spec
from study.training.loop import DeviceData, Trainer

from .signatures import Signatures, signatures

INSIDE = 0.85
"""Share of the synthetic basins that must lie between the extremes of the real ones."""
SNOWY = 0.5
"""Share of precipitation that falls as snow, from which on the melt makes a basin's regime."""

NAMES = (
    *(f"flow exceeded on {e} % of days" for e in (1, 10, 30, 50, 70, 90)),
    *("wettest month", "driest month", "seasonality"),
    *(f"autocorrelation at {lag} d" for lag in (1, 7, 30)),
    "runoff ratio",
)

LEARNING = {
    "name": "learning",
    "data": {
        "periods": {
            "train": "1981-10-01:1990-09-30",
            "validation": "1990-10-01:1995-09-30",
        },
    },
    "training": {
        "epochs": 20,
        "batch_size": 8,
        "hidden_size": 16,
        "learning_rate": 0.02,
    },
}


@pytest.fixture(scope="module")
def real(camels_root: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Signatures:
    if camels_root is None:
        pytest.skip("needs CAMELS-US: set CAMELS_US_ROOT to its folder")
    return signatures(build_camels_us(camels_root, tmp_path_factory.mktemp("real") / "us.zarr"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize(folder / "camels", basins=24, years=15)
    return build_camels_us(folder / "camels", folder / "synthetic.zarr")


@pytest.fixture(scope="module")
def synthetic(store: xr.Dataset) -> Signatures:
    return signatures(store)


@pytest.mark.parametrize("name", NAMES)
def test_signature_lies_within_the_range_of_real_basins(
    name: str, real: Signatures, synthetic: Signatures
) -> None:
    invented, measured = synthetic.table()[name], real.table()[name]
    inside = (invented >= measured.min()) & (invented <= measured.max())
    assert measured.min() < np.median(invented) < measured.max()
    assert inside.mean() >= INSIDE


def test_snow_melts_in_the_months_of_real_basins(real: Signatures, synthetic: Signatures) -> None:
    months = [regimes.regime[regimes.frac_snow > SNOWY].argmax(axis=1) + 1
              for regimes in (real, synthetic)]  # fmt: skip
    measured, invented = months
    assert len(measured) >= 10 and len(invented) >= 5
    assert set(invented) <= set(measured)
    # On the average, for they still lag: the mean regime peaks in May, that of real ones in June.
    assert abs(invented.mean() - measured.mean()) <= 0.4


def test_basins_differ_as_much_as_real_ones(real: Signatures, synthetic: Signatures) -> None:
    """Lying within a range is easy for basins that are all alike."""
    for name in ("flow exceeded on 90 % of days", "seasonality", "autocorrelation at 7 d"):
        invented, measured = synthetic.table()[name], real.table()[name]
        assert np.ptp(invented) > np.ptp(measured) / 2, name


def test_a_network_learns_from_synthetic_basins(store: xr.Dataset) -> None:
    """As from real ones: within seconds far above the mean flow, and better with more passes."""
    spec = parse_spec(LEARNING, "the learning test")
    inputs = inputs_of({"snow": "off", "statics": "on", "shyft": "off"}, spec.data)
    data = DeviceData(assemble(store, spec, inputs))
    trainer = Trainer(data, model="lstm", inputs=inputs, config=spec.training, seed=1)
    curve = []
    for _ in range(spec.training.epochs):
        trainer.run_epoch()
        sim = simulate_period(trainer.model, data, inputs, spec.training, "validation")
        curve.append(float(np.median(nse(sim=sim, obs=data.arrays.observed("validation")))))
    print("validation NSE, median, by pass:", *(f"{score:.2f}" for score in curve))
    assert curve[-1] > 0.5
    assert curve[-1] > np.median(curve[:5]) + 0.1
