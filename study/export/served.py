"""A bundle as MLflow's flavour `python_function`: a table of forcing in, a table of discharge out.

MLflow calls `_load_pyfunc` of the module that a registered model names. Nothing is pickled: a model
is the bundle's files, and the server needs this package with `pip install '.[predict]'`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from study.export.bundle import Bundle, read_bundle
from study.export.forcing import from_table
from study.export.predict import as_table, predict


class ServedBundle:
    """What `mlflow models serve` asks."""

    def __init__(self, bundle: Bundle):
        self.bundle = bundle

    def predict(self, request: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Simulate discharge.

        Args:
            request: Columns `gauge_id`, `date` and the inputs by name, warm-up first; attributes
                for basins that the bundle does not know.
            params: None is known.

        Returns:
            Columns `gauge_id`, `date`, `qsim` (mm/d) and, of an ensemble, `qsim_std`; one line a
            basin and day after the warm-up.

        Raises:
            DataError: An input is missing or impossible; says which, where and when.
        """
        data = predict(self.bundle, from_table(request, "the request")).data
        return as_table(data.drop_vars(["qsim_members", "member"]))


def _load_pyfunc(path: str) -> ServedBundle:
    return ServedBundle(read_bundle(Path(path)))
