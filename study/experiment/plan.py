"""What a study will do and what it will cost, before it does anything."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from study.experiment.arms import expand
from study.experiment.contrasts import declared_contrasts
from study.experiment.engine import Prepared, accounts
from study.experiment.jobs import JobKey
from study.experiment.placement import device_for, no_room, room_for_trials, use_threads
from study.experiment.progress import most_epochs, planned_epochs, planned_jobs
from study.experiment.search import typical
from study.experiment.trial import make_trainer
from study.spec import StudySpec
from study.training.loop import DeviceData


def plan(spec: StudySpec) -> dict[str, Any]:
    """Arms, contrasts and budget: what `study check --json` prints."""
    arms = expand(spec)
    return {
        "study": spec.name,
        "arms": [{"arm": arm.name, "factors": dict(arm.levels)} for arm in arms],
        "contrasts": [contrast.name for contrast in declared_contrasts(spec, arms)],
        "trials_per_arm": spec.trials_per_arm(),
        "epochs_per_arm": planned_epochs(spec),
        "most_epochs_per_arm": most_epochs(spec),
        "jobs": planned_jobs(spec, len(arms)),
        "epochs": planned_epochs(spec) * len(arms),
    }


def room_there(spec: StudySpec, address: str) -> dict[str, Any]:
    """Whether a running cluster has room for the study's trials, as it is now: how many at once
    (`trials_at_once`), and that in a sentence (`told`)."""
    from study.experiment.cluster import connected  # loads Ray

    with connected(address) as hosts:
        room = room_for_trials(spec.resources, hosts)
    if room:
        told = f"the cluster at {address} has room for {room} trials at once"
    else:
        told = (
            f"warning: {no_room(spec.resources, hosts)}; `study run --address {address}` would "
            "wait until a host joins that has them"
        )
    return {"trials_at_once": room, "told": told}


def features(prepared: Prepared) -> list[str]:
    """Where simulated inputs of the study come from, a sentence each."""
    return [
        f"{group}: {account['stack']}, calibrated on discharge of {account['train_period']}, "
        f"training days {'cross-fitted' if account['crossfit'] else 'not cross-fitted'}"
        for group, account in accounts(prepared).items()
        if "stack" in account
    ]


def timed_epoch(prepared: Prepared) -> float:
    """Seconds of one training epoch on this machine: mean over the arms, in the middle of the
    search space, with the threads and on the device that a worker would use."""
    spec = prepared.spec
    use_threads(spec.resources)
    data = DeviceData(prepared.arrays, device_for(spec.resources, prepared.arrays))
    started = time.perf_counter()
    for arm in prepared.arms:
        key = JobKey(arm.name, "search", 0, 0)
        make_trainer(spec, arm, data, key, typical(spec.search, arm)).run_epoch()
    return (time.perf_counter() - started) / len(prepared.arms)


def told(facts: Mapping[str, Any]) -> Iterator[str]:
    """Lines that tell a plan's facts; a timed epoch and the data's features, if they are known."""
    yield f"{facts['study']}: {len(facts['arms'])} arms"
    for arm in facts["arms"]:
        levels = ", ".join(f"{factor} {level}" for factor, level in arm["factors"].items())
        yield f"    {arm['arm']:24} {levels}"
    yield "contrasts:"
    for contrast in facts["contrasts"]:
        yield f"    {contrast}"
    epochs, most = facts["epochs_per_arm"], facts["most_epochs_per_arm"]
    budget, about = f"{most} epochs at most", ""
    if most > epochs:  # asynchronous halving
        budget, about = f"about {epochs} epochs, {most} at most", "about "
    yield (
        f"each arm: {facts['trials_per_arm']} trials, {budget}; "
        f"in all {facts['jobs']} jobs, {about}{facts['epochs']} epochs"
    )
    if "cluster" in facts:
        yield facts["cluster"]["told"]
    yield from facts.get("features", ())
    if "cpu_hours" in facts:
        yield (
            f"a timed epoch took {facts['seconds_an_epoch']:.2f} s (mean of the arms, middle of "
            f"the space): about {facts['cpu_hours']:.1f} hours on one worker, divided by workers"
        )
