"""The front door for Python: run a study, open one, train one network, predict with a bundle.

All of it is reached as `study.run`, `study.open`, ... The examples are of a folder with a study
file `snow.yaml` of the name `snow`, a store `us.zarr`, and the study's results.
"""

import contextlib
import importlib
import warnings

with warnings.catch_warnings(), contextlib.suppress(ImportError):
    warnings.simplefilter("ignore")  # that a notebook has no widgets; nothing here draws with them
    importlib.import_module("tqdm.auto")  # as optuna does

from study.api.networks import Model, Network, load_bundle, train
from study.api.stores import open_store, write_store
from study.api.studies import Report, Study, open, run

__all__ = [
    "Model",
    "Network",
    "Report",
    "Study",
    "load_bundle",
    "open",
    "open_store",
    "run",
    "train",
    "write_store",
]
