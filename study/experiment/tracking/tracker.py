"""MLflow as a projection of the event log: behind it at times, never ahead, the same when replayed.

    study run                 the spec, its provenance; later the report
    └── arm run               factors; means over its replicates
        ├── trial run         hyperparameters, learning curve, status
        └── replicate run     the same, and the scores of the periods read

It follows the log's flushed events (in a thread: `following`). Every run carries its identity as
a tag: it is looked up before it is made, and metrics keep the events' own times, so a replay after
any crash adds nothing twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, Param, Run, RunStatus, RunTag, ViewType

from study.experiment.book import Book
from study.experiment.eventlog import Event
from study.experiment.jobs import CLOSED, JobKey, identity
from study.experiment.ledger import Ledger
from study.experiment.tracking.entities import curve, dataset, flat, kernels, metric, milliseconds
from study.experiment.tracking.following import SQLITE
from study.experiment.tracking.views import views

IDENTITY = "study.identity"
UID = "study.uid"
"""Tag that tells a study from another one of its name: begun anew, or by somebody else."""
STATUS = "study.status"
PARENT = "mlflow.parentRunId"
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI open an experiment as runs to compare."""
ACCOUNT_TAGS = (str, int, float)
"""What of an added group's account is short enough for a tag; all of it is an artifact."""
CONFIGURATION = "configuration.yaml"
"""A job's whole training configuration; its parameters are those that differ between jobs."""

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


