"""Parts that other packages add, by entry points.

A package that has `[project.entry-points."study.models"]` with the line `gru = "my_package:GRU"` in
its `pyproject.toml` adds the architecture `gru` wherever it is installed. Names are known without
loading anything of it.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from study.errors import InputError

MODELS = "study.models"
"""Group of architectures: classes as `study.models.Architecture`."""


class PluginError(InputError):
    """A part that another package adds cannot be loaded."""


@cache
def _found(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def names(group: str) -> tuple[str, ...]:
    """Names of the parts that other packages add to a group."""
    return tuple(_found(group))


def load(group: str, name: str) -> Any:
    """A part.

    Raises:
        PluginError: Its package cannot be imported, or lacks it.
    """
    entry = _found(group)[name]
    try:
        return entry.load()
    except Exception as error:  # whatever a package does when it is imported
        package = entry.dist.name if entry.dist else entry.value
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise PluginError(
            f"`{name}` of {group} is {entry.value} of the package {package}, which cannot be "
            f"loaded ({reason}); mend the package, or remove it"
        ) from None
