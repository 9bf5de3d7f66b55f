"""A package of somebody else's adds an architecture in one file: from its spec to a bundle."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from inline import InlineStudy
from small import small_spec

from study import plugins
from study.errors import InputError, SpecError
from study.experiment.engine import open_ledger, prepare
from study.experiment.storage import LocalStorage
from study.export.backends import NotInstalled, load_networks
from study.export.bundle import read_bundle
from study.export.example import largest_difference
from study.export.forcing import read_forcing
from study.export.predict import named_period, predict
from study.export.winner import export_arm

ARCHITECTURE = '''
"""A leaky reservoir a cell, filled by the day's inputs."""

import torch
from torch import nn

from study.models import NetworkConfig, RunoffModel
from study.models.base import init_uniform_


class Reservoirs(RunoffModel):
    def __init__(self, config: NetworkConfig, *, generator: torch.Generator) -> None:
        super().__init__(config, generator=generator)
        self.fill = nn.Parameter(torch.empty(config.num_dynamic, config.hidden_size))
        self.leak = nn.Parameter(torch.empty(config.hidden_size))
        init_uniform_([self.fill, self.leak], hidden_size=config.hidden_size, generator=generator)

    def _recur(self, dynamic, static, state):
        h = dynamic.new_zeros(dynamic.shape[1], self.hidden_size) if state is None else state[0]
        days = []
        for inflow in (dynamic @ self.fill).relu():
            h = torch.sigmoid(self.leak) * h + inflow
            days.append(h)
        return torch.stack(days), (h, h)
'''
METADATA = "Metadata-Version: 2.1\nName: {0}\nVersion: 0.1\n"
POINTS = "[study.models]\n{0} = {1}\n"

Add = Callable[..., None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Install a package of one file."""

    def install(package: str, name: str, value: str, content: str) -> None:
        folder = tmp_path / "site"
        about = folder / f"{package}-0.1.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(METADATA.format(package))
        (about / "entry_points.txt").write_text(POINTS.format(name, value))
        (folder / f"{package}.py").write_text(content)
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        plugins._found.cache_clear()

    yield install
    monkeypatch.undo()
    sys.modules.pop("hydrobox", None)
    plugins._found.cache_clear()


def test_an_architecture_of_another_package_comes_to_a_bundle(
    add: Add, synthetic_store: Path, tmp_path: Path
) -> None:
    add("hydrobox", "reservoirs", "hydrobox:Reservoirs", ARCHITECTURE)
    study = InlineStudy(store=synthetic_store, storage=LocalStorage(tmp_path / "small"))
    study.finish(factors={"model": ["lstm", "reservoirs"]}, training__epochs=2)
    book = open_ledger(study.storage)
    assert list(book.arms) == ["lstm", "reservoirs"] and len(book.evaluations) == 4
    export_arm(book, study.storage, "reservoirs", tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    assert not bundle.has_graphs and bundle.manifest.model == "reservoirs"
    assert largest_difference(bundle, "torch")[1] <= 1
    found = predict(bundle, read_forcing(synthetic_store), named_period(bundle, "test"))
    assert np.isfinite(found.data["qsim"].values).all()
    plugins._found.cache_clear()
    sys.path.remove(str(tmp_path / "site"))
    with pytest.raises(NotInstalled, match="reservoirs, which is not installed"):
        load_networks(bundle, "torch")


@pytest.mark.parametrize(
    ("value", "content", "why"),
    [("hydrobox:Absent", ARCHITECTURE, "AttributeError"), ("hydrobox:X", "import absent", "absent"),
     ("hydrobox:X", "raise RuntimeError('no')", "RuntimeError: no")],
)  # fmt: skip
def test_a_package_that_cannot_be_loaded_is_named_before_anything_is_trained(
    add: Add, synthetic_store: Path, value: str, content: str, why: str
) -> None:
    add("hydrobox", "reservoirs", value, content)
    spec = small_spec(factors={"model": ["reservoirs"]})
    with pytest.raises(InputError) as error:
        prepare(spec, synthetic_store)
    assert why in str(error.value) and "package hydrobox" in str(error.value)


def test_what_nobody_adds_is_refused(add: Add) -> None:
    add("hydrobox", "reservoirs", "hydrobox:Reservoirs", ARCHITECTURE)
    with pytest.raises(SpecError, match=r"no level `reservoir` \(did you mean `reservoirs`"):
        small_spec(factors={"model": ["reservoir"]})
