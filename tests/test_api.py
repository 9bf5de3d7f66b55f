"""The front door for Python: its names, its examples, and a study by it alone."""

from __future__ import annotations

import ast
import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from inline import QUICK, InlineStudy
from place import ray_processes, wait_until
from small import small_content

import study
from study import api
from study.errors import DataError, InputError
from study.experiment.storage import LocalStorage

REPOSITORY = Path(__file__).resolve().parent.parent
CONTENT = small_content(**QUICK | {"name": "snow"})


@pytest.fixture(scope="module")
def folder(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples are of: a study file, a store, and a finished study."""
    folder = tmp_path_factory.mktemp("door")
    (folder / "snow.yaml").write_text(yaml.safe_dump(CONTENT))
    (folder / "us.zarr").symlink_to(synthetic_store)
    storage = LocalStorage(folder / "results" / "snow")
    InlineStudy(store=synthetic_store, storage=storage).finish(name="snow")
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_all_names_are_there_and_documented() -> None:
    text = (REPOSITORY / "README.md").read_text().split("## From Python")[1].split("\n## ")[0]
    for name in set(study.__all__) - {"__version__"}:
        assert getattr(study, name).__doc__, name
        assert f"study.{name}" in text, f"README's `From Python` does not show study.{name}"
    assert set(study.__all__) <= set(dir(study))
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        study.opne  # noqa: B018


def test_types_and_names_agree() -> None:
    """What a type checker is told is what there is."""
    tree = ast.parse(Path(study.__file__).read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If)]
    names = {alias.name for node in typed.body if isinstance(node, ast.ImportFrom)
             for alias in node.names}  # fmt: skip
    assert names == set(study.__all__) - {"__version__"} == set(study._HOMES)
    assert (Path(study.__file__).parent / "py.typed").is_file()


def test_a_tutorial_needs_no_other_door() -> None:
    notebook = json.loads((REPOSITORY / "notebooks/05_a_factor_of_my_own.ipynb").read_text())
    code = "".join(line for cell in notebook["cells"] if cell["cell_type"] == "code"
                   for line in (*cell["source"], "\n"))  # fmt: skip
    assert "import study\n" in code
    assert not re.findall(r"(?m)^\s*(?:from study\b.*|import study\.\S+)", code)


def test_importing_it_loads_nothing() -> None:
    heavy = ("torch", "ray", "mlflow", "xarray", "pandas", "numpy", "pydantic")
    code = f"import study, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name", ["open_store", "write_store", "run", "open", "train", "load_bundle", "Report"]
)
def test_examples(name: str) -> None:
    """Every public function has one that runs."""
    found = doctest.DocTestFinder(recurse=False).find(getattr(api, name), globs={"study": study})
    (example,) = found
    assert example.examples
    runner, said = doctest.DocTestRunner(), []
    runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_tables_are_those_of_the_report(folder: Path) -> None:
    report = study.open("snow").report()
    report.write("written")
    for name in ("arms", "contrasts", "basins"):
        written = pd.read_csv(folder / "written" / f"{name}.csv", dtype={"gauge_id": str})
        table = getattr(report, name)
        assert list(table.columns) == list(written.columns) and len(table) == len(written)
    assert report.winner in set(report.arms["arm"])
    assert report.content["contrasts"][0]["name"] == report.contrasts["name"][0]


def test_simulations_are_what_is_scored() -> None:
    report = study.open("snow").report()
    found = report.simulations("test")
    nse = study.metrics.nse(sim=found["qsim"].values, obs=found["qobs"].values[None, None])
    scores = report.basins[report.basins["period"] == "test"].set_index(["arm", "seed", "gauge_id"])
    for number, arm in enumerate(found["arm"].values):
        for place, seed in enumerate(found["seed"].values):
            expected = scores.loc[(arm, seed), "nse"].loc[found["basin"].values]
            np.testing.assert_allclose(nse[number, place], expected, rtol=1e-6)
    with pytest.raises(InputError, match="no period train; it has validation, test"):
        report.simulations("train")


def test_a_network_is_the_one_that_a_trainer_gives() -> None:
    spec, store = study.load_spec("snow.yaml"), study.open_store("us.zarr")
    network = study.train(spec, store, arm="lstm-snow", seed=3, hyperparameters={"dropout": 0.0})
    again = study.train(spec, store, arm="lstm-snow", seed=3, hyperparameters={"dropout": 0.0})
    assert network.losses == again.losses and len(network.losses) == spec.training.epochs
    np.testing.assert_array_equal(network.simulate(), again.simulate())
    assert "swe" in network.trainer.inputs.dynamic
    sim, obs = network.simulate(), network.trainer.data.arrays.observed("validation")
    np.testing.assert_array_equal(
        network.score()["nse"], study.metrics.nse(sim=sim.values, obs=obs)
    )
    with pytest.raises(InputError, match=r"read by `study.run`, once"):
        network.simulate("test")
    with pytest.raises(InputError, match="no arm gru; its arms are lstm, lstm-snow"):
        study.train(spec, store, arm="gru")


def test_a_bundle_takes_files_tables_and_datasets() -> None:
    model = study.open("snow").export("other", arm="lstm-snow")
    store = study.open_store("us.zarr")
    names = [entry.name for entry in model.bundle.manifest.dynamic_inputs]
    table = store[names].to_dataframe().reset_index()
    table = table.rename(columns={"basin": "gauge_id", "time": "date"})
    table["date"] = table["date"].dt.strftime("%Y-%m-%d")
    whole = model.predict("us.zarr", "validation")["qsim"]
    for forcing in (store, store[names], table):
        found = model.predict(forcing, "validation")["qsim"]
        np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-5)
    with pytest.raises(DataError, match="must have the dims basin and time"):
        model.predict(store.rename(basin="gauge"))


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        study.open("absent")
    store = study.open_store("us.zarr")
    mine = study.open_store("us.zarr")
    mine["twice"] = 2 * mine["prcp"]
    for changed in (store.isel(basin=[0, 1]), store.assign(prcp=2 * store["prcp"]), mine):
        with pytest.raises(InputError, match=r"not a store as `study.open_store` has opened it"):
            study.train(study.load_spec("snow.yaml"), changed)


@pytest.fixture
def _no_ray_left() -> Iterator[None]:
    yield
    wait_until(lambda: not ray_processes(), "the end of all Ray processes")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_by_python_alone(tmp_path: Path, _no_ray_left: None) -> None:
    """From its spec to its contrasts, on the real Ray, and opened while it runs."""
    code = """
import threading, time
import study
spec = study.parse_spec(CONTENT, "here")
seen = []
def look():
    while not seen or seen[-1] != "finished":
        try:
            seen.append(study.open("snow", RESULTS).status)
        except study.InputError:
            pass
        time.sleep(0.5)
watch = threading.Thread(target=look, daemon=True)
watch.start()
found = study.run(spec, STORE, results=RESULTS)
watch.join(30)
assert len(set(seen)) > 1 and seen[-1] == "finished", seen
print(found.report().contrasts.to_csv())
"""
    store, results = str(Path("us.zarr").resolve()), str(tmp_path / "results")
    setting = f"CONTENT, STORE, RESULTS = {CONTENT!r}, {store!r}, {results!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", setting + code],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONWARNINGS": "default"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "snow: observed - off" in done.stdout
    assert (tmp_path / "results" / "snow" / "report" / "report.html").is_file()
    assert (tmp_path / "results" / "mlflow.db").is_file()
