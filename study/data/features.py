"""What an arm's model sees: factor levels turned into names of daily inputs and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from study.spec import DataSpec

SNOW_INPUTS: Mapping[str, tuple[str, ...]] = {
    "off": (),
    "simulated": ("swe_simulated",),
    "observed": ("swe",),
}
"""Level of the factor `snow` -> daily inputs it adds."""

INPUT_UNITS: Mapping[str, str] = {
    "prcp": "mm/d",
    "srad": "W/m2",
    "tmax": "degC",
    "tmin": "degC",
    "vp": "Pa",
    "dayl": "s",
    "swe": "mm",
    "swe_simulated": "mm",
}
"""Daily inputs that a model may see, and the units it expects them in."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Names of a model's inputs, in the order it is fed with them."""

    dynamic: tuple[str, ...]
    """Daily series."""
    static: tuple[str, ...]
    """Static attributes; empty without them."""


def inputs_of(levels: Mapping[str, str], data: DataSpec) -> Inputs:
    """Inputs of the arm with these factor levels."""
    return Inputs(
        dynamic=data.forcing + SNOW_INPUTS[levels["snow"]],
        static=data.attributes if levels["statics"] == "on" else (),
    )
