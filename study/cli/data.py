"""`study data`: stores of data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from study.cli.common import AsJson, console, errors, local_store, print_json
from study.errors import InputError
from study.experiment.storage import is_s3

app = typer.Typer(help="Make and look at data stores.", no_args_is_help=True)


@app.command()
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


@app.command()
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


@app.command()
def push(
    store: Path,
    place: Annotated[str, typer.Argument(metavar="s3://BUCKET/PREFIX")],
    replace: Annotated[bool, typer.Option("--replace", help="In place of another store.")] = False,
) -> None:
    """Send a store to S3, where every host of a cluster can read it; goes on where it stopped.

    Example: study data push us.zarr s3://bucket/us.zarr
    """
    from rich.progress import Progress

    from study.experiment.shared_store import push as send

    if not is_s3(place):
        raise InputError(f"{place}: is no place in S3; give s3://bucket/prefix")
    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("sending", total=None)
        sent = send(
            store,
            place,
            replace=replace,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{sent} files sent: {place}")


@app.command()
def info(
    store: Annotated[str, typer.Argument(metavar="STORE|s3://")], as_json: AsJson = False
) -> None:
    """Say what a store holds, and check it against its digests.

    Example: study data info us.zarr
    """
    from study.data.store import describe, open_store, verify

    path = local_store(store)
    dataset = open_store(path)
    verify(dataset, path)
    facts = describe(dataset)
    if as_json:
        print_json(facts)
        return
    console.print(
        f"{facts['basins']} basins, {facts['first_day']} to {facts['last_day']}, "
        f"{facts['source']} ({facts['forcing_product']})"
    )
    for group, content in facts["groups"].items():
        console.print(f"{group}  {content['digest'][:12]}")
        for name, variable in content["variables"].items():
            console.print(f"    {name:24} {variable['units']:8} {variable['missing']:.1%} missing")
