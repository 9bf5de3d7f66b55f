"""Which data a study uses, and on which days it trains, selects and tests."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from study.errors import InputError
from study.spec.base import SpecModel, shown

KRATZERT_2019: tuple[str, ...] = (
    *("p_mean", "pet_mean", "aridity", "p_seasonality", "frac_snow"),
    *("high_prec_freq", "high_prec_dur", "low_prec_freq", "low_prec_dur"),
    *("elev_mean", "slope_mean", "area_gages2"),
    *("frac_forest", "lai_max", "lai_diff", "gvf_max", "gvf_diff"),
    *("soil_depth_pelletier", "soil_depth_statsgo", "soil_porosity", "soil_conductivity"),
    *("max_water_content", "sand_frac", "silt_frac", "clay_frac"),
    *("carbonate_rocks_frac", "geol_permeability"),
)
"""The 27 static attributes of Kratzert et al. (2019), doi 10.5194/hess-23-5089-2019."""

SNOW_SERIES = ("swe", "swe_simulated")
"""Daily inputs that come by the factor `snow`, not by the forcing."""

SHYFT_PREFIX = "shyft_"
"""Names of daily inputs that come by the factor `shyft` begin with it."""


class Period(SpecModel):
    """Scored days, both ends included. In YAML: `1999-10-01:2008-09-30`."""

    start: datetime.date
    """First day."""
    end: datetime.date
    """Last day."""

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, str):
            start, colon, end = value.partition(":")
            if not colon:
                raise ValueError("a period is written `first day:last day`, 1999-10-01:2008-09-30")
            return {"start": start.strip(), "end": end.strip()}
        if not isinstance(value, dict | Period):
            raise ValueError(
                f"a period is written `first day:last day`, 1999-10-01:2008-09-30, "
                f"but is {shown(value)}"
            )
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Period:
        if self.start > self.end:
            raise ValueError(f"a period's first day must not lie after its last ({self})")
        return self

    @model_serializer
    def __str__(self) -> str:
        return f"{self.start}:{self.end}"

    def overlaps(self, other: Period) -> bool:
        return self.start <= other.end and other.start <= self.end


def parse_period(text: str, option: str) -> Period:
    """A period given on the command line.

    Raises:
        InputError: It is none; the message names the option.
    """
    try:
        return Period.model_validate(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(
            f"{option} {text}: {reason}; write `first day:last day`, 1999-10-01:2008-09-30"
        ) from None


class PeriodsSpec(SpecModel):
    train: Period
    """Days that networks learn from and inputs are scaled by."""
    validation: Period
    """Days that hyperparameters, candidates and the winner are chosen on."""
    test: Period | None = None
    """Read by the confirmation stage only; without it a study reports validation."""

    @model_validator(mode="after")
    def _disjoint(self) -> PeriodsSpec:
        named = [(n, p) for n, p in self if p is not None]
        for i, (name, period) in enumerate(named):
            for other_name, other in named[:i]:
                if period.overlaps(other):
                    raise ValueError(
                        f"{other_name} ({other}) and {name} ({period}) overlap; "
                        "scored days may belong to one period only"
                    )
        return self


def _listed(value: Any) -> Any:
    if value == "kratzert2019":
        return KRATZERT_2019
    if isinstance(value, str):
        raise ValueError(f"must be a list of names, or kratzert2019, but is {shown(value)}")
    return value


def _all_or_ids(value: Any) -> Any:
    if value == "all":
        return value
    if not isinstance(value, list | tuple):
        raise ValueError(f'must be `all` or a list of gauge ids, ["01013500"], not {shown(value)}')
    if not value:
        raise ValueError("names no basin; list some, or write `all`")
    return _quoted_ids(value)


def _quoted_ids(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f'must be a list of gauge ids, ["01013500"], not {shown(value)}')
    wrong = [v for v in value if not isinstance(v, str)]
    if wrong:
        raise ValueError(
            f"YAML reads a gauge id that is not quoted as the number {shown(wrong[0])}, and may "
            'change it; put every id in quotes: ["01013500"]'
        )
    return value


class DataSpec(SpecModel):
    store: str | None = None
    """The Zarr store, relative to the spec file, or s3://...; `--data` wins over it."""
    basins: Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(_all_or_ids)] = "all"
    """Gauge ids (strings: quote them to keep leading zeros), or all of the store."""
    held_out: Annotated[tuple[str, ...], BeforeValidator(_quoted_ids)] = ()
    """Basins among them that no network is trained, scaled or selected on; if there are any, the
    test scores are theirs alone: prediction in ungauged basins."""
    forcing: tuple[str, ...] = Field(("prcp", "srad", "tmax", "tmin", "vp"), min_length=1)
    """Daily inputs of every arm, by the store's names; levels of factors add to them."""
    attributes: Annotated[tuple[str, ...], BeforeValidator(_listed)] = KRATZERT_2019
    """Static attributes: a list of names, or `kratzert2019` for the published 27."""
    attributes_source: Literal["published", "recomputed"] = "published"
    """Of the nine climate attributes: the published values span 1989 to 2009, so also test years;
    recomputed ones are of the training period's forcing."""
    periods: PeriodsSpec
    """Scored days of training, selection and the test."""
    missing_inputs: Literal["error", "mask"] = "error"
    """What a gap in an input does: stop and say where, or take the days it spoils from all arms."""

    @field_validator("forcing")
    @classmethod
    def _no_factors(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            factor = "snow" if name in SNOW_SERIES else "shyft"
            if name in SNOW_SERIES or name.startswith(SHYFT_PREFIX):
                raise ValueError(f"`{name}` comes by the factor `{factor}`; remove it here")
        return names

    @model_validator(mode="after")
    def _held_out_are_tested(self) -> DataSpec:
        if not self.held_out:
            return self
        if self.periods.test is None:
            raise ValueError("held_out basins are scored on test days only; add periods.test")
        absent = [b for b in self.held_out if self.basins != "all" and b not in self.basins]
        if absent:
            raise ValueError(f"held_out names {absent[0]}, which is not among data.basins; add it")
        if set(self.held_out) == set(self.basins):
            raise ValueError("held_out names all basins; leave some to train on")
        return self

    @field_validator("basins", "held_out", "forcing", "attributes")
    @classmethod
    def _unique(cls, values: Any) -> Any:
        if values != "all":
            repeated = sorted({v for v in values if values.count(v) > 1})
            if repeated:
                raise ValueError(f"named more than once: {', '.join(repeated)}")
        return values
