"""Shyft as a process: arrays and a request in a folder, arrays and parameters back.

The protocol, version 2. `request.json` names the `stack`, the basin's `area` (m2), the
`first_day_seconds` (since 1970), the `goal` (`nse`, `kge`), the `bounds` of the free parameters,
the `series` to return, the `warmup` days, and for each calibration the `draws` among which its
`starts` are found and the `evaluations` of a start at most. `calibrate` names jobs (`days`: first
and one after the last; `seed` of the draws), `parameters` given sets, and `simulate` runs: their
`days`, and the job or set whose `parameters` they take. `request.npz` has the forcing in Shyft's
units, `elevation` (m), and `qobs` (mm/d, NaN where unknown). `response.json` has each job's
`parameters`, `goal` and `starts`; `response.npz` the series of every run as `name.variable`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from study.errors import InputError, StudyError

PROTOCOL = 2
SIDECAR = Path(__file__).with_name("sidecar.py")
PYTHON_VARIABLE = "STUDY_SHYFT_PYTHON"
PATIENCE_SECONDS = 1800.0
"""Longer than any basin takes; a process that lasts longer hangs."""


class SidecarError(StudyError):
    """Shyft failed on one basin."""


@dataclass(frozen=True, kw_only=True)
class Response:
    calibrations: dict[str, dict[str, Any]]
    """Job -> `parameters`, `goal`, `evaluations`, `seconds`, and the same of its `starts`."""
    series: dict[str, dict[str, np.ndarray]]
    """Run -> variable -> (day,)"""


def find_python() -> str:
    """The interpreter of Shyft's environment.

    Raises:
        InputError: There is none, or Shyft cannot be imported there.
    """
    beside = Path(__file__).parents[2] / ".venv-shyft" / "bin" / "python"
    python = os.environ.get(PYTHON_VARIABLE, str(beside))
    cure = (
        f"install Shyft with `make shyft`, or set {PYTHON_VARIABLE} to the Python of an "
        "environment that has shyft and numpy<2"
    )
    try:
        tried = subprocess.run(
            [python, "-c", "import shyft.hydrology"],
            capture_output=True, text=True, check=False, timeout=120, env=_environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{python}: Shyft's Python cannot be started ({error}); {cure}") from None
    if tried.returncode != 0:
        raise InputError(f"{python}: cannot import Shyft ({_tail(tried.stderr, 1)}); {cure}")
    return python


def run_sidecar(
    python: str, request: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Response:
    """Run one request to its end.

    Args:
        python: From `find_python`.
        request: Fields of `request.json`, without the protocol.
        arrays: Content of `request.npz`.

    Raises:
        SidecarError: The process failed, crashed or hung; with the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="study-shyft-") as name:
        folder = Path(name)
        content = {"protocol": PROTOCOL, **request}
        (folder / "request.json").write_text(json.dumps(content))
        np.savez(folder / "request.npz", allow_pickle=False, **arrays)
        _run(python, folder)
        answer = json.loads((folder / "response.json").read_text())
        series: dict[str, dict[str, np.ndarray]] = {}
        with np.load(folder / "response.npz") as file:
            for key in file.files:
                job, variable = key.rsplit(".", 1)
                series.setdefault(job, {})[variable] = file[key]
        return Response(calibrations=answer["calibrations"], series=series)


def _run(python: str, folder: Path) -> None:
    log = folder / "log"
    with log.open("w") as stream:
        try:
            ended = subprocess.run(
                [python, str(SIDECAR), str(folder)],
                stdout=stream, stderr=subprocess.STDOUT, check=False,
                timeout=PATIENCE_SECONDS, env=_environment(), cwd=folder,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SidecarError(f"Shyft did not end within {PATIENCE_SECONDS:.0f} s") from None
    if ended.returncode != 0 or not (folder / "response.json").is_file():
        said = _tail(log.read_text(errors="replace"), 5) or "it said nothing"
        if ended.returncode < 0:
            raise SidecarError(f"Shyft was ended by signal {-ended.returncode}: {said}")
        raise SidecarError(f"Shyft failed (exit code {ended.returncode}): {said}")


def _environment() -> dict[str, str]:
    """Without what points Python at this environment's packages, and with one thread."""
    drop = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {k: v for k, v in os.environ.items() if k not in drop} | {"OMP_NUM_THREADS": "1"}


def _tail(text: str, lines: int) -> str:
    return " | ".join(line.strip() for line in text.strip().splitlines()[-lines:])
