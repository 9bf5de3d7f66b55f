"""The command line: parsing and printing only. Heavy packages load when a command needs them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from study import __version__
from study.errors import InputError, StudyError

if TYPE_CHECKING:
    from study.experiment.ledger import Ledger
    from study.experiment.storage import Storage
    from study.spec import StudySpec

app = typer.Typer(
    name="study",
    help="What makes a rainfall–runoff network better? Ablation studies, tuned fairly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Make and look at data stores.", no_args_is_help=True)
app.add_typer(data_app, name="data")
shyft_app = typer.Typer(
    help="The hydrological model Shyft as a source of features.", no_args_is_help=True
)
app.add_typer(shyft_app, name="shyft")

WIDTH = None if sys.stdout.isatty() else 120  # of a file or a pipe, which have none

console = Console(highlight=False, width=WIDTH)
errors = Console(stderr=True, highlight=False)

Results = Annotated[
    str, typer.Option(metavar="DIR", help="Folder that holds all studies' results.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS", help="Of a running Ray cluster (auto, host:6379); else an own one."
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI", help="MLflow server or database; else RESULTS/mlflow.db."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the spec; may be repeated."),
]


def main() -> None:
    """Run a command; errors a user can mend are one paragraph and an exit code."""
    try:
        app(standalone_mode=True)
    except (StudyError, OSError) as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code if isinstance(error, StudyError) else StudyError.exit_code)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit


@data_app.command()
def synthesize(
    out: Annotated[Path, typer.Option(help="New folder, in CAMELS-US layout.")],
    basins: Annotated[int, typer.Option(help="Number of basins.")] = 12,
    years: Annotated[int, typer.Option(help="Water years, from 1980-10-01 on.")] = 12,
    seed: int = 1,
    snow_signal: Annotated[
        bool, typer.Option(help="Whether the snow series is the true one, or another winter's.")
    ] = True,
) -> None:
    """Make basins with known truth, in the layout of CAMELS-US.

    Example: study data synthesize --out basins --basins 12 --years 12
    """
    from study.data.synthetic import synthesize as make

    make(out, basins=basins, years=years, seed=seed, snow_signal=snow_signal)
    console.print(f"{basins} basins, {years} years: {out}")


@data_app.command()
def build(
    root: Annotated[Path, typer.Option(help="The source's folder.")],
    out: Annotated[Path, typer.Option(help="New store.")],
    source: Annotated[str, typer.Option(help="Kind of data: camels-us.")] = "camels-us",
    basins: Annotated[Path | None, typer.Option(help="File of gauge ids, one a line.")] = None,
    forcing: Annotated[str, typer.Option(help="Forcing product.")] = "maurer_extended",
    snow: Annotated[Path | None, typer.Option(help="Folder of <id>_swe.csv.")] = None,
    snow_column: Annotated[str | None, typer.Option(help="Column of these; else uaz_swe.")] = None,
) -> None:
    """Read original files into a store.

    Example: study data build --root camels_us --snow camels_us/swe_uaz --out us.zarr
    """
    from rich.progress import Progress

    from study.data.store import build_camels_us
    from study.data.text import read_ids

    if source != "camels-us":
        raise InputError(f"--source {source}: unknown kind of data; it can be camels-us")
    ids = None if basins is None else read_ids(basins)
    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("reading basins", total=None)
        dataset = build_camels_us(
            root,
            out,
            basins=ids,
            forcing=forcing,
            snow=snow,
            snow_column=snow_column,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{dataset.sizes['basin']} basins, {dataset.sizes['time']} days: {out}")


@data_app.command()
def info(store: Path, as_json: AsJson = False) -> None:
    """Say what a store holds, and check it against its digests.

    Example: study data info us.zarr
    """
    from study.data.store import describe, open_store, verify

    dataset = open_store(store)
    verify(dataset, store)
    facts = describe(dataset)
    if as_json:
        _print_json(facts)
        return
    console.print(
        f"{facts['basins']} basins, {facts['first_day']} to {facts['last_day']}, "
        f"{facts['source']} ({facts['forcing_product']})"
    )
    for group, content in facts["groups"].items():
        console.print(f"{group}  {content['digest'][:12]}")
        for name, variable in content["variables"].items():
            console.print(f"    {name:24} {variable['units']:8} {variable['missing']:.1%} missing")


@shyft_app.command("simulate")
def shyft_simulate(
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
    from study.report.console import shyft_view
    from study.shyft.store import add_features
    from study.spec import parse_period

    train = parse_period(train_period, "--train-period")
    validation = (
        None
        if validation_period is None
        else parse_period(validation_period, "--validation-period")
    )
    if goal not in ("nse", "kge"):
        raise InputError(f"--goal {goal}: it can be nse or kge")
    errors.print(f"calibrating {stack} on the discharge of {train}")
    with connected(address), Progress(console=errors, transient=True) as bar:
        task = bar.add_task("simulating basins", total=None)
        found = add_features(
            store,
            train,
            stack=stack,
            goal=goal,
            starts=starts,
            draws=draws,
            evaluations=evaluations,
            crossfit=crossfit,
            held_out=() if held_out is None else read_ids(held_out),
            validation=validation,
            replace=replace,
            each=each,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        _print_json({b: {**f.scores} if f.series else {"error": f.log["error"]}
                     for b, f in found.items()})  # fmt: skip
    else:
        console.print(shyft_view(found))


@app.command()
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
        _print_json(facts)
        return
    console.print(f"{facts['study']}: {len(facts['arms'])} arms")
    for arm in facts["arms"]:
        levels = ", ".join(f"{factor} {level}" for factor, level in arm["factors"].items())
        console.print(f"    {arm['arm']:24} {levels}")
    console.print("contrasts:")
    for contrast in facts["contrasts"]:
        console.print(f"    {contrast}")
    console.print(
        f"each arm: {facts['trials_per_arm']} trials, {facts['epochs_per_arm']} epochs at most; "
        f"in all {facts['jobs']} jobs, {facts['epochs']} epochs"
    )
    if store is not None:
        for line in facts["features"]:
            console.print(line)
        console.print(
            f"a timed epoch took {facts['seconds_an_epoch']:.2f} s (mean of the arms, middle of "
            f"the space): about {facts['cpu_hours']:.1f} hours on one worker, divided by workers"
        )


@app.command()
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


@app.command()
def status(study: str, results: Results = "results", as_json: AsJson = False) -> None:
    """Show where a study stands, also from another terminal while it runs.

    Example: study status camels_us_snow --results results
    """
    from study.experiment.progress import progress_of
    from study.report.console import status_view

    book, _ = _book(study, results)
    if as_json:
        _print_json(progress_of(book))
    else:
        console.print(status_view(book))


@app.command()
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

    book, storage = _book(study, results)
    folder = out or Path(results) / book.spec.name / "report"
    content = write_report(book, storage, folder)
    if as_json:
        print((folder / REPORT).read_text())
    else:
        show_report(content, console)
        console.print(f"report    {folder}")


@app.command()
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

    book, storage = _book(study, results)
    chosen = arm or winner_of(book)
    export_arm(book, storage, chosen, out)
    console.print(f"{chosen}: {out}")


@app.command()
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


@app.command()
def ui(
    results: Results = "results", tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(help="Port on loopback.")] = 5000,
) -> None:  # fmt: skip
    """Open the MLflow UI of the results on loopback, until Ctrl-C.

    Example: study ui --results results
    """
    from study.experiment.tracking import default_uri, serve_ui

    serve_ui(tracking_uri or default_uri(results), port)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1))


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


def _book(study: str, results: str) -> tuple[Ledger, Storage]:
    """A study by its name, or by its spec file."""
    from study.experiment.engine import open_ledger, study_storage
    from study.spec import load_spec

    name = load_spec(study).name if study.endswith((".yaml", ".yml")) else study
    storage = study_storage(name, results)
    return open_ledger(storage), storage
