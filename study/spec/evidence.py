"""What a study compares, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from study.spec.base import SpecModel, shown
from study.spec.factors import Factors, on_off

SPLIT_ATTRIBUTES = ("frac_snow", "aridity")
"""Attributes that basins may be told apart by though no model sees them."""


def _side(value: Any) -> Any:
    if value is None:
        return None
    value = on_off(value)
    levels = list(value.values()) if isinstance(value, dict) else [value]
    if not all(isinstance(level, str) for level in levels):
        raise ValueError(f"must be a level, or an arm's factors, but is {shown(value)}")
    return value


Side = Annotated[str | dict[str, str] | None, BeforeValidator(_side)]


class ContrastSpec(SpecModel):
    """One declared comparison, or a family of them. `factor` from level `b` to level `a`, in every
    arm that has both; or two arms named by their factors; or an arm and all that differ from it in
    one factor."""

    factor: str | None = None
    """The factor whose levels `a` and `b` are compared, in every arm that has both."""
    a: Side = None
    """A level, or an arm by its factors."""
    b: Side = None
    """What it is compared with."""
    leave_one_out: Factors | None = None
    """The whole, by its factors: what it has over every arm that differs in one of them."""
    add_one_in: Factors | None = None
    """The base, by its factors: what every arm that differs in one of them has over it."""

    @model_validator(mode="after")
    def _one_form(self) -> ContrastSpec:
        forms = {("factor", "a", "b"): str, ("a", "b"): dict,
                 ("leave_one_out",): dict, ("add_one_in",): dict}  # fmt: skip
        given = self.model_dump(exclude_none=True)
        kind = forms.get(tuple(given))
        sides = [value for key, value in given.items() if key != "factor"]
        if kind is None or not all(isinstance(side, kind) for side in sides):
            raise ValueError(
                "write `{factor: snow, a: observed, b: off}`, or two arms by their factors: "
                "`{a: {model: lstm, snow: observed}, b: {model: ealstm, snow: observed}}`, or "
                "`{leave_one_out: {model: lstm, snow: observed}}`, or `{add_one_in: {model: lstm}}`"
            )
        return self

    @property
    def centre(self) -> dict[str, str] | None:
        """The arm of which one factor at a time is changed, if the contrast is such a family."""
        return self.add_one_in if self.leave_one_out is None else self.leave_one_out

    @property
    def arms(self) -> list[dict[str, str]]:
        """The arms that are named by their factors."""
        named = (self.a, self.b, self.leave_one_out, self.add_one_in)
        return [side for side in named if isinstance(side, dict)]

    def written(self) -> str:
        """As in the file."""
        content = self.model_dump(exclude_none=True)
        return ", ".join(f"{key}: {value}" for key, value in content.items())


class SplitSpec(SpecModel):
    """Two parts of the basins; every contrast is told for each of them, too."""

    attribute: str = "frac_snow"
    """One of `data.attributes`, or `frac_snow` or `aridity`; as published, whatever
    `data.attributes_source` says."""
    at: float
    """Where the two parts meet: basins with this value are in the upper one."""

    @property
    def names(self) -> tuple[str, str]:
        """Of the parts, as tables and figures have them."""
        return f"{self.attribute} < {self.at:g}", f"{self.attribute} ≥ {self.at:g}"


class EvidenceSpec(SpecModel):
    """How differences are judged."""

    equivalence: float = Field(0.01, ge=0)
    """Differences of NSE within ± this are of no practical importance."""
    repetitions: int = Field(2000, ge=200)
    """Bootstrap repetitions."""
    split: SplitSpec | None = None
    """In which basins a difference is: `{attribute: frac_snow, at: 0.3}`; none if left out."""


def differing(levels: Mapping[str, str], others: Mapping[str, str]) -> int:
    """In how many factors two arms differ."""
    return sum(levels[factor] != others[factor] for factor in levels)
