"""Studies, as Python code runs, opens and reads them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from study.api.networks import Model, load_bundle
from study.api.stores import Where, folder_of
from study.errors import InputError
from study.experiment.storage import is_s3, study_storage
from study.spec import StudySpec

if TYPE_CHECKING:
    from study.experiment.ledger import Ledger
    from study.experiment.storage import Storage
    from study.report.compare import Answer


def run(
    spec: StudySpec,
    store: Where | xr.Dataset,
    *,
    results: Where = "results",
    address: str | None = None,
    num_gpus: int | None = None,
    tracking_uri: str | None = None,
) -> Study:
    """Start a study, or go on with it wherever it stopped, in silence.

    It searches, confirms, tests and reports as `study run` does, and MLflow has every job. The
    winner's bundle is left to `Study.export`; report, figures and model do not go into MLflow.

    Args:
        spec: Of `study.load_spec`.
        store: What `study.open_store` gave, or a store's address.
        results: Folder or `s3://...` of all studies' results.
        address: Of a running Ray cluster (`auto`, `host:6379`); Ray starts on this machine if None.
        num_gpus: GPUs of a Ray that starts here, if not those found.
        tracking_uri: MLflow server or database; `RESULTS/mlflow.db` if None.

    Returns:
        The finished study. Its report lies among the results.

    Raises:
        InputError: The spec and the store make no study, or another one was begun under its name.
        StudyError: It could not be carried out.

    Example:
        >>> spec = study.load_spec("snow.yaml")
        >>> study.run(spec, "us.zarr")  # of a finished study: opens it, and writes its report
        <study snow: 2 arms, finished>
    """
    from study.experiment.connection import Connection
    from study.experiment.engine import raise_failure
    from study.experiment.engine import run as run_study
    from study.experiment.interruption import interruptible
    from study.experiment.starting import begin, look
    from study.experiment.tracking.following import default_uri

    storage = study_storage(spec.name, str(results))
    log = look(spec, storage)
    with (
        interruptible() as interruption,
        Connection(address=address, num_gpus=num_gpus) as connection,
    ):
        prepared = begin(spec, folder_of(store), log, connection, server=tracking_uri)
        if not is_s3(str(results)):
            Path(results).mkdir(parents=True, exist_ok=True)
        book = run_study(
            prepared, storage, log=log, connection=connection, interruption=interruption,
            tracking_uri=tracking_uri or default_uri(str(results)),
        )  # fmt: skip
    raise_failure(book)
    study = Study(book, storage)
    study.report().write()
    return study


def open(name: str, results: Where = "results") -> Study:
    """Open a study, finished or not; also while it runs.

    Args:
        name: The study's.
        results: Folder or `s3://...` of all studies' results.

    Raises:
        InputError: There is no study of this name.

    Example:
        >>> found = study.open("snow")
        >>> found.arms
        ('lstm', 'lstm-snow')
        >>> found.trials().groupby("stage").size().to_dict()
        {'candidate': 4, 'replicate': 4, 'search': 4}
    """
    from study.experiment.engine import open_ledger

    storage = study_storage(name, str(results))
    return Study(open_ledger(storage), storage)


class Study:
    """A study as its event log has it."""

    def __init__(self, state: Ledger, storage: Storage):
        self._state, self._storage = state, storage

    def __repr__(self) -> str:
        return f"<study {self.name}: {len(self.arms)} arms, {self.status}>"

    @property
    def name(self) -> str:
        return self._state.spec.name

    @property
    def spec(self) -> StudySpec:
        return self._state.spec

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms."""
        return tuple(self._state.arms)

    @property
    def status(self) -> str:
        """`search`, `confirmation`, ..., `finished`, as `study status` has it."""
        from study.experiment.progress import progress_of

        return str(progress_of(self._state)["state"])

    def refresh(self) -> Study:
        """The study as it is now: for one that runs."""
        from study.experiment.engine import open_ledger

        return Study(open_ledger(self._storage), self._storage)

    def trials(self) -> pd.DataFrame:
        """Every training job: one line of arm, levels (`factor.NAME`), stage, trial, seed, status,
        epochs, seconds, `score` (median validation NSE when it was scored last), failure and
        hyperparameters (`param.NAME`)."""
        return pd.DataFrame(
            {
                "arm": key.arm,
                **{f"factor.{f}": level for f, level in self._state.arms[key.arm].levels.items()},
                "stage": key.stage,
                "trial": key.trial,
                "seed": key.seed,
                "status": self._state.status(key),
                "epochs": job.epochs,
                "seconds": job.seconds,
                "score": job.scores[max(job.scores)] if job.scores else float("nan"),
                "failure": job.failure,
                **{f"param.{name}": value for name, value in job.hyperparameters.items()},
            }
            for key, job in self._state.jobs.items()
        )

    def report(self) -> Report:
        """What a finished study found; predictions are read and judged once.

        Raises:
            StudyError: There is nothing to report yet.
        """
        from study.report.compare import answer_of

        return Report(answer_of(self._state, self._storage), self._storage)

    def export(self, out: Where, *, arm: str | None = None) -> Model:
        """Write the bundle of an arm, and open it.

        Args:
            out: New folder, new `.tar`, or `s3://bucket/key`.
            arm: Its name; the winner's if None.

        Raises:
            InputError: There is no such arm.
            BundleError: The place is taken or cannot be written.
        """
        from study.experiment.progress import winner_of
        from study.export.winner import export_arm

        export_arm(self._state, self._storage, arm or winner_of(self._state), str(out))
        return load_bundle(out)


