"""Models of other people's: published runs as bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import console
from study.cli.models import OutBundle, PrivateKey

if TYPE_CHECKING:
    from study.export.pretrained.run import ImportedRun

app = typer.Typer(help="Make a bundle of runs of other packages.", no_args_is_help=True)

Runs = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="Run folders; several are an ensemble.")
]
Epoch = Annotated[int | None, typer.Option(help="Of the weights; else the last.")]


@app.command("ealstm-run")
def ealstm_run(
    runs: Runs,
    basins: Annotated[Path, typer.Option(help="Basins it was trained on, one gauge id a line.")],
    out: OutBundle,
    epoch: Epoch = None,
    sign: PrivateKey = None,
) -> None:
    """Import runs of the code released with the EA-LSTM paper of 2019.

    Example: study import ealstm-run runs/run_2303_seed111 --basins data/basin_list.txt --out ealstm
    """
    from study.data.text import read_ids
    from study.export.pretrained.ealstm_run import read_run

    ids = read_ids(basins)
    _write([read_run(run, ids, epoch) for run in runs], out, sign)


@app.command("neuralhydrology-run")
def neuralhydrology_run(
    runs: Runs, out: OutBundle, epoch: Epoch = None, sign: PrivateKey = None
) -> None:
    """Import runs of neuralhydrology (cudalstm, ealstm).

    Example: study import neuralhydrology-run runs/cudalstm_0101_120000 --out nh.tar
    """
    from study.export.pretrained.neuralhydrology_run import read_run

    _write([read_run(run, epoch) for run in runs], out, sign)


def _write(runs: list[ImportedRun], out: str, sign: Path | None) -> None:
    from study.export.build import build_bundle
    from study.export.pretrained.run import together

    manifest = together(runs)
    members = [run.weights for run in runs]
    build_bundle(out, manifest, members, runs[0].attributes, key=sign)
    console.print(f"{manifest.name}, {manifest.members} members: {out}", markup=False)
