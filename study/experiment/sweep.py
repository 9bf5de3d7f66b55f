"""Ray Tune carries out what the book says: the only place where Tune's classes are met.

The searcher and the scheduler hold no state of their own but which Tune trial is which job. A job
that must wait at a rung ends as a Tune trial, and is handed out anew with its checkpoint when it is
promoted; so promotion, retry after a lost worker and restart of the study are one path.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.air._internal import usage
from ray.exceptions import RayTaskError
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.data.arrays import StudyArrays
from study.errors import StorageError, StudyError
from study.experiment.drain import NODE, Drain
from study.experiment.interruption import Interruption
from study.experiment.jobs import JobKey
from study.experiment.placement import device_for, use_threads
from study.experiment.progress import jobs_left
from study.experiment.reserve import Reserve
from study.experiment.storage import Storage, open_storage
from study.seeding import derive
from study.spec import ResourcesSpec

if TYPE_CHECKING:  # workers import this module and need no sampler; drivers, and need no torch
    from study.experiment.book import Book
    from study.experiment.trial import RunningJob

logger = logging.getLogger(__name__)

KEY = "key"
"""Where a Tune configuration names the job, as text."""


class JobTrainable(tune.Trainable):
    """A Ray actor that trains one job after the other; one step is one epoch."""

    def setup(self, config: dict[str, Any], shared: dict[str, Any] | None = None) -> None:
        from study.experiment.trial import Worker
        from study.training.loop import DeviceData

        assert shared is not None  # `with_parameters` gives it
        spec = shared["spec"]
        use_threads(spec.resources)
        arrays = ray.get(shared["arrays"])
        self.worker = Worker(
            spec=spec,
            arms=shared["arms"],
            data=DeviceData(arrays, device_for(spec.resources, arrays)),
            storage=open_storage(shared["storage"]),
        )
        self.leaving = False
        self.place = {
            "node": ray.get_runtime_context().get_node_id(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "device": self.worker.data.device.type,
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES") if spec.resources.gpus else None,
        }
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        # The job begins in `step`: Tune is silent about errors raised here.
        self.config = new_config
        self.job: RunningJob | None = None
        return True

    def step(self) -> dict[str, Any]:
        from study.experiment.trial import RunningJob

        begins = self.job is None
        if self.job is None:
            self.job = RunningJob(
                self.worker,
                JobKey.parse(self.config[KEY]),
                self.config["hyperparameters"],
                saved=self.config["saved"],
                spent=self.config["spent"],
            )
            self.job.often = self.leaving
        report = self.job.step()
        if begins:
            report["worker"] = self.place | {"kernel": self.job.kernel()}
        # As text: Tune flattens nested results on their way to the scheduler.
        told = {"report": json.dumps(report), "training_iteration": report["epoch"]}
        return told | {NODE: self.place["node"]}

    def save_job(self) -> tuple[str, int] | None:
        """Save the job in hand, and from here on every job after every epoch.

        Ray calls it between two epochs. Returns the job and the epoch; None if there is no job.
        """
        self.leaving = True
        if self.job is None:
            return None
        self.job.often = True
        return str(self.job.key), self.job.save()


class _Unsaved:
    """Tune writes its searcher and scheduler into files of its own, which nothing ever reads:
    the book is their state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class BookSearcher(_Unsaved, Searcher):
    """Hands the book's next job to Tune."""

    def __init__(self, book: Book, interruption: Interruption):
        super().__init__(metric="training_iteration", mode="max")
        self.book, self.interruption = book, interruption
        self.keys: dict[str, JobKey] = {}
        self.errors: dict[str, BaseException] = {}
        """Tune's trial id -> what `BookScheduler.on_trial_error` found"""

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self.interruption.received:
            return None
        job = self.book.next_job()
        if job is None:  # FINISHED is final: Tune would never ask again
            return Searcher.FINISHED if self.book.trained() else None
        self.keys[trial_id] = job.key
        self.book.live.add(job.key)
        return {
            KEY: str(job.key),
            "hyperparameters": dict(job.hyperparameters),
            "saved": job.saved,
            "spent": job.seconds_until(job.saved),
        }

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        key = self.keys.pop(trial_id)
        self.book.live.discard(key)
        if error:
            found = self.errors.pop(trial_id, None)
            self._leave_if_the_place_fails(key, found)
            self.book.fail(key, _reason(found), lost=not _own_doing(found))

    def _leave_if_the_place_fails(self, key: JobKey, error: BaseException | None) -> None:
        """A worker that cannot reach the results (missing credentials, say) fails every job it
        gets. Stop the study instead of charging its arms."""
        cause = error.cause if isinstance(error, RayTaskError) else None
        if isinstance(cause, StorageError) and not self.book.may_lose(key):
            raise StorageError(f"on a worker: {cause}")

    def save(self, checkpoint_path: str) -> None:
        """The book is the state."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """The book is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """The book is the state."""


