"""Levels of factors by names that a store has: sets of names, snow products, and what is not there.

A study file may drop `climate` and take the snow of `uaz`; what these are, the store says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from study.data.features import SHYFT_FEATURES, inputs_of
from study.data.store import variables_of
from study.errors import SpecError
from study.spec import (
    ATTRIBUTES,
    BUILT_IN,
    PLACEBO,
    PRODUCTS,
    LevelSpec,
    OwnLevels,
    StudySpec,
    nearest,
)

TARGETS = ("discharge", "sacsma")
"""Groups of daily series that no network may be fed with."""
CAMELS_SETS: Mapping[str, tuple[str, ...]] = {
    "climate": (
        *("p_mean", "pet_mean", "aridity", "p_seasonality", "frac_snow"),
        *("high_prec_freq", "high_prec_dur", "low_prec_freq", "low_prec_dur"),
    ),
    "topography": (
        *("gauge_lat", "gauge_lon", "elev_mean", "slope_mean"),
        *("area_gages2", "area_geospa_fabric"),
    ),
    "vegetation": (
        *("frac_forest", "lai_max", "lai_diff", "gvf_max", "gvf_diff"),
        *("dom_land_cover_frac", "root_depth_50", "root_depth_99"),
    ),
    "soil": (
        *("soil_depth_pelletier", "soil_depth_statsgo", "soil_porosity", "soil_conductivity"),
        *("max_water_content", "sand_frac", "silt_frac", "clay_frac"),
        *("water_frac", "organic_frac", "other_frac"),
    ),
    "geology": (
        *("glim_1st_class_frac", "glim_2nd_class_frac", "carbonate_rocks_frac"),
        *("geol_porostiy", "geol_permeability"),
    ),
}
"""Sets of attributes, by the tables of CAMELS-US (Addor et al. 2017,
doi 10.5194/hess-21-5293-2017): those of a store whose variables name no sets of their own."""


def sets_of(store: xr.Dataset) -> dict[str, tuple[str, ...]]:
    """Name of a set -> the store's variables in it: their attribute `set` says it."""
    found: dict[str, tuple[str, ...]] = {}
    for name, variable in store.data_vars.items():
        if "set" in variable.attrs:
            key = str(variable.attrs["set"])
            found[key] = (*found.get(key, ()), str(name))
    if found:
        return found
    known = {key: tuple(n for n in names if n in store) for key, names in CAMELS_SETS.items()}
    return {key: names for key, names in known.items() if names}


def snow_products(store: xr.Dataset) -> dict[str, str]:
    """Snow product of the store -> its variable.

    A product is named by the variable (`swe_uaz`), its attribute `product`, or, in stores of
    version 0.1.0, the column that it was read from (`uaz_swe`).
    """
    found = {}
    for name in variables_of(store, "snow"):
        attrs = store[name].attrs
        column = str(attrs.get("column", "")).removesuffix("_swe")
        product = attrs.get("product") or name.removeprefix("swe").lstrip("_") or column
        if product:
            found[str(product)] = name
    return found


def resolve(spec: StudySpec, store: xr.Dataset) -> OwnLevels:
    """What the levels of a study that are not built in change, by names that the store has.

    Raises:
        SpecError: A level names what the store does not have, or drops what an arm does not see.
    """
    sets, products = sets_of(store), snow_products(store)
    found: dict[str, dict[str, LevelSpec]] = {}
    for factor, names in spec.factors.items():
        for name in names:
            level = spec.level(factor, name)
            if factor == PRODUCTS and name not in BUILT_IN[factor] and level.changes_nothing:
                level = _of_product(name, products, spec)
            elif name in BUILT_IN.get(factor, {}) or (
                factor not in spec.levels and not PLACEBO.fullmatch(name)
            ):
                continue
            where = f"factor `{factor}`, level `{name}`"
            found.setdefault(factor, {})[name] = _named(level, where, store, sets)
    for arm in spec.combinations():
        _check_drops(spec, arm, found)
    return found


