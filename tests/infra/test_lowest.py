"""`make lowest` installs what pyproject.toml calls the lowest, to the version."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from watched import REPOSITORY

LOWEST = REPOSITORY / "infra" / "lowest"


@pytest.fixture(scope="module")
def floors() -> Any:
    spec = importlib.util.spec_from_file_location("floors", LOWEST / "floors.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_extras_are_followed(floors: Any) -> None:
    project = {
        "name": "study",
        "dependencies": ["numpy>=2.0"],
        "optional-dependencies": {"s3": ["boto3>=1.36"], "run": ["study[s3]", "ray[tune]>=2,<3"]},
    }
    requirements = list(floors.requirements(project, "run"))
    assert [floors.floor(r) for r in requirements] == ["numpy==2.0", "boto3==1.36", "ray[tune]==2"]
    with pytest.raises(ValueError):
        floors.floor(Requirement("numpy<3"))


def test_the_list_is_of_the_floors(floors: Any) -> None:
    """Whoever changes a floor runs `make lock`."""
    lines = (LOWEST / "requirements.txt").read_text().splitlines()
    pinned = {
        canonicalize_name(requirement.name): requirement.specifier
        for requirement in (Requirement(line) for line in lines if line and line[0].isalnum())
    }
    project = floors.tomllib.loads(floors.PYPROJECT.read_text())["project"]
    lowest = [Requirement(floors.floor(r)) for r in floors.requirements(project, "run")]
    assert len(lowest) > 20
    for requirement in lowest:
        if requirement.name != "torch":  # the locked one: infra/lowest/run.sh
            here = pinned[canonicalize_name(requirement.name)]
            assert same(here, requirement.specifier), f"{requirement}, but {here} is listed"


def same(one: SpecifierSet, other: SpecifierSet) -> bool:
    """1.36 is 1.36.0."""
    a, b = (Version(next(iter(specifiers)).version) for specifiers in (one, other))
    return a == b
