"""What all tests share: a quiet, private environment and one set of synthetic basins."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from parity import parity as parity
from parity import pytest_terminal_summary as pytest_terminal_summary
from seaweed import BUCKET, S3Server, find_weed

# Before anything imports Ray, MLflow or torch; child processes inherit it.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "AWS_EC2_METADATA_DISABLED": "true",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
}
for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_CACHE_DIR"):  # of who runs the tests
    os.environ.pop(name, None)
for name in [n for n in os.environ if n.startswith("AWS_") and n != "AWS_EC2_METADATA_DISABLED"]:
    del os.environ[name]
os.environ |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}

REPOSITORY = Path(__file__).resolve().parent.parent
SECONDS = REPOSITORY / "tests" / "collected" / "seconds.txt"
"""What files of tests take, the longest first: `python -m tests.collected --seconds` makes it."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, the files that take longest begin first: else the last of them runs alone."""
    if not hasattr(config, "workerinput"):
        return
    lines = (line.split() for line in SECONDS.read_text().splitlines())
    seconds = {name: float(taken) for taken, name in lines}
    items.sort(key=lambda item: -seconds.get(item.nodeid.partition("::")[0], 0.0))


def _folder_of_files() -> Path:
    """Where tests write: in memory, if it has room. The product syncs all that it writes, which a
    disk takes milliseconds for; hosts of the test bed share no memory."""
    memory, room = Path("/dev/shm"), 4e9
    shared = "STUDY_TESTBED" in os.environ
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > room
    return memory if roomy and not shared else Path("/tmp")


os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_folder_of_files()))


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
def s3_server() -> Iterator[S3Server]:
    """A real S3 server with one empty bucket, started when a test first asks for it."""
    find_weed()
    server = S3Server(Path(tempfile.mkdtemp()) / "s3")  # a short path: it makes sockets there
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def s3_place(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in the bucket, which the environment's credentials may use."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def camels_root() -> Path | None:
    """Real CAMELS-US files: CAMELS_US_ROOT, or the sample beside the repository; else None."""
    default = REPOSITORY.parent / "shared" / "data" / "camels_us_29"
    root = Path(os.environ.get("CAMELS_US_ROOT", default))
    return root if root.is_dir() else None
