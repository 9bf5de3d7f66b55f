"""Shyft's method stacks: what of them is calibrated, in which ranges, and which series they give.

A stack is named by its parts: Priestley–Taylor evapotranspiration (`pt`), a snow routine (`gs`
gamma snow, `ss` Skaugen, `hs` HBV, `st` snow tiles), and a response (`k` Kirchner's single store,
`hbv` HBV's soil and tanks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from study.errors import InputError
from study.spec import nearest

Bounds = Mapping[str, tuple[float, float]]

COMMON: Bounds = {
    "p_corr.scale_factor": (0.7, 1.4),
    "pt.alpha": (0.8, 1.8),
}
KIRCHNER: Bounds = {
    "kirchner.c1": (-8.0, 0.0),
    "kirchner.c2": (-1.0, 1.2),
    # Well below 0: else g(Q) grows without end as discharge fades, and Shyft's solver never ends.
    "kirchner.c3": (-0.25, -0.05),
    "ae.ae_scale_factor": (0.05, 6.0),
}
GAMMA_SNOW: Bounds = {
    "gs.tx": (-3.0, 3.0),
    "gs.wind_scale": (1.0, 6.0),
    "gs.max_water": (0.03, 0.2),
    "gs.snow_cv": (0.1, 0.8),
    "gs.fast_albedo_decay_rate": (1.0, 15.0),
    "gs.slow_albedo_decay_rate": (2.0, 40.0),
    "gs.surface_magnitude": (10.0, 60.0),
}
SKAUGEN_SNOW: Bounds = {
    "ss.tx": (-3.0, 3.0),
    "ss.cx": (0.5, 12.0),
    "ss.ts": (-2.0, 2.0),
    "ss.cfr": (0.0, 0.1),
    "ss.max_water_fraction": (0.03, 0.2),
}
HBV_SNOW: Bounds = {
    "hs.tx": (-3.0, 3.0),
    "hs.cx": (0.1, 12.0),
    "hs.ts": (-2.0, 2.0),
    "hs.lw": (0.03, 0.2),
    "hs.cfr": (0.0, 0.5),
}
SNOW_TILES: Bounds = {
    "st.tx": (-3.0, 3.0),
    "st.cx": (0.1, 12.0),
    "st.ts": (-2.0, 2.0),
    "st.lwmax": (0.03, 0.2),
    "st.cfr": (0.0, 0.5),
    "st.shape": (0.5, 6.0),
}
HBV_RESPONSE: Bounds = {
    "soil.fc": (20.0, 600.0),
    "soil.lpdel": (0.3, 1.0),
    "soil.beta": (0.5, 6.0),
    "tank.uz1": (5.0, 60.0),
    "tank.uz2": (20.0, 150.0),
    "tank.kuz0": (0.005, 0.2),
    "tank.kuz1": (0.01, 0.4),
    "tank.kuz2": (0.05, 0.9),
    "tank.perc": (0.01, 4.0),
    "tank.klz": (0.0005, 0.1),
}
"""Ranges of calibration by Shyft's names of parameters; what is not named keeps Shyft's default.
Temperatures in degC, degree-day factors (`cx`) in mm/degC/d, storages in mm."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    bounds: Bounds
    """Parameter -> lowest and highest value."""
    series: Mapping[str, str]
    """Our name -> Shyft's collector and attribute: `discharge` and `outflow` (of snow: rain and
    melt) in m3/s, `aet` in mm/h, `swe` in mm and `sca` as a share of the area at the end of a day.
    """


def _stack(snow: Bounds, response: Bounds, **places: str) -> Stack:
    series = {
        "discharge": "rc.avg_discharge",
        "swe": "rc.snow_swe",
        "sca": "rc.snow_sca",
        "aet": "rc.ae_output",
        "outflow": "rc.snow_outflow",
    }
    return Stack(bounds={**COMMON, **snow, **response}, series=series | places)


STACKS: Mapping[str, Stack] = {
    "pt_gs_k": _stack(GAMMA_SNOW, KIRCHNER),
    "pt_ss_k": _stack(SKAUGEN_SNOW, KIRCHNER, swe="sc.snow_swe", sca="sc.snow_sca"),
    "pt_hs_k": _stack(HBV_SNOW, KIRCHNER),
    "pt_st_k": _stack(SNOW_TILES, KIRCHNER),
    "pt_st_hbv": _stack(SNOW_TILES, HBV_RESPONSE, aet="rc.soil_ae"),
}

REFUSED: Mapping[str, str] = {
    "pt_hps_k": "it does not conserve mass: precipitation less discharge, evapotranspiration and "
    "the change of storage does not come to zero",
}


def find_stack(name: str) -> Stack:
    """A stack by name.

    Raises:
        InputError: There is none, or it is refused.
    """
    if name in REFUSED:
        raise InputError(f"--stack {name}: {REFUSED[name]}; take one of {', '.join(STACKS)}")
    if name not in STACKS:
        raise InputError(
            f"--stack {name}: unknown{nearest(name, STACKS)}; it can be {', '.join(STACKS)}"
        )
    return STACKS[name]
