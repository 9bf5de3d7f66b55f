from __future__ import annotations

import os

import pytest

from study.errors import InputError
from study.shyft.process import find_python


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that has Shyft."""
    try:
        return find_python()
    except InputError:
        if os.environ.get("CI"):
            raise
        pytest.skip("needs Shyft: install it with `make shyft`")
