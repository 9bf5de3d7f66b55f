"""The keys of a study file: what each means, for people and for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from study.cli.common import console, print_json


def explain(
    key: Annotated[
        str | None, typer.Argument(help="Such as training.window_warmup, or its last word.")
    ] = None,
) -> None:
    """Say what a key of a study file means; without one, what all of them mean, as Markdown.

    Example: study explain training.window_warmup
    """
    from study.spec.schema import explain as explained
    from study.spec.schema import reference

    if key is None:
        print(reference(), end="")
    else:
        console.print(explained(key), markup=False)


def schema() -> None:
    """Print the JSON schema of study files, with which editors complete and check them.

    Begin a study file with `# yaml-language-server: $schema=spec.schema.json`.

    Example: study schema > spec.schema.json
    """
    from study.spec.schema import json_schema

    print_json(json_schema())