class BookScheduler(_Unsaved, TrialScheduler):
    """Tells the book of every epoch, and Tune what becomes of the job."""

    _supports_buffered_results = False

    def __init__(self, book: Book, searcher: BookSearcher, progress: Callable[[Book], None]):
        super().__init__()
        self.book, self.searcher, self.progress = book, searcher, progress
        self.trials: dict[str, Trial] = {}
        self.reserve = Reserve()
        self.warned: set[str] = set()
        """What was said already of workers"""

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self.trials[trial.trial_id] = trial
        self.resources = trial.placement_group_factory
        self.reserve.renew()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        report = json.loads(result["report"])
        self._warn_of(report.get("worker"))
        status = self.book.report(JobKey.parse(trial.config[KEY]), report)
        self.progress(self.book)
        if status != "run":
            verdict = TrialScheduler.STOP
        elif self.searcher.interruption.received:
            verdict = TrialScheduler.NOOP  # no other epoch
        else:
            verdict = TrialScheduler.CONTINUE
        return str(verdict)

    def _warn_of(self, worker: dict[str, Any] | None) -> None:
        """Say once what a worker lacks that trains slower for it."""
        if worker is None:
            return
        if self.book.spec.resources.gpus and worker["device"] == "cpu":
            self._warn_once(
                "resources.gpus: torch finds no GPU on %s; trials train on its CPU", worker["host"]
            )
        if failure := worker["kernel"].get("failure"):
            self._warn_once(
                "%s: %s; torch computes there, two to three times as slowly, and last bits are "
                "other ones than where the C kernel computes",
                worker["host"],
                failure,
            )

    def _warn_once(self, message: str, *facts: str) -> None:
        if message not in self.warned:
            self.warned.add(message)
            logger.warning(message, *facts)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        # `trial.get_error()` looks into the storage, where the file is not yet.
        path = Path(trial.pickled_error_file or "")
        if path.is_file():
            self.searcher.errors[trial.trial_id] = pickle.loads(path.read_bytes())
        self.trials.pop(trial.trial_id, None)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Any) -> None:
        self.trials.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self.trials.pop(trial.trial_id, None)

    def choose_trial_to_run(self, tune_controller: Any, *args: Any, **kwargs: Any) -> Trial | None:
        for trial in list(self.trials.values()):
            if trial.status == Trial.ERROR:  # failed between two jobs: Tune tells nobody
                self.trials.pop(trial.trial_id)
                self.searcher.on_trial_complete(trial.trial_id, error=True)
                self.reserve.dissolve()
        if self.trials:
            self.reserve.hold(tune_controller, self.resources, jobs_left(self.book))
        pending = (t for t in self.trials.values() if t.status == Trial.PENDING)
        return next(pending, None)

    def debug_string(self) -> str:
        return f"{self.book.spec.search.halving} halving"


def _own_doing(error: BaseException | None) -> bool:
    """Whether a job raised this itself; else its worker died, or a disk or network failed it."""
    return isinstance(error, RayTaskError) and not isinstance(error.cause, OSError)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, RayTaskError):
        return str(error)[-4000:]
    return f"worker lost: {error!r}"[:1000]


@contextmanager
def _own_errors() -> Iterator[None]:
    """Let an error of the study out as itself: Tune wraps what its searcher and scheduler raise."""
    try:
        yield
    except tune.TuneError as wrapped:
        error: BaseException | None = wrapped
        while error is not None and not isinstance(error, StudyError | OSError):
            error = error.__cause__ or error.__context__
        raise error or wrapped from None


def _keep_credentials_here() -> None:
    """Tune gives the driver's AWS keys to its actors as arguments, which every user of a host sees
    among its processes and Ray writes into logs. Each host has its own, or those of its raylet."""
    secret = {name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    ENV_VARS_TO_PROPAGATE.difference_update(secret)


def _count_no_callbacks() -> None:
    """Tune counts its users' callbacks for statistics that are off, and imports MLflow for it."""
    usage.tag_callbacks = lambda callbacks: False


@contextmanager
def _scratch(storage: Storage) -> Iterator[str]:
    """A folder for Tune's own files, none of which is needed later. Its name is the study's, so
    that what a killed driver left there goes when the study goes on."""
    folder = Path(tempfile.gettempdir()) / f"study-tune-{derive(storage.uri):016x}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tuner(
    resources: ResourcesSpec,
    shared: dict[str, Any],
    searcher: BookSearcher,
    scheduler: BookScheduler,
    drain: Drain,
    scratch: str,
) -> tune.Tuner:
    reserved = {"cpu": resources.cpus, "gpu": resources.gpus}
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(JobTrainable, shared=shared), reserved),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # until the searcher says that all is done
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=scratch,
            failure_config=tune.FailureConfig(max_failures=0),  # the book hands out again
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0,
                checkpoint_at_end=False,  # jobs save themselves
            ),
            callbacks=[drain],
            verbose=0,
        ),
    )


def sweep(
    book: Book,
    arrays: StudyArrays,
    storage: Storage,
    *,
    num_workers: int,
    progress: Callable[[Book], None],
    interruption: Interruption | None = None,
) -> None:
    """Train all that the book has left to train.

    Args:
        book: The study's book.
        arrays: Its data, without test discharge.
        storage: Where checkpoints are kept, reachable from all workers.
        num_workers: Jobs that may be handed out before one has begun.
        progress: Called after every epoch.
        interruption: Looked at all the time; None: there will be none.

    Raises:
        Interrupted: There was a signal; jobs whose epoch ended in time are saved.
        StudyError: Training ended before its time.
    """
    if book.trained():
        return
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(num_workers)
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is the interruption's
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the book keeps what failed
    _keep_credentials_here()
    _count_no_callbacks()
    _ = arrays.target  # here, so that no worker computes and holds one of its own
    shared = {
        "spec": book.spec,
        "arms": book.arms,
        "arrays": ray.put(arrays),
        "storage": storage.uri,
    }
    interruption = interruption or Interruption()
    searcher = BookSearcher(book, interruption)
    scheduler = BookScheduler(book, searcher, progress)
    drain = Drain(book, interruption)
    with _scratch(storage) as scratch, _own_errors(), interruption.postponed():
        _tuner(book.spec.resources, shared, searcher, scheduler, drain, scratch).fit()
    interruption.leave()
    book.log.flush()
    if not book.trained():
        raise StudyError(
            f"study {book.spec.name} was interrupted; the same command goes on where it stopped"
        )
