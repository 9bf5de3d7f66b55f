"""Ablation and hyperparameter studies of rainfall–runoff networks.

    spec, store = study.load_spec("snow.yaml"), study.open_store("us.zarr")
    found = study.run(spec, store)                    # start or go on; study.open("snow") to look
    found.trials()                                    # DataFrame
    found.report().contrasts                          # DataFrame
    found.report().simulations()                      # qsim (arm, seed, basin, time)
    network = study.train(spec, store, arm="lstm", seed=1)
    network.simulate("validation")
    model = study.load_bundle("best.tar")
    model.predict("forcing.csv")

Names are loaded when they are first asked for: `import study` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "InputError": "study.errors",
    "StudyError": "study.errors",
    "StudySpec": "study.spec",
    "load_bundle": "study.api",
    "load_spec": "study.spec",
    "metrics": "study.evaluation.metrics",
    "open": "study.api",
    "open_store": "study.api",
    "parse_spec": "study.spec",
    "run": "study.api",
    "train": "study.api",
    "write_store": "study.api",
}
"""Public name -> the module that has it."""

__all__ = [
    "InputError",
    "StudyError",
    "StudySpec",
    "__version__",
    "load_bundle",
    "load_spec",
    "metrics",
    "open",
    "open_store",
    "parse_spec",
    "run",
    "train",
    "write_store",
]

if TYPE_CHECKING:
    from study.api import load_bundle, open, open_store, run, train, write_store
    from study.errors import InputError, StudyError
    from study.evaluation import metrics
    from study.spec import StudySpec, load_spec, parse_spec


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'study' has no attribute {name!r}")
    module = importlib.import_module(home)
    found = module if name == home.rpartition(".")[2] else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
