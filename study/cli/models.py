"""Models: out of a study as bundles, into predictions, and beside each other in the MLflow UI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from study.cli.common import Results, TrackingUri, console, open_study


def export(
    study: str,
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    results: Results = "results",
    arm: Annotated[str | None, typer.Option(help="Arm; else the study's winner.")] = None,
) -> None:
    """Write an arm's confirmed networks as a bundle that predicts on its own.

    Example: study export camels_us_snow --results results --out best
    """
    from study.experiment.progress import winner_of
    from study.export.winner import export_arm

    book, storage = open_study(study, results)
    chosen = arm or winner_of(book)
    export_arm(book, storage, chosen, out)
    console.print(f"{chosen}: {out}")


def predict(
    bundle: Path,
    forcing: Annotated[Path, typer.Option(help="Data store, Zarr, NetCDF or CSV.")],
    out: Annotated[Path, typer.Option(help="New file: .csv, .nc or .zarr.")],
    period: Annotated[
        str | None,
        typer.Option(help="first:last day, or test; else all days after the warm-up."),
    ] = None,
) -> None:
    """Simulate discharge with a bundle.

    Example: study predict best --forcing us.zarr --period test --out qsim.csv
    """
    from study.export.bundle import read_bundle
    from study.export.predict import named_period, read_forcing, write_prediction
    from study.export.predict import predict as simulate

    read = read_bundle(bundle)
    chosen = None if period is None else named_period(read, period)
    prediction = simulate(read, read_forcing(forcing), chosen)
    write_prediction(prediction, out)
    sizes = prediction.sizes
    console.print(
        f"{sizes['basin']} basins, {sizes['time']} days, {sizes['member']} members: {out}"
    )


def ui(
    results: Results = "results", tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(help="Port on loopback.")] = 5000,
) -> None:  # fmt: skip
    """Open the MLflow UI of the results on loopback, until Ctrl-C.

    Example: study ui --results results
    """
    from study.experiment.tracking import default_uri, serve_ui

    serve_ui(tracking_uri or default_uri(results), port)
