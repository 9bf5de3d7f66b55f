"""What an arm's model sees: factor levels turned into names of daily inputs and attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.spec import PLACEBO, DataSpec, OwnLevels, feed, find_level

SHYFT_FEATURES: Mapping[str, str] = {
    "shyft_discharge": "mm/d",
    "shyft_swe": "mm",
    "shyft_sca": "1",
    "shyft_aet": "mm/d",
    "shyft_outflow": "mm/d",
    "shyft_storage": "mm",
}
"""Daily series that Shyft gives, and their units; `outflow` is what leaves the snow, `storage` the
water below it relative to its mean on the training days. A day's value is that of its end."""

INPUT_UNITS: Mapping[str, str] = {
    "prcp": "mm/d",
    "srad": "W/m2",
    "tmax": "degC",
    "tmin": "degC",
    "vp": "Pa",
    "dayl": "s",
    "swe": "mm",
    "swe_simulated": "mm",
    **SHYFT_FEATURES,
}
"""Daily inputs that have a unit whatever the store; others are in the unit that it states."""


INPUT_LIMITS: Mapping[str, tuple[float, float]] = {
    "prcp": (0, 2000),
    "srad": (0, 1000),
    "tmax": (-90, 65),
    "tmin": (-90, 65),
    "vp": (0, 10_000),
    "dayl": (0, 86_400),
    "swe": (0, 50_000),
    "swe_simulated": (0, 50_000),
    "shyft_discharge": (0, 5000),
    "shyft_swe": (0, 50_000),
    "shyft_sca": (-0.001, 1.001),
}
"""Daily inputs -> values in `INPUT_UNITS` beyond which there is a mistake, such as other units."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Names of a model's inputs, in the order it is fed with them."""

    dynamic: tuple[str, ...]
    """Daily series."""
    static: tuple[str, ...]
    """Static attributes; empty without them."""
    baseline: str | None = None
    """Simulated discharge (mm/d) that the network's output is added to: the network predicts the
    residual `qobs - baseline`, and sees the baseline only if it is an input as well."""

    @property
    def daily(self) -> tuple[str, ...]:
        """Every daily series that must be there."""
        return tuple(dict.fromkeys((*self.dynamic, *([self.baseline] if self.baseline else []))))


def inputs_of(levels: Mapping[str, str], data: DataSpec, own: OwnLevels | None = None) -> Inputs:
    """Inputs of the arm with these factor levels.

    Args:
        levels: Factor -> level.
        data: Forcing and attributes that all arms begin from.
        own: What levels of one's own change, by names that the store has.
    """
    changes = [find_level(factor, level, own or {}) for factor, level in levels.items()]
    dynamic, static, baseline = feed(changes, data.forcing, data.attributes)
    return Inputs(dynamic=dynamic, static=static, baseline=baseline)


def source_of(name: str) -> str:
    """The store's series that an input is read from: its own, or that of a placebo."""
    placebo = PLACEBO.fullmatch(name)
    return placebo[1] if placebo else name


def union(inputs: Sequence[Inputs]) -> Inputs:
    """All inputs that any of these models sees, in order of first appearance."""
    return Inputs(
        dynamic=tuple(dict.fromkeys(n for i in inputs for n in i.dynamic)),
        static=tuple(dict.fromkeys(n for i in inputs for n in i.static)),
        baseline=next((i.baseline for i in inputs if i.baseline), None),
    )
