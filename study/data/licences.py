"""Terms and sources of data: they go with whatever learned from it.

A store says them itself, by group: attribute `licences`, or the account of a group that was added.
Of the data sets that this package reads, they are known. Of anything else they are not stated, and
nothing is made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import xarray as xr

from study.errors import DataError

NOT_STATED = "not stated"
LICENCES = "licences"
"""Attribute of a store: group -> `data`, `terms` and `citation`, of which any may be absent."""


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Terms and source of a data set."""

    data: str
    terms: str = NOT_STATED
    citation: str = NOT_STATED


CAMELS_US = Licence(
    data="CAMELS-US attributes, basin boundaries and basin-mean forcing",
    terms="free to use with citation; the provider states its terms at the DOI",
    citation="Newman et al. 2015, doi 10.5194/hess-19-209-2015; Addor et al. 2017, "
    "doi 10.5194/hess-21-5293-2017; data doi 10.5065/D6MW2F4D",
)
USGS = Licence(
    data="daily discharge of the U.S. Geological Survey",
    terms="public domain (work of the U.S. Government)",
    citation="U.S. Geological Survey, National Water Information System, doi 10.5066/F7P55KJN",
)
UAZ = Licence(
    data="snow water equivalent of the University of Arizona (NSIDC-0719)",
    terms="free to use with citation; the provider states its terms at the DOI",
    citation="Zeng et al. 2018, doi 10.1029/2018GL080057; data doi 10.5067/0GGPB220EX6A",
)
SHYFT = Licence(
    data="series simulated by Shyft from the forcing above",
    terms="computed here; the software is LGPL-3.0 and is no part of this bundle",
    citation="Burkhart et al. 2021, doi 10.5194/gmd-14-821-2021",
)
SNOW_SIMULATED = Licence(
    data="snow water equivalent of a degree-day model of the forcing above",
    terms="computed here",
    citation="Hock 2003, doi 10.1016/S0022-1694(03)00257-9",
)
SACSMA = replace(CAMELS_US, data="SAC-SMA discharge of CAMELS-US")

CAMELS_US_SOURCE = "camels-us"
CAMELS_US_FORCING = {
    "daymet": "Thornton et al., Daymet; see CAMELS-US for the version",
    "maurer": "Maurer et al. 2002, doi 10.1175/1520-0442(2002)015<3237:ALTHBD>2.0.CO;2",
    "nldas": "Xia et al. 2012, doi 10.1029/2011JD016048",
}
"""First word of a forcing product of CAMELS-US -> its source."""
CAMELS_US_GROUPS = {"attributes": CAMELS_US, "discharge": USGS, "sacsma": SACSMA}
SNOW_COLUMNS = {"uaz_swe": UAZ}
"""Column that a store's snow was read from -> its data set."""
COMPUTED = {"shyft": SHYFT, "snow_simulated": SNOW_SIMULATED}
"""Groups that this package computes, whatever the store."""


def licences_of_store(store: xr.Dataset, groups: Iterable[str]) -> tuple[Licence, ...]:
    """Terms of a store's data, in the order of the groups.

    Args:
        store: The store.
        groups: Names of some of its groups.

    Raises:
        DataError: The store does not say where it comes from, or says its licences in another form
            than it must.
    """
    for name in ("source", "forcing_product"):
        if name not in store.attrs:
            raise DataError(
                f"the store does not say its `{name}`; give the dataset this attribute and write "
                "the store again"
            )
    stated, accounts = dict(store.attrs.get(LICENCES, {})), store.attrs.get("about", {})
    stated |= {g: account["licence"] for g, account in accounts.items() if "licence" in account}
    origin = Origin(
        source=str(store.attrs["source"]),
        product=store.attrs.get("forcing_product"),
        snow_column=store["swe"].attrs.get("column") if "swe" in store else None,
        added={g: str(account["source"]) for g, account in accounts.items() if "source" in account},
    )
    return tuple(
        _stated(group, stated[group], origin) if group in stated else origin.licence(group)
        for group in groups
    )


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a store's data come from."""

    source: str | None
    """The data set that it was built from; None if it is not known."""
    product: str | None = None
    """Its forcing product."""
    snow_column: str | None = None
    """The column that its snow was read from."""
    added: Mapping[str, str] = field(default_factory=dict)
    """Group that was added to it -> the group's own source."""

    def licence(self, group: str) -> Licence:
        """Terms of a group of which the store itself says nothing."""
        if group in COMPUTED:
            return COMPUTED[group]
        of_camels_us = self.source == CAMELS_US_SOURCE and group not in self.added
        return (self._in_camels_us(group) if of_camels_us else None) or Licence(
            data=self.name(group)
        )

    def _in_camels_us(self, group: str) -> Licence | None:
        if group == "snow":
            return SNOW_COLUMNS.get(str(self.snow_column))
        if group == "forcing":
            citation = CAMELS_US_FORCING.get(str(self.product).split("_")[0])
            data = f"{self.product} forcing, basin means of CAMELS-US"
            known = Licence(data=data, terms=CAMELS_US.terms, citation=str(citation))
            return None if citation is None else known
        return CAMELS_US_GROUPS.get(group)

    def name(self, group: str) -> str:
        """What a group is called of which nothing else is known."""
        detail = {"forcing": self.product, "snow": self.snow_column}.get(group)
        source = self.added.get(group) or self.source or "an unnamed source"
        return f"{group} of {source}{f', {detail}' if detail else ''}"


def _stated(group: str, said: Any, origin: Origin) -> Licence:
    if not isinstance(said, Mapping) or set(said) - {"data", "terms", "citation"}:
        raise DataError(
            f"the store's licence of its group `{group}` must have `data`, `terms` and "
            f"`citation`, each a text, but is {str(said)[:100]}; correct the attribute "
            f"`{LICENCES}` or the group's `licence`, and write the store again"
        )
    texts = {key: " ".join(str(text).split()) for key, text in said.items()}
    return Licence(**{"data": origin.name(group)} | texts)