class Projection:
    """The state of the tracking server that a log implies, brought about step by step."""

    def __init__(self, book: Book, uri: str):
        self.log, self.uri = book.log, uri
        self.book = Ledger(book.spec, tuple(book.arms.values()))
        """What the events say that the server has: behind the driver's own book."""
        self.done = 0
        """Events that the server has."""
        self._applied = 0
        self._client: MlflowClient | None = None
        self._runs: dict[str, str] = {}
        """Identity -> run id"""
        self._finished: set[str] = set()
        """Identities whose run has ended"""
        self._bare: set[str] = set()
        """Identities whose run was made by a driver that ended before it gave it parameters"""
        self._ended: dict[JobKey, float] = {}
        """Closed job whose run is still to be ended -> time of the event that closed it"""
        self._experiment = self._uid = ""
        self._data: DatasetInput | None = None
        """What every run read"""

    def catch_up(self) -> None:
        """Bring the server level with the flushed log."""
        if self._client is None:
            self._client = self._connect()
        known = self.log.flushed
        for event in self.log.events[self._applied : known]:
            self.book.apply(event)
            for key in self._touched(event):
                if self.book.status(key) in CLOSED:
                    self._ended.setdefault(key, event["time"])
        self._applied = known
        events = self.log.events[self.done : known]
        curves: dict[str, list[Metric]] = {}
        for event in events:
            if event["event"] == "reported":
                key = JobKey.parse(event["key"])
                curves.setdefault(self._identity(key), []).extend(curve(event))
        for event in events:
            if event["event"] == "asked":
                self._start(event)
        for name, metrics in curves.items():
            if name not in self._finished:
                self._log(name, metrics)
        self._close()
        for event in events:
            if event["event"] == "evaluated":
                self._log_evaluation(event)
            elif event["event"] == "selected" and event["trial"] is None:
                self._end(self._arm(event["arm"]), event["time"], RunStatus.FAILED)
        self.done = known

    def _connect(self) -> MlflowClient:
        client = MlflowClient(tracking_uri=self.uri)
        name = self.book.spec.name
        begun = next(e for e in self.log.events if e["event"] == "study")
        self._uid = begun.get("uid", "")
        self._data = dataset(begun["digests"])
        found = client.get_experiment_by_name(name)
        self._experiment = (
            found.experiment_id
            if found
            else client.create_experiment(
                name, artifact_location=_artifacts(self.uri, name), tags=MODEL_TRAINING
            )
        )
        token = None
        while True:
            page = client.search_runs(
                [self._experiment], run_view_type=ViewType.ALL, max_results=1000, page_token=token
            )
            for run in page:
                self._remember(run)
            token = page.token
            if not token:
                break
        self._client = client
        self._start_tree()
        return client

    def _remember(self, run: Run) -> None:
        name = run.data.tags.get(IDENTITY)
        if name and run.data.tags.get(UID) == self._uid:
            self._runs[name] = run.info.run_id
            if RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
                self._finished.add(name)
            if not run.data.params:
                self._bare.add(name)

    def _start_tree(self) -> None:
        """The study run and the arm runs."""
        book, spec = self.book, self.book.spec
        begun = next(e for e in self.log.events if e["event"] == "study")
        facts = {f"study.{k}": str(v) for k, v in begun["provenance"].items()}
        digests = {f"study.digest.{g}": d for g, d in begun["digests"].items()}
        accounts = begun.get("accounts", {})
        facts |= {f"study.{group}.{k}": str(v) for group, account in accounts.items()
                  for k, v in account.items() if isinstance(v, ACCOUNT_TAGS)}  # fmt: skip
        tags = {"study.stage": "study", "study.spec_digest": spec.digest(), **facts, **digests}
        if spec.question:
            tags["mlflow.note.content"] = spec.question
        run_id = self._ensure(self._study, spec.name, None, begun["time"], tags)
        assert self._client is not None
        self._client.log_dict(run_id, begun["spec"], "spec.yaml")
        for group, account in accounts.items():
            self._client.log_dict(run_id, account, f"{group}.json")
        arms, at = tuple(book.arms.values()), milliseconds(begun["time"])
        for tag, view in views(spec, arms, run_id, at).items():
            self._client.set_experiment_tag(self._experiment, tag, view)
        for arm in book.arms.values():
            tags = {"study.stage": "arm", "study.arm": arm.name}
            name = self._arm(arm.name)
            self._ensure(name, arm.name, self._study, begun["time"], tags, arm.levels)

    def _start(self, event: Event) -> None:
        key = JobKey.parse(event["key"])
        job, arm = self.book.jobs[key], self.book.arms[key.arm]
        number = f"{key.trial:03d}" if key.stage == "search" else f"{key.trial:03d}.{key.seed}"
        tags = {"study.stage": key.stage, "study.arm": key.arm, STATUS: "run"}
        self._ensure(
            self._identity(key),
            f"{key.arm} {key.stage} {number}",
            self._arm(key.arm),
            event["time"],
            tags,
            {**arm.levels, **job.hyperparameters},
            arm.training(self.book.spec.training, job.hyperparameters).model_dump(mode="json"),
        )

    def _ensure(
        self,
        name: str,
        run_name: str,
        parent: str | None,
        started: float,
        tags: Mapping[str, str],
        params: Mapping[str, Any] | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> str:
        """The run of an identity; made if it is not there. Its parameters come last: a run that
        has them has all."""
        assert self._client is not None
        if name not in self._runs:
            tags = {IDENTITY: name, UID: self._uid, **tags}
            if parent is not None:
                tags[PARENT] = self._runs[parent]
            run = self._client.create_run(
                self._experiment, start_time=milliseconds(started), tags=tags, run_name=run_name
            )
            self._runs[name] = str(run.info.run_id)
            self._bare.add(name)
        if params and name in self._bare:
            if configuration:
                self._client.log_dict(self._runs[name], dict(configuration), CONFIGURATION)
            self._client.log_inputs(self._runs[name], [self._data])
            listed = [Param(k, str(v)) for k, v in params.items()]
            self._client.log_batch(self._runs[name], params=listed)
        self._bare.discard(name)
        return self._runs[name]

    def _close(self) -> None:
        """End the runs of jobs that are closed."""
        assert self._client is not None
        for key, at in list(self._ended.items()):
            name, status = self._identity(key), self.book.status(key)
            if name not in self._finished:
                job = self.book.jobs[key]
                tags = [RunTag(STATUS, status), RunTag("study.epochs", str(job.epochs))]
                tags += [RunTag("study.kernel", text) for text in kernels(job)]
                if job.failure:
                    tags.append(RunTag("study.failure", job.failure[-4000:]))
                metrics = [metric("seconds", job.seconds, at, job.epochs)]
                self._client.log_batch(self._runs[name], tags=tags, metrics=metrics)
                ended = RunStatus.FAILED if status == "failed" else RunStatus.FINISHED
                self._client.set_terminated(
                    self._runs[name], RunStatus.to_string(ended), end_time=milliseconds(at)
                )
                self._finished.add(name)
            del self._ended[key]

    def _touched(self, event: Event) -> list[JobKey]:
        if event["event"] in ("reported", "failed"):
            return [JobKey.parse(event["key"])]
        if event["event"] == "decided":
            return [job.key for job in self.book.decided_on(event)]
        return []

    def _log_evaluation(self, event: Event) -> None:
        """Scores of a replicate; with the last one, the means over the arm's replicates."""
        key, at = JobKey.parse(event["key"]), event["time"]
        epochs = self.book.spec.training.epochs
        at_the_cap = curve(self.book.jobs[key].reports[epochs])
        known = {metric.key for metric in at_the_cap}  # its learning curve ends with them
        scores = {n: v for n, v in flat(event["scores"]).items() if n not in known}
        self._log(self._identity(key), [metric(n, v, at, epochs) for n, v in scores.items()])
        replicates = [j.key for j in self.book.replicates(key.arm)]
        done = [k for k in replicates if self.book.status(k) == "done"]
        if done and key == done[-1] and all(k in self.book.evaluations for k in done):
            tables = [flat(self.book.evaluations[k]) for k in done]
            means = {n: sum(t[n] for t in tables) / len(tables) for n in tables[0]}
            metrics = [metric(n, v, at, 0) for n, v in means.items()]
            self._log(self._arm(key.arm), metrics)
            self._end(self._arm(key.arm), at)

    def end_study(self) -> None:
        """End the study run: its report is there."""
        self._end(self._study, self.log.events[-1]["time"])

    def _end(self, name: str, at: float, status: int = RunStatus.FINISHED) -> None:
        assert self._client is not None
        self._client.set_terminated(
            self._runs[name], RunStatus.to_string(status), end_time=milliseconds(at)
        )

    def _log(self, name: str, metrics: list[Metric]) -> None:
        assert self._client is not None
        for start in range(0, len(metrics), 1000):  # the server's limit
            self._client.log_batch(self._runs[name], metrics=metrics[start : start + 1000])

    @property
    def experiment(self) -> str:
        return self._experiment

    @property
    def study_run(self) -> str:
        return self._runs[self._study]

    def arm_run(self, arm: str) -> str:
        return self._runs[self._arm(arm)]

    def replicate_run(self, arm: str, seed: int) -> str:
        keys = (job.key for job in self.book.replicates(arm))
        return self._runs[self._identity(next(key for key in keys if key.seed == seed))]

    @property
    def _study(self) -> str:
        return f"study:{self.book.spec.name}"

    def _arm(self, arm: str) -> str:
        return f"arm:{self.book.spec.name}/{arm}"

    def _identity(self, key: JobKey) -> str:
        job, arm = self.book.jobs[key], self.book.arms[key.arm]
        config = arm.training(self.book.spec.training, job.hyperparameters)
        return identity(self.book.spec, key, config)


def _artifacts(uri: str, name: str) -> str | None:
    """Place of an experiment's artifacts: beside a local database; else the server decides."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts" / name).as_uri()
