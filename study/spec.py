"""The study's YAML file as frozen, validated objects.

`load_spec` is the only way in. A file that loads can be run: unknown keys, wrong types, impossible
ranges, unknown levels and overlapping periods are refused here, with the key and the cure.
"""

from __future__ import annotations

import datetime
import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from study.errors import SpecError

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

CANONICAL_FACTORS: Mapping[str, tuple[str, ...]] = {
    "model": ("lstm", "ealstm"),
    "statics": ("on", "off"),
    "snow": ("off", "observed"),
}
"""Factors that say what a model is and what it sees; the first level is the one taken when a
spec does not name the factor. Any other factor is a field of `TrainingSpec`."""

PROTOCOL_FIELDS = ("epochs", "warmup", "simulation")
"""Training fields that are part of the protocol: the same in every arm and trial."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Period(_Model):
    """Scored days, both ends included. In YAML: `1999-10-01:2008-09-30`."""

    start: datetime.date
    end: datetime.date

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, str):
            start, colon, end = value.partition(":")
            if not colon:
                raise ValueError("a period is written `first day:last day`, 1999-10-01:2008-09-30")
            return {"start": start.strip(), "end": end.strip()}
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


class PeriodsSpec(_Model):
    train: Period
    validation: Period
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
    return KRATZERT_2019 if value == "kratzert2019" else value


class DataSpec(_Model):
    store: str | None = None
    """The Zarr store, relative to the spec file; `--data` wins over it."""
    basins: Literal["all"] | tuple[str, ...] = "all"
    """Gauge ids (strings: quote them to keep leading zeros), or all of the store."""
    forcing: tuple[str, ...] = Field(("prcp", "srad", "tmax", "tmin", "vp"), min_length=1)
    attributes: Annotated[tuple[str, ...], BeforeValidator(_listed)] = KRATZERT_2019
    """Static attributes: a list of names, or `kratzert2019` for the published 27."""
    periods: PeriodsSpec
    missing_inputs: Literal["error", "mask"] = "error"
    """What a gap in an input does: stop and say where, or take the days it spoils from all arms."""

    @field_validator("basins", "forcing", "attributes")
    @classmethod
    def _unique(cls, values: Any) -> Any:
        if values != "all":
            repeated = sorted({v for v in values if values.count(v) > 1})
            if repeated:
                raise ValueError(f"named more than once: {', '.join(repeated)}")
        return values


class TrainingSpec(_Model):
    """One training job: hyperparameters and protocol. A trial's configuration is one of these."""

    epochs: int = Field(30, ge=1)
    """The cap: passes over the training days of a trial that halving never stops."""
    warmup: int = Field(365, ge=0)
    """Days fed before the first scored day."""
    targets_per_window: int = Field(365, ge=1)
    """Scored days in one training window; 1 is the classic sequence-to-one."""
    batch_size: int = Field(16, ge=1)
    """Windows in one optimiser step."""
    hidden_size: int = Field(64, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    """On the hidden state, before the head."""
    forget_bias: float = 3.0
    """Initial bias of the forget gate."""
    recurrent_init: Literal["orthogonal", "identity", "uniform"] = "orthogonal"
    loss: Literal["nse", "mse"] = "nse"
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(5e-3, gt=0)
    """The peak of a one-cycle schedule, the start of the others."""
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["one_cycle", "steps", "constant"] = "one_cycle"
    steps: dict[int, float] = {11: 0.5, 21: 0.1}
    """With `schedule: steps`: from this epoch on (counted from 1), this share of the learning rate.
    The default is the papers': 1e-3, 5e-4 from epoch 11, 1e-4 from epoch 21."""
    clip_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""
    simulation: Literal["continuous", "windows"] = "continuous"
    """How a period is simulated: in one pass over its days, or, as the papers do, window by
    window, each with its own warm-up."""


class RangeSpec(_Model):
    """A numeric range of a hyperparameter, both ends included."""

    low: float
    high: float
    log: bool = False
    """Sampled uniformly in the logarithm."""

    @model_validator(mode="after")
    def _possible(self) -> RangeSpec:
        if not self.low < self.high:
            raise ValueError(f"`low < high` must hold, but got low={self.low}, high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"`low > 0` must hold with `log: true`, but got low={self.low}")
        return self


Scalar = bool | int | float | str
ChoicesSpec = Annotated[tuple[Scalar, ...], Field(min_length=2)]


class SearchSpec(_Model):
    space: dict[str, RangeSpec | ChoicesSpec] = {}
    """Hyperparameter -> range or list of choices; the same for every arm."""
    sampler: Literal["tpe", "random", "quasirandom"] = "tpe"
    cohorts: int = Field(2, ge=1)
    """Cohorts of each arm; the sampler learns from closed ones."""
    cohort_size: int = Field(9, ge=1)
    """Trials that compete with each other at the rungs."""
    rungs: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Epochs after which a cohort keeps its best; the epoch cap is the last one by itself."""
    reduction: int = Field(3, ge=2)
    """A rung keeps one in this many."""
    seed: int = Field(1, ge=0)

    @field_validator("rungs")
    @classmethod
    def _increasing(cls, rungs: tuple[int, ...]) -> tuple[int, ...]:
        if list(rungs) != sorted(set(rungs)):
            raise ValueError(f"rungs must increase, but got {list(rungs)}")
        return rungs


class ConfirmationSpec(_Model):
    candidates: int = Field(3, ge=1)
    """An arm's best trials that are trained again before one is chosen."""
    candidate_seeds: int = Field(3, ge=1)
    seeds: int = Field(8, ge=1)
    """Replicates of each arm's winner, the same fresh seeds in every arm; 5 for a verdict."""


def _on_off(value: Any) -> Any:
    """YAML reads a bare `on` and `off` as booleans; levels are strings."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return [_on_off(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _on_off(v) for k, v in value.items()}
    return value


Levels = Annotated[tuple[str, ...], Field(min_length=1)]
Factors = Annotated[dict[str, str], BeforeValidator(_on_off)]


class ContrastSpec(_Model):
    """One declared comparison: `factor` from level `b` to level `a`, in every arm that has both;
    or two arms named by their factors."""

    factor: str | None = None
    a: Annotated[str | dict[str, str], BeforeValidator(_on_off)]
    b: Annotated[str | dict[str, str], BeforeValidator(_on_off)]

    @model_validator(mode="after")
    def _one_form(self) -> ContrastSpec:
        wanted = str if self.factor is not None else dict
        if not (isinstance(self.a, wanted) and isinstance(self.b, wanted)):
            raise ValueError(
                "write `{factor: snow, a: observed, b: off}`, or two arms by their factors: "
                "`{a: {model: lstm, snow: observed}, b: {model: ealstm, snow: observed}}`"
            )
        return self


class EvidenceSpec(_Model):
    equivalence: float = Field(0.01, ge=0)
    """Differences of NSE within ± this are of no practical importance."""
    repetitions: int = Field(2000, ge=200)
    """Bootstrap repetitions."""


class ResourcesSpec(_Model):
    """What one trial reserves, and what it may use up. No influence on any result."""

    cpus: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)
    threads: int = Field(1, ge=1)
    """Threads of the numerical library in one trial; more than one changes the last bits."""
    checkpoint_seconds: float = Field(60, gt=0)
    """A trial saves itself at rungs and at least this often."""


class StudySpec(_Model):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    question: str = ""
    data: DataSpec
    factors: Annotated[dict[str, Levels], BeforeValidator(_on_off)] = {}
    exclude: tuple[Factors, ...] = ()
    """Combinations that make no sense, each by the levels that define it."""
    training: TrainingSpec = TrainingSpec()
    search: SearchSpec = SearchSpec()
    confirmation: ConfirmationSpec = ConfirmationSpec()
    contrasts: tuple[ContrastSpec, ...] = ()
    evidence: EvidenceSpec = EvidenceSpec()
    resources: ResourcesSpec = ResourcesSpec()

    @field_validator("factors")
    @classmethod
    def _known(cls, factors: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for factor, levels in factors.items():
            if len(set(levels)) != len(levels):
                raise ValueError(f"factor `{factor}` names a level twice: {', '.join(levels)}")
            if factor in CANONICAL_FACTORS:
                known = CANONICAL_FACTORS[factor]
                for level in levels:
                    if level not in known:
                        raise ValueError(
                            f"factor `{factor}` has no level `{level}`{_nearest(level, known)}; "
                            f"its levels are {', '.join(known)}"
                        )
            else:
                for level in levels:
                    _check_field(factor, level, "factor")
        return {**{f: known[:1] for f, known in CANONICAL_FACTORS.items()}, **factors}

    @model_validator(mode="after")
    def _consistent(self) -> StudySpec:
        if self.search.rungs and self.search.rungs[-1] >= self.training.epochs:
            raise ValueError(
                f"search.rungs must lie below training.epochs ({self.training.epochs}), "
                f"but got {list(self.search.rungs)}"
            )
        for name, choice in self.search.space.items():
            if name in self.factors:
                raise ValueError(f"`{name}` is a factor and in search.space; it can be one only")
            ends = choice if isinstance(choice, tuple) else (choice.low, choice.high)
            for end in ends:
                _check_field(name, end, "search.space")
        for where, rules in (("exclude", self.exclude), ("contrasts", self._named_arms())):
            for rule in rules:
                self._check_levels(where, rule)
        return self

    def _named_arms(self) -> list[dict[str, str]]:
        """The factors and levels that the contrasts speak of."""
        return [
            side if isinstance(side, dict) else {str(contrast.factor): side}
            for contrast in self.contrasts
            for side in (contrast.a, contrast.b)
        ]

    def _check_levels(self, where: str, rule: Mapping[str, str]) -> None:
        for factor, level in rule.items():
            if factor not in self.factors:
                raise ValueError(
                    f"{where} names the factor `{factor}`{_nearest(factor, self.factors)}; "
                    f"this study's factors are {', '.join(self.factors)}"
                )
            if level not in self.factors[factor]:
                raise ValueError(
                    f"{where} names level `{level}` of `{factor}`; "
                    f"this study's levels are {', '.join(self.factors[factor])}"
                )

    def trials_per_arm(self) -> int:
        return self.search.cohorts * self.search.cohort_size

    def fixed(self) -> dict[str, Any]:
        """What must stay the same when a study goes on: all but what may grow, or is no matter."""
        content = self.model_dump(mode="json")
        for key in ("question", "resources"):
            del content[key]
        del content["data"]["store"], content["search"]["cohorts"], content["confirmation"]["seeds"]
        return content

    def digest(self) -> str:
        text = json.dumps(self.fixed(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def _check_field(name: str, value: Any, where: str) -> None:
    """A factor or search range must be a training field and its value one the field takes."""
    fields = [f for f in TrainingSpec.model_fields if f not in PROTOCOL_FIELDS]
    if name in PROTOCOL_FIELDS:
        raise ValueError(f"`{name}` is part of the protocol; set it under `training`, not {where}")
    if name not in fields:
        known = [*fields, *CANONICAL_FACTORS] if where == "factor" else fields
        raise ValueError(f"{where} names `{name}`{_nearest(name, known)}, which nothing reads")
    try:
        TrainingSpec.model_validate({name: value})
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ValueError(f"{where}: `{name}` cannot be {value!r}: {reason}") from None


def load_spec(path: Path | str, overrides: Sequence[str] = ()) -> StudySpec:
    """Read and validate a study file.

    Args:
        path: The YAML file.
        overrides: `key=value` with a dotted key and a YAML value, as given to `--set`.

    Raises:
        SpecError: The file cannot be read, is not YAML, or breaks a rule.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error}); give the study's YAML file") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path}: a study file is a mapping of keys (name, data, factors, ...)")
    for override in overrides:
        _set(content, override)
    return parse_spec(content, str(path))


