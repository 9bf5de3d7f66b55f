"""Studies: look at one before, start or go on with it, watch it, read its answer."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import (
    Address,
    AsJson,
    Data,
    NumGpus,
    Results,
    Settings,
    Study,
    TrackingUri,
    console,
    errors,
    local_store,
    open_study,
    print_json,
)
from study.errors import InputError
from study.experiment.storage import is_s3

if TYPE_CHECKING:
    from study.experiment.book import Book
    from study.spec import StudySpec


def check(
    spec: Path, data: Data = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster: how many trials fit there.")
    ] = None,
    settings: Settings = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show the arms, budget and cost of a study.

    Starts nothing and writes nothing. With a store it checks the data, too, and times an epoch.

    Example: study check search_spaces/camels_us_snow.yaml --data us.zarr
    """
    from study.experiment.plan import features, plan, room_there, timed_epoch, told
    from study.spec import load_spec

    loaded = load_spec(spec, settings or ())
    facts = plan(loaded)
    if address is not None:
        facts["cluster"] = room_there(loaded, address)
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
    for line in told(facts):
        console.print(line)


def run(
    spec: Path,
    data: Data = None,
    results: Results = "results",
    address: Address = None,
    num_gpus: NumGpus = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
) -> None:
    """Start a study, or go on with it wherever it stopped.

    SIGTERM or Ctrl-C lets workers save their jobs and ends it within 20 seconds, with exit code
    143 or 130; a second one ends it at once. Either way the same command goes on.

    Example: study run search_spaces/camels_us_snow.yaml --data us.zarr --results results

    On a cluster: study run search_spaces/camels_us_snow.yaml --address auto
    --data s3://bucket/us.zarr --results s3://bucket/results
    """
    from study.cli.answering import Ending
    from study.experiment.connection import Connection
    from study.experiment.interruption import interruptible
    from study.experiment.starting import begin, look
    from study.experiment.storage import study_storage
    from study.report.console import LiveProgress
    from study.report.painters import Painters
    from study.spec import load_spec

    loaded = load_spec(spec, settings or ())
    storage = study_storage(loaded.name, results)
    store = _store_path(loaded, spec, data, required=True)
    assert store is not None
    log = look(loaded, storage)
    with (
        interruptible() as interruption,
        Connection(address=address, num_gpus=num_gpus) as connection,
        Painters() as painters,
        LiveProgress(errors) as progress,
    ):
        prepared = begin(loaded, store, log, connection, server=tracking_uri)
        from study.experiment.engine import raise_failure
        from study.experiment.engine import run as run_study
        from study.experiment.tracking.following import default_uri

        uri, home = tracking_uri or default_uri(results), f"{results.rstrip('/')}/{loaded.name}"
        if not is_s3(results):
            Path(results).mkdir(parents=True, exist_ok=True)
        ending = Ending(storage, home=home, uri=uri, painters=painters)

        def follow(book: Book) -> None:
            progress.update(book)
            if book.trained():
                painters.start()  # while replicates are scored

        def finish(book: Book) -> None:
            progress.stop()
            ending(book)

        book = run_study(
            prepared, storage, log=log, connection=connection, tracking_uri=uri,
            progress=follow, finish=finish, interruption=interruption,
        )  # fmt: skip
    raise_failure(book)


def status(
    study: Study,
    results: Results = "results",
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep the table up to date until the study is finished.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show where a study stands, also while it runs.

    Example: study status camels_us_snow --results results --watch
    """
    from study.experiment.progress import is_finished, progress_of
    from study.report.console import keep_showing, status_view

    if watch and as_json:
        raise InputError("--watch draws a table again and again; give it or --json, not both")
    book, _ = open_study(study, results)
    if as_json:
        print_json(progress_of(book))
    elif watch and not is_finished(book):
        keep_showing(lambda: open_study(study, results)[0], console)
    else:
        console.print(status_view(book))


def report(
    study: Study,
    results: Results = "results",
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="Print only this factor's, or with this in their name."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; else RESULTS/NAME/report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a study's answer; write its tables and figures.

    Example: study report camels_us_snow --results results --contrast snow
    """
    from study.experiment.storage import results_folder
    from study.report.compare import REPORT, write_report
    from study.report.console import show_report
    from study.report.painters import Painters
    from study.report.selection import only

    book, storage = open_study(study, results)
    place = results_folder(storage, "report", last=REPORT) if out is None else nullcontext(out)
    with place as folder, Painters() as painters:
        painters.start()
        content = write_report(book, storage, folder, painters.each)
        if as_json:
            content = json.loads((folder / REPORT).read_text())
    content = only(content, contrast) if contrast else content
    if as_json:
        print_json(content)
    else:
        show_report(content, console)
        console.print(f"report    {out or f'{storage.uri}/report'}")


def _store_path(
    spec: StudySpec, spec_path: Path, data: str | None, *, required: bool
) -> Path | None:
    """The folder of the store that is given, or that the spec names."""
    if data is not None:
        return local_store(data)
    if spec.data.store is not None:
        named = spec.data.store
        return local_store(named if is_s3(named) else spec_path.parent / named)
    if required:
        raise InputError(f"{spec_path}: names no data.store; give --data STORE")
    return None