class Report:
    """What a finished study found, as tables.

    Example:
        >>> report = study.open("snow").report()
        >>> list(report.contrasts["name"])
        ['snow: observed - off']
        >>> report.simulations()["qsim"].dims
        ('arm', 'seed', 'basin', 'time')
    """

    def __init__(self, answer: Answer, storage: Storage):
        self._answer, self._storage = answer, storage

    @property
    def winner(self) -> str:
        """The arm that did best on the validation period."""
        return str(self._answer.report["winner"])

    @property
    def content(self) -> dict[str, Any]:
        """All of it, as `report.json` has it."""
        return self._answer.report

    @property
    def arms(self) -> pd.DataFrame:
        """A line an arm: what was spent, and its scores with their 95 % intervals."""
        return self._tables["arms"]

    @property
    def contrasts(self) -> pd.DataFrame:
        """A line a comparison: `name`, arms `a` and `b`, `difference` of median NSE, `low` and
        `high` of its 95 % interval, `p_holm`, `verdict`."""
        return self._tables["contrasts"]

    @property
    def factorial(self) -> pd.DataFrame:
        """Main effects and interactions of the factors."""
        return self._tables["factorial"]

    @property
    def basins(self) -> pd.DataFrame:
        """A line a period, arm, seed and basin: every metric."""
        return self._tables["basins"]

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        from study.report.tables import tables

        return tables(self._answer.report, self._answer.evidence)

    def simulations(self, period: str | None = None) -> xr.Dataset:
        """Discharge of a period, mm/d.

        Args:
            period: `validation` or `test`; the one that contrasts are of if None.

        Returns:
            `qsim (arm, seed, basin, time)`, NaN where an arm has fewer seeds, and
            `qobs (basin, time)`, NaN on days that are not scored.
        """
        evidence = self._answer.evidence
        name = evidence.verdict_period if period is None else period
        if name not in evidence.periods:
            raise InputError(
                f"the study has no period {name}; it has {', '.join(evidence.periods)}"
            )
        found = evidence.periods[name]
        coords = {"basin": list(evidence.basins), "time": found.days}
        arms = [
            xr.DataArray(
                found.qsim[arm],
                dims=("seed", "basin", "time"),
                coords={"seed": list(found.seeds[arm]), **coords},
            )
            for arm in evidence.arms
        ]
        qsim = xr.concat(arms, pd.Index(evidence.arms, name="arm"), join="outer")
        qobs = xr.DataArray(found.qobs, dims=("basin", "time"), coords=coords)
        return xr.Dataset({"qsim": qsim.assign_attrs(units="mm/d"),
                           "qobs": qobs.assign_attrs(units="mm/d")})  # fmt: skip

    def write(self, out: Where | None = None) -> None:
        """Write page, tables and figures.

        Args:
            out: New folder; that of the study's results if None.
        """
        from contextlib import nullcontext

        from study.experiment.storage import results_folder
        from study.report.compare import REPORT, write_answer

        place = (
            results_folder(self._storage, "report", last=REPORT)
            if out is None
            else nullcontext(Path(out))
        )
        with place as folder:
            write_answer(self._answer, folder)
