"""Terms and sources of the data that a model learned from: they go with it."""

from __future__ import annotations

from collections.abc import Iterable

from study.export.manifest import Licence

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
FORCING = {
    "daymet": "Thornton et al., Daymet; see CAMELS-US for the version",
    "maurer": "Maurer et al. 2002, doi 10.1175/1520-0442(2002)015<3237:ALTHBD>2.0.CO;2",
    "nldas": "Xia et al. 2012, doi 10.1029/2011JD016048",
}
SNOW = Licence(
    data="snow water equivalent of the University of Arizona (NSIDC-0719)",
    terms="free to use with citation; the provider states its terms at the DOI",
    citation="Zeng et al. 2018, doi 10.1029/2018GL080057; data doi 10.5067/0GGPB220EX6A",
)
SHYFT = Licence(
    data="series simulated by Shyft from the forcing above",
    terms="computed here; the software is LGPL-3.0 and is no part of this bundle",
    citation="Burkhart et al. 2021, doi 10.5194/gmd-14-821-2021",
)
SACSMA = Licence(
    data="SAC-SMA discharge of CAMELS-US", terms=CAMELS_US.terms, citation=CAMELS_US.citation
)
OF_GROUP = {
    "attributes": CAMELS_US,
    "discharge": USGS,
    "snow": SNOW,
    "shyft": SHYFT,
    "sacsma": SACSMA,
}
"""Group of a store in CAMELS-US layout -> where its data come from."""


def licences_of(groups: Iterable[str], product: str | None) -> tuple[Licence, ...]:
    """Terms of the data groups that a model was trained on.

    Args:
        groups: Names of groups of the store.
        product: Its forcing product.
    """
    found = []
    for group in groups:
        if group == "forcing" and product is not None:
            citation = FORCING.get(product.split("_")[0], CAMELS_US.citation)
            data = f"{product} forcing, basin means of CAMELS-US"
            found.append(Licence(data=data, terms=CAMELS_US.terms, citation=citation))
        elif group in OF_GROUP:
            found.append(OF_GROUP[group])
    return tuple(found)
