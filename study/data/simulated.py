"""Whether simulated inputs know more than the study that uses them may know."""

from __future__ import annotations

from typing import Any

import xarray as xr

from study.data.features import SHYFT_FEATURES, Inputs, source_of
from study.errors import DataError, SpecError
from study.spec import Period, StudySpec

SHYFT = "shyft"


def account_of(store: xr.Dataset, group: str) -> dict[str, Any]:
    """Where a group that was added to a store comes from; empty if the store was built with it."""
    account: dict[str, Any] = store.attrs.get("about", {}).get(group, {})
    return account


def check_calibration(store: xr.Dataset, spec: StudySpec, inputs: Inputs) -> None:
    """Shyft must have seen discharge of the study's training days and training basins only.

    Args:
        store: With the study's basins.
        spec: The study.
        inputs: Of all its arms; nothing is checked if none is Shyft's.

    Raises:
        SpecError: It has seen more.
        DataError: It failed on a basin of the study.
    """
    if not set(SHYFT_FEATURES) & {source_of(name) for name in inputs.daily}:
        return
    account = account_of(store, SHYFT)
    calibrated = Period.model_validate(account["train_period"])
    train = spec.data.periods.train
    again = f"calibrate again: `study shyft simulate STORE --train-period {train} --replace"
    if calibrated.start < train.start or calibrated.end > train.end:
        raise SpecError(
            f"Shyft was calibrated on discharge of {calibrated}, which is not all within the "
            f"training period ({train}): a held-out day would be known beforehand; change "
            f"data.periods.train, or {again}`"
        )
    known = sorted(set(spec.data.held_out) & set(account["calibrated"]))
    if known:
        raise SpecError(
            f"data.held_out names {known[0]}, whose discharge Shyft was calibrated on; hold out "
            f"other basins, or {again} --held-out FILE`"
        )
    failed = sorted(set(account["failed"]) & set(map(str, store["basin"].values)))
    if failed:
        raise DataError(
            f"basin {failed[0]}: Shyft failed on it, so that it has no simulated series "
            f"({account['failed'][failed[0]]}); leave the basin out (data.basins)"
        )