def parse_spec(content: Mapping[str, Any], source: str) -> StudySpec:
    """Validate a study given as plain data; `source` is named in errors."""
    try:
        return StudySpec.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"{source}: {_describe(error)}") from None


def _set(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise SpecError(f"--set {override}: write key=value, e.g. --set search.cohorts=3")
    *parents, last = key.split(".")
    place: Any = content
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise SpecError(f"--set {override}: `{parent}` is a value, it has no keys below it")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise SpecError(f"--set {override}: `{text}` is not a YAML value") from None


def _describe(error: ValidationError) -> str:
    """One paragraph of all that is wrong, each with its key and, for a typo, the likely one."""
    parts = []
    for problem in error.errors():
        place = [p for p in problem["loc"] if not (isinstance(p, str) and re.search(r"[\[(]", p))]
        where = ".".join(str(p) for p in place if p not in ("RangeSpec",))
        if problem["type"] == "extra_forbidden":
            known = _fields_at(place[:-1])
            parts.append(f"unknown key `{where}`{_nearest(str(place[-1]), known)}")
        elif problem["type"] == "missing":
            parts.append(f"`{where}` is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            parts.append(f"`{where}`: {message}" if where else message)
    return "; ".join(dict.fromkeys(parts))


def _fields_at(place: Sequence[Any]) -> list[str]:
    model: type[BaseModel] = StudySpec
    for step in place:
        field = model.model_fields.get(str(step))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
