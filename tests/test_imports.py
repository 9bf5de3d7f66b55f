"""Imports inside `study` run one way, heavy packages have one door each, and help is light."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import study

PACKAGE = Path(study.__file__).parent

ORDER = (
    *("errors", "seeding", "platform", "plugins", "spec", "data", "shyft", "native", "models"),
    *("training", "evaluation", "experiment", "report", "export", "api", "cli"),
)
"""From the bottom up: a module may import those before it, and its own package."""

DOORS = {
    "ray": {"experiment/cluster.py", "experiment/drain.py", "experiment/sweep.py"},
    "mlflow": {"experiment/tracking/"},
    "boto3": {"experiment/storage/s3.py"},
    "botocore": {"experiment/storage/s3.py", "experiment/storage/s3_errors.py"},
    "optuna": {"experiment/search.py", "experiment/parzen.py", "experiment/importance.py"},
    "torch": {"native/", "models/", "training/", "evaluation/explain.py", "evaluation/simulate.py"}
    | {"experiment/", "export/build.py", "export/graph.py", "export/program.py"}
    | {"export/pretrained/", "export/backends/torch.py", "export/backends/exported.py"},
    "onnx": {"export/graph.py"},
    "onnxruntime": {"export/backends/onnx.py"},
    "cryptography": {"export/signature.py"},
    "matplotlib": {"report/figures.py", "report/forest.py", "report/maps.py", "report/sketches.py"},
    "jinja2": {"report/page.py"},
    "typer": {"cli/"},
    "shyft": {"shyft/sidecar.py"},
}  # fmt: skip
"""Package -> the files or folders that may import it. Ray's is the sharpest: the rest of the
engine must run, and be tested, without a cluster."""


FRONT = set(study.__all__) - {"__version__"}
"""What users take from `study` itself; the package takes it from where it is."""


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(package: Path) -> list[str]:
    """Every import that breaks the order or uses a door that is not its own."""
    found = []
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        part = file.split("/")[0].removesuffix(".py")
        rank = ORDER.index("cli" if part in ("__main__", "__init__") else part)
        for name in imports(path):
            root, _, rest = name.partition(".")
            own = rest.split(".")[0]
            if root == "study" and own in ORDER and ORDER.index(own) > rank:
                found.append(f"{file} imports {name}, which lies above it")
            if root == "study" and own in FRONT:
                found.append(f"{file} imports {name} by the front door")
            if root in DOORS and not file.startswith(tuple(DOORS[root])):
                found.append(f"{file} imports {name}; only {', '.join(sorted(DOORS[root]))} may")
    return found


def test_imports_run_one_way() -> None:
    assert violations(PACKAGE) == []


def test_every_part_has_its_place_in_the_order() -> None:
    parts = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert parts - {"__init__", "__main__"} <= set(ORDER)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("data/windows.py", "from study.training.loop import Trainer"),
        ("training/loss.py", "def late():\n    import study.experiment.book"),
        ("evaluation/metrics.py", "from study.report import figures"),
        ("spec.py", "from study import data"),
        ("experiment/book.py", "import ray"),
        ("experiment/engine.py", "from mlflow.entities import Run"),
        ("report/compare.py", "import optuna.trial"),
        ("data/store.py", "import boto3"),
        ("report/page.py", "from study import load_spec"),
        ("experiment/storage/local.py", "from botocore import config"),
    ],
)
def test_a_planted_import_is_found(file: str, line: str, tmp_path: Path) -> None:
    copy = tmp_path / "study"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / file).open("a") as planted:
        planted.write(f"\n{line}\n")
    assert len(violations(copy)) == 1
    assert violations(copy)[0].startswith(f"{file} imports")


HEAVY = ("torch", "ray", "mlflow", "optuna", "boto3", "onnx", "onnxruntime")

BLOCK = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if (name + ".").startswith({blocked!r}):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Refuse())
"""


def blocking(*packages: str) -> str:
    """Code after which these packages cannot be imported."""
    return BLOCK.format(blocked=tuple(f"{name}." for name in packages))


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['study', *{arguments!r}]\n"
        "from study.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print('loaded:', sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    ended = python(code)
    assert ended.stdout.endswith("loaded: []\n"), ended.stdout + ended.stderr


def test_prediction_needs_no_engine() -> None:
    packages = ("ray", "mlflow", "optuna", "boto3", "matplotlib", "scipy", "torch", "onnx")
    parts = ("predict", "bundle", "inspect", "served", "backends.onnx")
    needed = ", ".join(f"study.export.{part}" for part in parts)
    engine = ("study.experiment", "study.models", "study.training")
    for code in (blocking(*packages, *engine) + f"import {needed}",
                 blocking(*packages) + "import study.cli"):  # fmt: skip
        ended = python(code)
        assert ended.returncode == 0, ended.stderr


def test_a_worker_needs_no_sampler() -> None:
    """It would load one before its first epoch."""
    ended = python(blocking("optuna", "mlflow", "sqlalchemy") + "import study.experiment.sweep")
    assert ended.returncode == 0, ended.stderr


def test_the_block_blocks() -> None:
    ended = python(blocking("ray", "study.experiment") + "import ray")
    assert "blocked: ray" in ended.stderr
