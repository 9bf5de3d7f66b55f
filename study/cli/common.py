"""What several commands share: where they print, options, and how a study is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from study.errors import InputError

if TYPE_CHECKING:
    from study.experiment.ledger import Ledger
    from study.experiment.storage import Storage

WIDTH = None if sys.stdout.isatty() else 120  # of a file or a pipe, which have none

# Jupyter's kernels ask for colour even where the output is a file; a live bar would fill it.
console = Console(highlight=False, width=WIDTH, force_terminal=sys.stdout.isatty())
errors = Console(stderr=True, highlight=False, force_terminal=sys.stderr.isatty())


def study_names(results: str) -> list[str]:
    """Studies that a folder of results holds."""
    if "://" in results:
        return []
    return sorted(path.parent.name for path in Path(results).glob("*/events"))


def complete_study(context: typer.Context, incomplete: str) -> list[str]:
    """Studies and spec files that what was typed may become."""
    specs = [str(path) for path in Path().glob(f"{incomplete}*.y*ml")]
    names = study_names(context.params.get("results") or "results")
    return [name for name in names if name.startswith(incomplete)] + sorted(specs)


Study = Annotated[
    str,
    typer.Argument(
        help="Name of a study, or its spec file.", show_default=False,
        autocompletion=complete_study,
    ),
]  # fmt: skip
Results = Annotated[
    str,
    typer.Option(
        metavar="DIR|s3://", help="Folder, or s3://bucket/prefix, that holds all studies' results."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(metavar="STORE|s3://", help="Data store, or where `study data push` put one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS", help="Of a running Ray cluster (auto, host:6379); else an own one."
    ),
]
NumGpus = Annotated[
    int | None,
    typer.Option(
        min=0, help="GPUs of an own Ray, if not those found; trials of absent ones use the CPU."
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow server or database; else RESULTS/mlflow.db, or for results in S3 a file of "
        "this host.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the spec; may be repeated."),
]


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=1))


def local_store(place: str | Path) -> Path:
    """The folder of a store; of one in a bucket, this host's copy."""
    from study.experiment.storage import is_s3

    if not is_s3(place):
        return Path(place)
    from rich.progress import Progress

    from study.experiment.shared_store import fetch

    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("fetching the data", total=None)
        return fetch(
            str(place), progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def open_study(study: str, results: str) -> tuple[Ledger, Storage]:
    """A study by its name, or by its spec file."""
    from study.experiment.engine import open_ledger
    from study.experiment.storage import study_storage
    from study.spec import load_spec

    name = load_spec(study).name if study.endswith((".yaml", ".yml")) else study
    storage = study_storage(name, results)
    try:
        return open_ledger(storage), storage
    except InputError as error:
        there = [other for other in study_names(results) if other != name]
        hint = f"; {results} holds {', '.join(there)}" if there else ""
        raise InputError(f"{error}{hint}") from None
