"""Events of a study's log, in MLflow's terms."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from study.experiment.eventlog import Event
from study.experiment.jobs import Job

DIGEST_LENGTH = 32
"""MLflow takes no more than 36 characters."""


def dataset(digests: Mapping[str, str]) -> DatasetInput:
    """The store as MLflow knows data sets: one digest, made from those of the groups read."""
    groups = json.dumps(dict(digests), sort_keys=True)
    digest = hashlib.sha256(groups.encode()).hexdigest()[:DIGEST_LENGTH]
    store = Dataset("store", digest, "study", groups, profile=groups)
    return DatasetInput(store, [InputTag("mlflow.data.context", "training")])


def curve(event: Event) -> list[Metric]:
    """A report's metrics, at its epoch."""
    named = {"train/loss": event["loss"]}
    for name, value in (event.get("validation") or {}).items():
        named[f"val/{name}"] = value
    return [metric(n, v, event["time"], event["epoch"]) for n, v in named.items()]


def kernels(job: Job) -> list[str]:
    """What computed a job's epochs, in one line: several after a move to another kind of host.

    Empty of jobs of version 0.1.0, whose log does not say it.
    """
    told = [report["worker"].get("kernel") for report in job.reports.values() if "worker" in report]
    lines = dict.fromkeys(", ".join(v for k, v in facts.items() if k != "failure")
                          for facts in told if facts)  # fmt: skip
    return ["; ".join(lines)] if lines else []


def flat(scores: Mapping[str, Mapping[str, float] | None]) -> dict[str, float]:
    """`{period: {metric: value}}` as `period/metric`, named as during training."""
    short = {"validation": "val"}
    return {
        f"{short.get(period, period)}/{name}": value
        for period, metrics in scores.items()
        for name, value in (metrics or {}).items()
    }


def metric(name: str, value: float, at: float, step: int) -> Metric:
    """At a time in seconds."""
    return Metric(name, float(value), milliseconds(at), step)


def milliseconds(seconds: float) -> int:
    """As MLflow counts time."""
    return int(seconds * 1000)
