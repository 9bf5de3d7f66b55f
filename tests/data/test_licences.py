"""Terms and sources of data: what a store says, what is known of CAMELS-US, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from added import add_by_hand
from inline import InlineStudy
from small import small_spec

from study.data.licences import NOT_STATED, Licence, Origin, licences_of_store
from study.data.store import open_store, write_store
from study.errors import DataError
from study.experiment.engine import prepare
from study.experiment.storage import LocalStorage
from study.export.bundle import Bundle, read_bundle
from study.export.manifest import CARD
from study.export.winner import export_arm

GROUPS = ("forcing", "discharge", "attributes", "snow")
AMERICAN = ("U.S.", "CAMELS", "Arizona", "USGS")
STATED = {
    "discharge": {"data": "Swiss gauges", "terms": "CC BY-NC 4.0", "citation": "FOEN"},
    "forcing": {"terms": "CC BY\n4.0"},
}


def a_store(source: str, product: str = "maurer", column: str = "uaz_swe",
            **attrs: Any) -> xr.Dataset:  # fmt: skip
    store = xr.Dataset(attrs={"source": source, "forcing_product": product, **attrs})
    store["swe"] = ("basin", "time"), np.zeros((1, 1)), {"group": "snow", "column": column}
    return store


def texts(licences: tuple[Licence, ...]) -> str:
    return " ".join(f"{one.data} {one.terms} {one.citation}" for one in licences)


def test_camels_us_is_known() -> None:
    found = licences_of_store(a_store("camels-us"), GROUPS)
    assert [one.data.split()[0] for one in found] == ["maurer", "daily", "CAMELS-US", "snow"]
    assert NOT_STATED not in texts(found)
    assert "Geological Survey" in found[1].data and "Arizona" in found[3].data


@pytest.mark.parametrize("source", ["camels-ch", "my-alps", "CAMELS-US of mine"])
def test_of_another_source_nothing_is_made_up(source: str) -> None:
    found = licences_of_store(a_store(source, "era5_land", "swe_slf"), GROUPS)
    assert {one.terms for one in found} == {one.citation for one in found} == {NOT_STATED}
    assert found[0].data == f"forcing of {source}, era5_land"
    assert found[3].data == f"snow of {source}, swe_slf"
    assert not [word for word in AMERICAN if word in texts(found).replace(source, "")]


@pytest.mark.parametrize("group", ["forcing", "snow", "moisture"])
def test_a_product_that_is_not_of_camels_us_is_not_said_to_be(group: str) -> None:
    store = a_store("camels-us", "era5_land", "snodas_swe")
    store.attrs["about"] = {"moisture": {"source": "a satellite"}}
    (found,) = licences_of_store(store, [group])
    assert (found.terms, found.citation) == (NOT_STATED, NOT_STATED)
    names = {"forcing": "camels-us, era5_land", "snow": "camels-us, snodas_swe"}
    assert found.data == f"{group} of {names.get(group, 'a satellite')}"


def test_a_group_that_was_put_in_the_place_of_another_has_its_own_source() -> None:
    store = a_store("camels-us", about={"discharge": {"source": "our own gauges"}})
    (found,) = licences_of_store(store, ["discharge"])
    assert found == Licence(data="discharge of our own gauges")


def test_a_store_says_its_own() -> None:
    account = {"source": "a satellite", "licence": {"terms": "CC0"}}
    store = a_store("camels-us", licences=STATED, about={"moisture": account})
    forcing, discharge, moisture = licences_of_store(store, ["forcing", "discharge", "moisture"])
    assert forcing == Licence(data="forcing of camels-us, maurer", terms="CC BY 4.0")
    assert discharge == Licence(**STATED["discharge"])
    assert moisture == Licence(data="moisture of a satellite", terms="CC0")


@pytest.mark.parametrize("name", ["source", "forcing_product"])
def test_a_store_that_does_not_say_where_it_comes_from_is_refused(name: str) -> None:
    store = a_store("camels-us")
    del store.attrs[name]
    with pytest.raises(DataError, match=f"does not say its `{name}`"):
        licences_of_store(store, GROUPS)


def test_what_this_package_computes_it_can_name() -> None:
    for group in ("shyft", "snow_simulated"):
        assert Origin(source="my-alps").licence(group).terms.startswith("computed here")


@pytest.mark.parametrize("said", ["CC BY", {"license": "CC BY"}, None, ["CC BY"]])
def test_a_form_that_cannot_be_read_is_refused_before_anything_is_trained(
    said: Any, synthetic_store: Path, tmp_path: Path
) -> None:
    store = open_store(synthetic_store).load()
    store.attrs["licences"] = {"forcing": said}
    write_store(store, tmp_path / "store.zarr")
    with pytest.raises(DataError, match="licence of its group `forcing` must have `data`"):
        prepare(small_spec(), tmp_path / "store.zarr")


def exported(store: Path, folder: Path, arm: str = "lstm", **changes: Any) -> Bundle:
    study = InlineStudy(store=store, storage=LocalStorage(folder / "small"))
    book = study.finish(**{"factors": {"model": ["lstm"]}} | changes)
    export_arm(book, study.storage, arm, folder / "bundle")
    return read_bundle(folder / "bundle")


def test_a_bundle_says_the_terms_of_its_own_data(synthetic_store: Path, tmp_path: Path) -> None:
    store = open_store(synthetic_store).load()
    store.attrs |= {"source": "camels-ch", "licences": {"discharge": STATED["discharge"]}}
    store["swe"].attrs["column"] = "swe_slf"
    write_store(store, tmp_path / "store.zarr")
    bundle = exported(tmp_path / "store.zarr", tmp_path, "lstm-snow",
                      factors={"model": ["lstm"], "snow": ["observed"]})  # fmt: skip
    terms = {one.data: one.terms for one in bundle.manifest.licences}
    assert terms == {
        "Swiss gauges": "CC BY-NC 4.0",
        "forcing of camels-ch, maurer_extended": NOT_STATED,
        "snow of camels-ch, swe_slf": NOT_STATED,
        "attributes of camels-ch": NOT_STATED,
    }
    said = bundle.files[CARD].decode() + bundle.manifest.model_dump_json()
    assert not [word for word in AMERICAN if word in said]


def test_a_bundle_names_a_group_that_was_added(synthetic_store: Path, tmp_path: Path) -> None:
    store = add_by_hand(synthetic_store, tmp_path / "store.zarr", licence={"terms": "ask us"})
    bundle = exported(
        store, tmp_path, "lstm-shyft", factors={"model": ["lstm"], "shyft": ["input"]}
    )
    assert "ask us" in {one.terms for one in bundle.manifest.licences}