def _of_product(name: str, products: Mapping[str, str], spec: StudySpec) -> LevelSpec:
    placebo = PLACEBO.fullmatch(name)
    product = placebo[1] if placebo else name
    if product not in products:
        known = [*BUILT_IN[PRODUCTS], *products]
        raise SpecError(
            f"factor `{PRODUCTS}` has no level `{product}`{nearest(product, known)}; its levels "
            f"are {', '.join(BUILT_IN[PRODUCTS])}, and the store's snow products "
            f"({', '.join(products) or 'it has none'})"
        )
    update = {"inputs": (products[product],), "placebo": placebo is not None}
    return spec.level(PRODUCTS, name).model_copy(update=update)


def _named(
    level: LevelSpec, where: str, store: xr.Dataset, sets: Mapping[str, tuple[str, ...]]
) -> LevelSpec:
    """A level without sets, all of whose names the store has."""
    series = [n for n in map(str, store.data_vars) if is_series(store, n)]
    attributes = [n for n in variables_of(store, "attributes") if store[n].dtype.kind == "f"]
    daily = (*level.inputs, *(n for n in level.replace.values() if n not in attributes))
    _check(where, "daily input", daily, series)
    _check(where, "numeric attribute", level.attributes, attributes)
    known = [*series, *attributes, *sets, ATTRIBUTES]
    _check(where, "input, attribute or set of them", (*level.drop, *level.replace), known)
    if level.baseline is not None:
        flows = [n for n in series if store[n].attrs.get("units") == "mm/d"]
        _check(where, "daily series in mm/d", [level.baseline], flows)
    drop = [n for key in level.drop for n in sets.get(key, (key,))]
    return level.model_copy(update={"drop": tuple(dict.fromkeys(drop))})


def is_series(store: xr.Dataset, name: str) -> bool:
    """Whether networks may be fed with a variable of a store day by day."""
    return set(store[name].dims) == {"basin", "time"} and (
        store[name].attrs.get("group") not in TARGETS
    )


def _check(where: str, kind: str, names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            cure = " (add Shyft's series with `study shyft simulate STORE`)" * (
                name in SHYFT_FEATURES
            )
            raise SpecError(
                f"{where}: the store has no {kind} `{name}`{nearest(name, known)}{cure}; correct "
                "the level, or build a store that has it"
            )


def _check_drops(spec: StudySpec, arm: Mapping[str, str], own: OwnLevels) -> None:
    """An arm that loses nothing by a level would be another arm under two names."""
    for factor, name in arm.items():
        level = own.get(factor, {}).get(name, LevelSpec())
        for what, names in {"drops": level.drop, "replaces": tuple(level.replace)}.items():
            if not names or ATTRIBUTES in names:
                continue
            plain = level.model_copy(update={"drop": (), "replace": {}})
            seen = inputs_of(arm, spec.data, {**own, factor: {**own[factor], name: plain}})
            if not set(names) & {*seen.dynamic, *seen.static}:
                others = ", ".join(f"{f} {n}" for f, n in arm.items() if f != factor)
                asked = spec.level(factor, name).drop if what == "drops" else names
                raise SpecError(
                    f"factor `{factor}`, level `{name}` {what} {', '.join(asked)}, of which an arm "
                    f"sees nothing ({others}); exclude the two together, or correct the level"
                )
    fed = inputs_of(arm, spec.data, own)
    if not fed.dynamic:
        raise SpecError(
            f"the arm {', '.join(f'{f} {n}' for f, n in arm.items())} has no daily input left; "
            "drop fewer"
        )


def placebos_in(names: Iterable[str]) -> list[str]:
    """Inputs that are fed from other years."""
    return [name for name in names if PLACEBO.fullmatch(name)]


def water_years(days: np.ndarray) -> np.ndarray:
    """(day,) the calendar year in which each day's water year ends: it begins on 1 October."""
    months = days.astype("datetime64[M]").astype(int)
    return np.asarray((months + 3) // 12 + 1970)
