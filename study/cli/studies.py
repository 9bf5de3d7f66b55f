"""Studies: look at one before, start or go on with it, watch it, read its answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import (
    Address,
    AsJson,
    Results,
    Settings,
    TrackingUri,
    console,
    errors,
    open_study,
    print_json,
)
from study.errors import InputError, StudyError

if TYPE_CHECKING:
    from study.spec import StudySpec


def check(
    spec: Path, data: Annotated[Path | None, typer.Option(help="Data store.")] = None,
    settings: Settings = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show the arms, budget and cost of a study; start nothing, write nothing.

    Example: study check search_spaces/camels_us_snow.yaml --data us.zarr
    """
    from study.experiment.plan import features, plan, timed_epoch
    from study.spec import load_spec

    loaded = load_spec(spec, settings or ())
    facts = plan(loaded)
    store = _store_path(loaded, spec, data, required=False)
    if store is not None:
        from study.experiment.engine import prepare

        prepared = prepare(loaded, store)
        facts["features"] = features(prepared)
        seconds = timed_epoch(prepared)
        facts["seconds_an_epoch"] = seconds
        facts["cpu_hours"] = seconds * facts["epochs"] / 3600
    if as_json:
        print_json(facts)
        return
    console.print(f"{facts['study']}: {len(facts['arms'])} arms")
    for arm in facts["arms"]:
        levels = ", ".join(f"{factor} {level}" for factor, level in arm["factors"].items())
        console.print(f"    {arm['arm']:24} {levels}")
    console.print("contrasts:")
    for contrast in facts["contrasts"]:
        console.print(f"    {contrast}")
    epochs, most = facts["epochs_per_arm"], facts["most_epochs_per_arm"]
    budget, about = f"{most} epochs at most", ""
    if most > epochs:  # asynchronous halving
        budget, about = f"about {epochs} epochs, {most} at most", "about "
    console.print(
        f"each arm: {facts['trials_per_arm']} trials, {budget}; "
        f"in all {facts['jobs']} jobs, {about}{facts['epochs']} epochs"
    )
    if store is not None:
        for line in facts["features"]:
            console.print(line)
        console.print(
            f"a timed epoch took {facts['seconds_an_epoch']:.2f} s (mean of the arms, middle of "
            f"the space): about {facts['cpu_hours']:.1f} hours on one worker, divided by workers"
        )


def run(
    spec: Path,
    data: Annotated[Path | None, typer.Option(help="Data store.")] = None,
    results: Results = "results",
    address: Address = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
) -> None:
    """Start a study, or go on with it wherever it stopped.

    Example: study run search_spaces/camels_us_snow.yaml --data us.zarr --results results
    """
    from study.experiment.engine import prepare, raise_failure, study_storage
    from study.experiment.engine import run as run_study
    from study.experiment.progress import winner_of
    from study.experiment.tracking import default_uri, log_report
    from study.export.winner import export_arm
    from study.report.compare import write_report
    from study.report.console import LiveProgress, show_report
    from study.spec import load_spec

    loaded = load_spec(spec, settings or ())
    store = _store_path(loaded, spec, data, required=True)
    assert store is not None
    prepared = prepare(loaded, store)
    storage = study_storage(loaded.name, results)
    uri = tracking_uri or default_uri(results)
    Path(results).mkdir(parents=True, exist_ok=True)
    with LiveProgress(errors) as progress:
        book = run_study(
            prepared, storage, address=address, tracking_uri=uri, progress=progress.update
        )
    folder = Path(results) / loaded.name
    report = write_report(book, storage, folder / "report")
    bundle = folder / "export" / winner_of(book)
    shutil.rmtree(bundle, ignore_errors=True)  # of the study before it grew
    export_arm(book, storage, winner_of(book), bundle)
    show_report(report, console)
    console.print(f"report    {folder / 'report'}")
    console.print(f"bundle    {bundle}")
    console.print(f"MLflow    study ui --tracking-uri {uri}")
    try:
        log_report(book, uri, folder / "report")
    except StudyError as error:
        errors.print(f"warning: {error}; the same `study run` tries again", markup=False)
    raise_failure(book)


def status(study: str, results: Results = "results", as_json: AsJson = False) -> None:
    """Show where a study stands, also from another terminal while it runs.

    Example: study status camels_us_snow --results results
    """
    from study.experiment.progress import progress_of
    from study.report.console import status_view

    book, _ = open_study(study, results)
    if as_json:
        print_json(progress_of(book))
    else:
        console.print(status_view(book))


def report(
    study: str,
    results: Results = "results",
    out: Annotated[Path | None, typer.Option(help="Folder; else RESULTS/NAME/report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a finished study's comparison and write its tables and figures.

    Example: study report camels_us_snow --results results --out report
    """
    from study.report.compare import REPORT, write_report
    from study.report.console import show_report

    book, storage = open_study(study, results)
    folder = out or Path(results) / book.spec.name / "report"
    content = write_report(book, storage, folder)
    if as_json:
        print((folder / REPORT).read_text())
    else:
        show_report(content, console)
        console.print(f"report    {folder}")


def _store_path(
    spec: StudySpec, spec_path: Path, data: Path | None, *, required: bool
) -> Path | None:
    if data is not None:
        return data
    if spec.data.store is not None:
        return spec_path.parent / spec.data.store
    if required:
        raise InputError(f"{spec_path}: names no data.store; give --data STORE")
    return None
