"""Models: out of a study as bundles, into predictions, and beside each other in the MLflow UI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from study.cli.common import (
    AsJson,
    Results,
    Study,
    TrackingUri,
    complete_study,
    console,
    errors,
    open_study,
    print_json,
)
from study.errors import InputError

PublicKey = Annotated[
    Path | None, typer.Option("--key", help="Public key (PEM); the bundle must be signed with it.")
]
Backend = Annotated[
    str | None,
    typer.Option(help="onnx (if it has graphs, the default), torch, or exported (needs --key)."),
]
OutBundle = Annotated[
    str, typer.Option(metavar="PLACE", help="New folder, new .tar, or s3://bucket/key.")
]
PrivateKey = Annotated[
    Path | None, typer.Option("--sign", help="Private Ed25519 key (PEM) to sign the bundle with.")
]


def export(
    out: OutBundle,
    study: Annotated[
        str | None,
        typer.Argument(
            help="Name of a finished study, or its spec file.", autocompletion=complete_study
        ),
    ] = None,
    results: Results = "results",
    arm: Annotated[str | None, typer.Option(help="Arm; else the study's winner.")] = None,
    members: Annotated[
        int | None, typer.Option(help="Only the first so many replicates; 1 is a single model.")
    ] = None,
    sign: PrivateKey = None,
    registered: Annotated[
        str | None,
        typer.Option("--from", help="A registered model instead: models:/NAME@champion."),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write an arm's networks, or a registered model, as a bundle that predicts.

    The networks are those of the confirmation, one a seed; the bundle needs no Ray and no MLflow.

    Example: study export camels_us_snow --results results --out best.tar

    From the registry: study export --from models:/camels_us_snow@champion --out best
    """
    if (study is None) == (registered is None):
        raise InputError("give either the name of a study, or --from models:/NAME@champion")
    if registered is not None:
        from study.experiment.tracking.following import default_uri
        from study.export.registering import export_registered

        bundle = export_registered(registered, tracking_uri or default_uri(results), out, sign)
        console.print(f"{bundle.manifest.name}: {out}", markup=False)
        return
    assert study is not None
    from study.experiment.progress import winner_of
    from study.export.winner import export_arm

    book, storage = open_study(study, results)
    chosen = arm or winner_of(book)
    manifest = export_arm(book, storage, chosen, out, members=members, key=sign)
    console.print(f"{chosen}, {manifest.members} members: {out}")


def promote(
    study: Study,
    arm: Annotated[str | None, typer.Option(help="Challenger; else the study's winner.")] = None,
    results: Results = "results",
    tracking_uri: TrackingUri = None,
) -> None:
    """Make an arm the champion of the model registry, if it is better than the one there is.

    Better by the study's own verdict, on the validation period; else nothing is changed.

    Example: study promote camels_us_snow --arm ealstm-snow --results results
    """
    from study.experiment.progress import winner_of
    from study.experiment.tracking.following import default_uri
    from study.export.registering import promote as promote_arm

    book, storage = open_study(study, results)
    uri = tracking_uri or default_uri(results)
    version, effect = promote_arm(book, storage, arm or winner_of(book), uri)
    console.print(
        f"champion of {version.name}: version {version.number}, {version.tags['study.arm']} "
        f"(better by {effect.difference:.3f} NSE, {effect.low:.3f} to {effect.high:.3f})"
    )


def inspect(
    bundle: Annotated[str, typer.Argument(help="Folder, .tar, or s3://bucket/key.")],
    key: PublicKey = None,
    as_json: AsJson = False,
) -> None:
    """Check a bundle: every file, the signature, and its example with every back end there is.

    Example: study inspect best.tar --key forecaster.pub
    """
    from study.export.inspect import facts, failed, told

    found = facts(bundle, key)
    if as_json:
        print_json(found)
    else:
        console.print("\n".join(told(found)), markup=False)
    if failed(found):
        raise typer.Exit(1)


def predict(
    bundle: Annotated[str, typer.Argument(help="Folder, .tar, or s3://bucket/key.")],
    forcing: Annotated[Path, typer.Option(help="Data store, Zarr, NetCDF or CSV.")],
    out: Annotated[Path, typer.Option(help="New file: .csv, .nc or .zarr.")],
    period: Annotated[
        str | None,
        typer.Option(help="first:last day, or test; else all days after the warm-up."),
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="CSV of gauge_id and attributes, for new basins.")
    ] = None,
    state_in: Annotated[
        Path | None, typer.Option(help="State of the day before: no warm-up is needed.")
    ] = None,
    state_out: Annotated[
        Path | None, typer.Option(help="Write the state after the last day here.")
    ] = None,
    quantiles: Annotated[
        str | None, typer.Option(help="Of the members, such as 0.1,0.5,0.9.")
    ] = None,
    members: Annotated[bool, typer.Option("--members", help="Write every member, too.")] = False,
    continuous: Annotated[
        bool,
        typer.Option("--continuous", help="One pass, for models made to run window by window."),
    ] = False,
    backend: Backend = None,
    key: PublicKey = None,
) -> None:
    """Simulate discharge with a bundle.

    Example: study predict best.tar --forcing us.zarr --period test --out qsim.csv

    Every day of operation: study predict best.tar --forcing today.csv --out today_qsim.csv
    --state-in yesterday.state --state-out today.state
    """
    from study.export.bundle import read_bundle
    from study.export.forcing import read_forcing
    from study.export.predict import named_period, parse_quantiles, refuse_taken, write_prediction
    from study.export.predict import predict as simulate
    from study.export.state import read_state, write_state

    refuse_taken(out)
    shares = parse_quantiles(quantiles)
    read = read_bundle(bundle, key=key)
    prediction = simulate(
        read,
        read_forcing(forcing, attributes),
        None if period is None else named_period(read, period),
        backend=backend,
        state=None if state_in is None else read_state(state_in),
        continuous=continuous,
        quantiles=shares,
    )
    for note in prediction.notes:
        errors.print(f"note: {note}", markup=False, soft_wrap=True)
    write_prediction(prediction.data, out, members=members)
    if state_out is not None:
        write_state(prediction.carried(), state_out)
    sizes = prediction.data.sizes
    console.print(
        f"{sizes['basin']} basins, {sizes['time']} days, {sizes['member']} members: {out}"
    )


def ui(
    results: Results = "results", tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(help="Port on loopback.")] = 5000,
) -> None:  # fmt: skip
    """Open the MLflow UI of the results, until Ctrl-C.

    It listens on loopback only.

    Example: study ui --results results
    """
    from study.experiment.tracking.following import default_uri
    from study.experiment.tracking.gallery import links, serve_ui

    uri = tracking_uri or default_uri(results)
    for study, address in links(uri, f"http://127.0.0.1:{port}").items():
        console.print(f"{study}: {address}", markup=False, soft_wrap=True)
    serve_ui(uri, port)
