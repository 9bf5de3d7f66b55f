"""What all tests share: a quiet, private environment and one set of synthetic basins."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports Ray, MLflow or torch; child processes inherit it.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "AWS_EC2_METADATA_DISABLED": "true",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
}
for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):  # a study of the person who runs the tests
    os.environ.pop(name, None)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _private_temporary_folder() -> Iterator[None]:
    """Ray, Tune and MLflow leave files in the temporary folder; ours goes when the tests end.

    Its name is short: Ray puts sockets below it, and a socket's path may have 107 bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    before = {name: os.environ.get(name) for name in ("TMPDIR", "RAY_TMPDIR")}
    os.environ |= {"TMPDIR": str(folder), "RAY_TMPDIR": str(folder)}
    tempfile.tempdir = None
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    tempfile.tempdir = None
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six invented basins, water years 1981 to 1988, in the files of CAMELS-US."""
    from study.data.synthetic import synthesize

    root = tmp_path_factory.mktemp("synthetic") / "camels"
    synthesize(root, basins=6, years=8)
    return root


@pytest.fixture(scope="session")
def synthetic_store(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data store of these basins, with snow."""
    from study.data.store import build_camels_us

    out = tmp_path_factory.mktemp("stores") / "synthetic.zarr"
    build_camels_us(synthetic_root, out, snow=synthetic_root / "swe_uaz")
    return out


@pytest.fixture(scope="session")
def camels_root() -> Path | None:
    """Real CAMELS-US files: CAMELS_US_ROOT, or the sample beside the repository; else None."""
    default = REPOSITORY.parent / "shared" / "data" / "camels_us_29"
    root = Path(os.environ.get("CAMELS_US_ROOT", default))
    return root if root.is_dir() else None
