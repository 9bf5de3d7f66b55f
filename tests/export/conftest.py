"""Finished small studies, once a session: every kind of network that a bundle may hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from added import add_by_hand
from inline import InlineStudy

from study.data.store import open_store
from study.experiment.book import Book
from study.experiment.storage import LocalStorage
from study.export.winner import export_arm

Finished = tuple[InlineStudy, Book]

ARMS = ("lstm-snow", "lstm-nostatics-snow", "ealstm-snow")
SHYFT_ARMS = ("lstm-shyft", "lstm-residual", "lstm-shyft-residual")
KERNEL = "torch"
"""Of the studies, as of bundles: the native kernel rounds otherwise, which may be more than
1e-5 mm/d and would hide what is wrong with a bundle."""
SERIES = ["prcp", "tmax", "srad", "swe"]


def finish(store: Path, folder: Path, **training: str) -> Finished:
    study = InlineStudy(store=store, storage=LocalStorage(folder / "small"))
    factors = {"model": ["lstm", "ealstm"], "statics": ["on", "off"]}
    book = study.finish(
        factors=factors | {"snow": ["observed"]},
        exclude=[{"model": "ealstm", "statics": "off"}],
        **{f"training__{name}": value for name, value in training.items()},
        resources__kernel=KERNEL,
    )
    return study, book


@pytest.fixture(scope="session")
def continuous(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A small study of three arms, one of them without attributes."""
    return finish(synthetic_store, tmp_path_factory.mktemp("continuous"))


@pytest.fixture(scope="session")
def windows(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same, simulated window by window, with the other output and scale."""
    folder = tmp_path_factory.mktemp("windows")
    other = {"simulation": "windows", "output": "sinh", "discharge_scale": "basin"}
    return finish(synthetic_store, folder, **other)


@pytest.fixture(scope="session")
def with_shyft(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A small study of the levels of `shyft`, with basins held out."""
    folder = tmp_path_factory.mktemp("with_shyft")
    basins = [str(b) for b in open_store(synthetic_store)["basin"].values]
    store = add_by_hand(synthetic_store, folder / "store.zarr", calibrated=basins[1:])
    study = InlineStudy(store=store, storage=LocalStorage(folder / "small"))
    factors = {"model": ["lstm"], "shyft": ["input", "residual", "both"]}
    return study, study.finish(factors=factors, data__held_out=basins[:1], resources__kernel=KERNEL)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private and a public key, as openssl writes them."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = tmp_path_factory.mktemp("keys")
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    (folder / "key.pem").write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    (folder / "key.pub").write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return folder / "key.pem", folder / "key.pub"


@pytest.fixture(scope="session")
def bundle(
    continuous: Finished, keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Of the first arm, signed."""
    out = tmp_path_factory.mktemp("bundles") / "lstm"
    export_arm(continuous[1], continuous[0].storage, ARMS[0], out, key=keys[0])
    return out


def loaded(store: Path) -> xr.Dataset:
    """A store in memory, as somebody else's data would be: without how it was kept on disk."""
    dataset = open_store(store).load().drop_encoding().drop_attrs(deep=False)
    return dataset.assign_coords(basin=dataset["basin"].values.astype(object))


def as_csv(store: Path, out: Path, names: list[str]) -> Path:
    table = open_store(store)[names].to_dataframe().reset_index()
    table = table.rename(columns={"basin": "gauge_id", "time": "date"})
    table[["gauge_id", "date", *names]].to_csv(out, index=False)
    return out


def as_netcdf(store: Path, out: Path, names: list[str]) -> Path:
    loaded(store)[names].to_netcdf(out, engine="h5netcdf")
    return out


def as_zarr(store: Path, out: Path, names: list[str]) -> Path:
    loaded(store)[names].to_zarr(out, zarr_format=2, consolidated=True)
    return out


def assert_within(found: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-5 mm/d and 1e-6 of the flow."""
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
