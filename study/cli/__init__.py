"""The command line: parsing and printing only. Heavy packages load when a command needs them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from study import __version__
from study.cli import data, imports, keys, models, shyft, studies
from study.cli.common import console, errors
from study.errors import Interrupted, StudyError

app = typer.Typer(
    name="study",
    help="What makes a rainfall–runoff network better? Ablation studies, tuned fairly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data")
app.add_typer(shyft.app, name="shyft")
app.add_typer(imports.app, name="import")
for command in (
    *(studies.check, studies.run, studies.status, studies.report),
    *(keys.explain, keys.schema),
    *(models.export, models.inspect, models.predict, models.promote, models.ui),
):
    app.command()(command)


def main() -> None:
    """Run a command; errors a user can mend are one paragraph and an exit code."""
    try:
        app(standalone_mode=True)
    except (StudyError, OSError) as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code if isinstance(error, StudyError) else StudyError.exit_code)
    except Interrupted as end:
        errors.print(str(end), markup=False, soft_wrap=True)
        sys.stdout.flush()
        os._exit(end.exit_code)  # now: a library's thread may be waiting for a server


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit
