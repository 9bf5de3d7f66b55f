"""Every kind of bad input ends a command with exit code 2 and one paragraph that says where and
what to do, and leaves nothing behind. `pytest tests/test_bad_input.py -rP` prints the table."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from bad_cases import (
    DATA_CASES,
    FIRST,
    IDS_CASES,
    MISFITS,
    SECOND,
    SPEC,
    SPEC_CASES,
    STORE_CASES,
    Case,
    SpecCase,
)

from study.cli import main


def run_cli(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code and what was said on the error stream."""
    monkeypatch.setattr(sys, "argv", ["study", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0), capsys.readouterr().err.strip()


def check_message(name: str, code: int, message: str, says: tuple[str, ...]) -> None:
    """Exit code 2, one paragraph, with all that it must name."""
    print(f"{name:34} {message.removeprefix('error: ')}")
    assert code == 2, message
    assert message.startswith("error: ") and "\n" not in message
    assert "Traceback" not in message
    for words in says:
        assert words in message, f"{words!r} is not in {message!r}"


# Data files


@pytest.fixture(scope="session")
def two_basins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two invented basins, named as `FIRST` and `SECOND`, in the files of CAMELS-US."""
    from study.data.synthetic import synthesize

    folder = tmp_path_factory.mktemp("two")
    synthesize(folder / "original", basins=2, years=2)
    root = folder / "camels"
    ids = sorted(p.name[:8] for p in (folder / "original" / "swe_uaz").glob("*.csv"))
    names = dict(zip(ids, (FIRST, SECOND), strict=True))
    for path in (folder / "original").rglob("*"):
        if not path.is_file():
            continue
        text, place = path.read_text(), str(path.relative_to(folder / "original"))
        for old, new in names.items():
            text, place = text.replace(old, new), place.replace(old, new)
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    return root


def build_arguments(root: Path, out: Path, *more: str) -> list[str]:
    base = ["data", "build", "--root", str(root), "--out", str(out)]
    return [*base, "--snow", str(root / "swe_uaz"), *more]


@pytest.mark.parametrize("case", DATA_CASES, ids=lambda c: c.name)
def test_bad_data_file(
    case: Case,
    two_basins: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, out = tmp_path / "camels", tmp_path / "out" / "us.zarr"
    shutil.copytree(two_basins, root)
    case.damage(root)
    code, message = run_cli(build_arguments(root, out), monkeypatch, capsys)
    check_message(case.name, code, message, case.says)
    assert not out.parent.exists()


@pytest.mark.parametrize("case", IDS_CASES, ids=lambda c: c.name)
def test_bad_list_of_basins(
    case: Case,
    two_basins: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case.damage(tmp_path)
    arguments = build_arguments(
        two_basins, tmp_path / "us.zarr", "--basins", str(tmp_path / "basins.txt")
    )
    code, message = run_cli(arguments, monkeypatch, capsys)
    check_message(case.name, code, message, case.says)
    assert not list(tmp_path.glob("*.zarr*"))


@pytest.mark.parametrize(
    ("name", "option", "value", "says"),
    [
        ("root that is no CAMELS folder", "--root", "nowhere", ("nowhere", "--root")),
        ("forcing product not there", "--forcing", "era5", ("era5", "maurer_extended")),
        ("source unknown", "--source", "camels-xx", ("--source camels-xx",)),
        ("snow column not there", "--snow-column", "swe_x", ("line 1", "swe_x")),
    ],
)
def test_bad_option(
    name: str,
    option: str,
    value: str,
    says: tuple[str, ...],
    two_basins: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = build_arguments(two_basins, tmp_path / "us.zarr", option, value)
    code, message = run_cli(arguments, monkeypatch, capsys)
    check_message(name, code, message, says)
    assert not list(tmp_path.iterdir())


# Stores


@pytest.mark.parametrize("case", STORE_CASES, ids=lambda c: c.name)
def test_bad_store(
    case: Case,
    synthetic_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "us.zarr"
    shutil.copytree(synthetic_store, store)
    case.damage(store)
    code, message = run_cli(["data", "info", str(store)], monkeypatch, capsys)
    check_message(case.name, code, message, case.says)


def test_full_disk_leaves_nothing(
    two_basins: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = xr.Dataset.to_zarr

    def fills_up(self: xr.Dataset, *args: object, **kwargs: object) -> None:
        write(self, *args, **kwargs)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(xr.Dataset, "to_zarr", fills_up)
    arguments = build_arguments(two_basins, tmp_path / "us.zarr")
    code, message = run_cli(arguments, monkeypatch, capsys)
    says = ("us.zarr", "No space left on device", "nothing was left")
    check_message("disk full", code, message, says)
    assert not list(tmp_path.iterdir())


def test_a_killed_build_leaves_no_store(two_basins: Path, tmp_path: Path) -> None:
    """Killed while it writes: there is nothing at OUT, and the next build succeeds."""
    out = tmp_path / "us.zarr"
    code = (
        "import sys, time, xarray\n"
        "write = xarray.Dataset.to_zarr\n"
        "def slow(*a, **k):\n"
        "    write(*a, **k)\n"
        "    time.sleep(60)\n"
        "xarray.Dataset.to_zarr = slow\n"
        "from study.cli import main\n"
        "main()\n"
    )
    arguments = build_arguments(two_basins, out)
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".us.zarr.*/.zmetadata")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".us.zarr.*")), "the build was not killed while it wrote"
    assert not out.exists()
    subprocess.run([sys.executable, "-m", "study", *arguments], check=True, capture_output=True)
    assert [p.name for p in tmp_path.iterdir()] == ["us.zarr"]


# Specs


@pytest.mark.parametrize("case", SPEC_CASES, ids=lambda c: c.name)
def test_bad_spec(
    case: SpecCase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(case.text())
    code, message = run_cli(["check", str(path)], monkeypatch, capsys)
    check_message(case.name, code, message, ("bad.yaml", *case.says))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("cohorts", "write key=value"),
        ("=3", "write key=value"),
        ("search..cohorts=3", "write key=value"),
        ("name.first=3", "`name` is a value"),
        ("search.cohorts=[3", "not a YAML value"),
        ("search.cohorts=", "`search.cohorts` is empty"),
        ("search.cohort=3", "did you mean `cohorts`"),
        ("search.cohorts=!!python/name:os.system", "tag"),
    ],
)
def test_bad_setting(
    setting: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(SPEC)
    code, message = run_cli(["check", str(path), "--set", setting], monkeypatch, capsys)
    check_message(f"--set {setting}", code, message, (says,))


def test_spec_that_is_not_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"name: \xe9\n")
    code, message = run_cli(["check", str(path)], monkeypatch, capsys)
    check_message("spec with a latin-1 byte", code, message, ("bad.yaml", "UTF-8"))
    code, message = run_cli(["check", str(tmp_path / "gone.yaml")], monkeypatch, capsys)
    check_message("spec not there", code, message, ("gone.yaml", "cannot be read"))


# Specs that do not fit their data


@pytest.mark.parametrize(
    ("name", "settings", "says"), MISFITS, ids=[name for name, _, _ in MISFITS]
)
def test_spec_that_does_not_fit_its_data(
    name: str,
    settings: list[str],
    says: tuple[str, ...],
    synthetic_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(SPEC)
    arguments = ["check", str(path), "--data", str(synthetic_store)]
    for setting in settings:
        arguments += ["--set", setting]
    code, message = run_cli(arguments, monkeypatch, capsys)
    check_message(name, code, message, says)
