"""Lowest versions that an extra of pyproject.toml allows, one `==` a line: `floors.py EXTRA`."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def requirements(project: dict[str, Any], extra: str) -> Iterator[Requirement]:
    """Those of the package and of an extra, through the extras that it names."""
    yield from _through(project, project["dependencies"])
    yield from _through(project, project["optional-dependencies"][extra])


def _through(project: dict[str, Any], texts: list[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, texts):
        if requirement.name == project["name"]:
            for extra in sorted(requirement.extras):
                yield from _through(project, project["optional-dependencies"][extra])
        else:
            yield requirement


def floor(requirement: Requirement) -> str:
    """`numpy>=2.0` -> `numpy==2.0`; a requirement without a floor says that any version will do."""
    (lowest,) = (s.version for s in requirement.specifier if s.operator == ">=")
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}=={lowest}"


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    print("\n".join(sorted({floor(r) for r in requirements(project, sys.argv[1])})))
