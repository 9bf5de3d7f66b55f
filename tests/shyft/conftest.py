from __future__ import annotations

import os
from pathlib import Path

import pytest

from study.errors import InputError
from study.shyft.process import find_python


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What Shyft itself computes is for `make slow`."""
    here = Path(__file__).parent
    for item in (i for i in items if isinstance(i, pytest.Function) and i.path.parent == here):
        if "python" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that has Shyft."""
    try:
        return find_python()
    except InputError:
        if os.environ.get("CI"):
            raise
        pytest.skip("needs Shyft: install it with `make shyft`")
