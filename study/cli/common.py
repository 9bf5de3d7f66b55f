"""What several commands share: where they print, options, and how a study is named."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from study.experiment.ledger import Ledger
    from study.experiment.storage import Storage

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


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=1))


def open_study(study: str, results: str) -> tuple[Ledger, Storage]:
    """A study by its name, or by its spec file."""
    from study.experiment.engine import open_ledger, study_storage
    from study.spec import load_spec

    name = load_spec(study).name if study.endswith((".yaml", ".yml")) else study
    storage = study_storage(name, results)
    return open_ledger(storage), storage
