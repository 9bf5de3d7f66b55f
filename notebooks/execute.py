"""Run the notebooks and hold what they find against what they show: `execute.py [NOTEBOOK ...]`.

A notebook is stored with its outputs, so that it can be read without running it. Here each runs in
a fresh kernel; it must not fail, and what it prints must be what is stored. Cells tagged `varies`
print numbers that depend on the processor or the clock: of these only the words are compared, and
not a verdict, which is the name of where a number lies; what must hold of a verdict, a notebook
asserts. Of figures it is compared that they are there.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from study.report.statistics import Verdict

FOLDER = Path(__file__).resolve().parent
REAL_DATA = "CAMELS_US_ROOT"
"""Environment variable by which a notebook learns of real data; it invents basins without."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_SECONDS = 1200
NUMBER = re.compile(r"[-+−]?\d+(\.\d+)?(e[-+]?\d+)?")
VERDICT = re.compile(rf"\b({'|'.join(get_args(Verdict))})\b")
TRAILING = re.compile(r"(?m)[ \t]+$")
TEMPORARY = re.compile(r"\S*/nb-[^/\s]+/tmp[^/\s]+")
"""A folder that a notebook made for itself."""
PADDING = re.compile(r"[ ─━┼┿╇┳┻┴┬-]{2,}")


@contextmanager
def surroundings(root: Path | None) -> Iterator[None]:
    """What a kernel inherits: the commands of this environment, one thread, figures in cells."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="nb-") as folder:
        os.environ |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": folder,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        for name in (REAL_DATA, "RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
            os.environ.pop(name, None)
        if root is not None:
            os.environ[REAL_DATA] = str(root.resolve())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def execute(path: Path, root: Path | None = None) -> NotebookNode:
    """A notebook with the outputs of a run in a fresh kernel.

    Args:
        path: The notebook.
        root: Real data in the layout of CAMELS-US; invented basins if None.

    Raises:
        CellExecutionError: A cell raised.
        DeadKernelError: The kernel died.
    """
    notebook = nbformat.read(path, as_version=4)
    with surroundings(root):
        NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(path.parent)}},
        ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def texts(cell: NotebookNode) -> list[tuple[str, str]]:
    """Kind and text of every output of a cell; a figure's text is empty."""
    found = []
    for output in cell.outputs:
        if output.output_type == "stream":
            text = TEMPORARY.sub("/tmp/notebook", output.text)
            found.append((output.name, TRAILING.sub("", text)))
        elif output.output_type == "error":
            found.append(("error", output.ename))
        elif "image/png" in output.data:
            found.append(("figure", ""))
        else:
            found.append(("result", output.data.get("text/plain", "")))
    return found


def words(text: str) -> str:
    """A text without its numbers, its verdicts and what pads them into columns."""
    return PADDING.sub(" ", VERDICT.sub("#", NUMBER.sub("#", text))).strip()


def differences(stored: NotebookNode, run: NotebookNode) -> list[str]:
    """Where a run shows something else than what is stored, a line each."""
    found = []
    for number, (old, new) in enumerate(zip(stored.cells, run.cells, strict=True), start=1):
        if old.cell_type != "code":
            continue
        told = words if "varies" in old.metadata.get("tags", []) else str
        before, after = ([(kind, told(text)) for kind, text in texts(c)] for c in (old, new))
        if before != after:
            found.append(f"cell {number}: stored {before}, but a run gave {after}")
    return found


def complaints(run: NotebookNode) -> list[str]:
    """What a run wrote to standard error, warnings for instance, a line each."""
    return [
        f"cell {number}: {text}"
        for number, cell in enumerate(run.cells, start=1)
        if cell.cell_type == "code"
        for kind, text in texts(cell)
        if kind == "stderr"
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run notebooks; returns how many failed or differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="else all")
    parser.add_argument("--root", type=Path, help="real data in the layout of CAMELS-US")
    parser.add_argument("--write", action="store_true", help="store what a run shows")
    options = parser.parse_args(arguments)
    wrong = 0
    for path in options.notebooks or sorted(FOLDER.glob("*.ipynb")):
        started = time.monotonic()
        try:
            run = execute(path, options.root)
        except (CellExecutionError, DeadKernelError) as error:
            print(f"{path.name}: failed\n{error}")
            wrong += 1
            continue
        found = complaints(run)
        if options.write and not found:
            nbformat.write(run, path)
        elif options.root is None:  # what is stored is of invented basins
            found += differences(nbformat.read(path, as_version=4), run)
        wrong += bool(found)
        state = "WRONG" if found else "ok"
        print(f"{path.name}: {state}, {time.monotonic() - started:.0f} s", *found, sep="\n    ")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
