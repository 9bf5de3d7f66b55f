"""`study shyft`: the hydrological model Shyft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import Address, AsJson, console, errors, print_json
from study.errors import InputError

if TYPE_CHECKING:
    from study.shyft.calibration import BasinFeatures
    from study.spec import Period

app = typer.Typer(
    help="The hydrological model Shyft as a source of features.", no_args_is_help=True
)


@app.command()
def simulate(
    store: Path,
    stack: Annotated[str, typer.Option(help="Method stack.")] = "pt_st_k",
    train_period: Annotated[
        str, typer.Option(help="Days whose discharge calibrates.")
    ] = "1999-10-01:2008-09-30",
    goal: Annotated[str, typer.Option(help="nse or kge.")] = "nse",
    starts: Annotated[int, typer.Option(min=1, help="Of each calibration.")] = 3,
    draws: Annotated[int, typer.Option(min=0, help="Points that starts are found among.")] = 50,
    evaluations: Annotated[int, typer.Option(min=1, help="Of a start, at most.")] = 2000,
    crossfit: Annotated[
        bool,
        typer.Option(help="Simulate each half of the training days as calibrated on the other."),
    ] = True,
    held_out: Annotated[
        Path | None, typer.Option(help="File of gauge ids that must not be calibrated.")
    ] = None,
    validation_period: Annotated[
        str | None, typer.Option(help="Other days to score the simulations on, for the table only.")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace features that are there.")] = False,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Calibrate Shyft on every basin, simulate it and add its series to the store.

    Example: study shyft simulate us.zarr --train-period 1999-10-01:2008-09-30
    """
    from rich.progress import Progress

    from study.data.text import read_ids
    from study.experiment.cluster import connected, each
    from study.shyft.calibration import Method
    from study.shyft.store import add_features

    train, validation = _days(train_period, validation_period)
    if goal not in ("nse", "kge"):
        raise InputError(f"--goal {goal}: it can be nse or kge")
    method = Method(
        stack=stack, goal=goal, starts=starts, draws=draws, evaluations=evaluations,
        crossfit=crossfit,
    )  # fmt: skip
    errors.print(f"calibrating {stack} on the discharge of {train}")
    with connected(address), Progress(console=errors, transient=True) as bar:
        task = bar.add_task("simulating basins", total=None)
        found = add_features(
            store,
            train,
            method,
            held_out=() if held_out is None else read_ids(held_out),
            validation=validation,
            replace=replace,
            each=each,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _show(found, as_json)


def _days(train: str, validation: str | None) -> tuple[Period, Period | None]:
    from study.spec import parse_period

    if validation is None:
        return parse_period(train, "--train-period"), None
    return parse_period(train, "--train-period"), parse_period(validation, "--validation-period")


def _show(found: Mapping[str, BasinFeatures], as_json: bool) -> None:
    from study.report.console import shyft_view

    if as_json:
        print_json({b: {**f.scores} if f.series else {"error": f.log["error"]}
                    for b, f in found.items()})  # fmt: skip
    else:
        console.print(shyft_view(found))
