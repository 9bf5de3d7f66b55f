"""Where a study stands and how far it has to go."""

from __future__ import annotations

from typing import Any

from study.errors import StudyError
from study.experiment.arms import compared
from study.experiment.jobs import CLOSED, rungs_of
from study.experiment.ledger import Ledger
from study.spec import StudySpec


def progress_of(book: Ledger) -> dict[str, Any]:
    """Where a study stands, as plain data: what `study status --json` prints."""
    state = "finished" if is_finished(book) else "trained" if book.trained() else "unfinished"
    return {
        "study": book.spec.name,
        "state": state,
        "jobs": book.closed.total(),
        "jobs_planned": planned_jobs(book.spec, len(book.arms)),
        "seconds_left": seconds_left(book),
        "arms": [_arm(book, name) for name in book.arms],
    }


def seconds_left(book: Ledger) -> float | None:
    """How long training will go on at the pace since the latest launch; None while that is not
    known, or nothing is left to train."""
    times = [r["time"] for job in book.jobs.values() for r in job.reports.values()]
    recent = [t for t in times if t > book.launched]
    if book.trained() or not recent:
        return None
    left = planned_epochs(book.spec) * len(book.arms) - len(times)
    return float(round(max(0, left) * (max(recent) - book.launched) / len(recent), 1))


def _arm(book: Ledger, name: str) -> dict[str, Any]:
    search = list(book.stage(name, "search"))
    states = [book.status(job.key) for job in search]
    scores = [job.scores[max(job.scores)] for job in search if job.scores]
    closed = [j.key for j in book.jobs.values() if j.key.arm == name
              and book.status(j.key) in CLOSED]  # fmt: skip
    return {
        "arm": name,
        "trials": {
            "planned": book.spec.trials_per_arm(),
            "asked": len(search),
            **{s: states.count(s) for s in ("run", "wait", "stopped", "done", "failed")},
        },
        "candidates": sum(key.stage == "candidate" for key in closed),
        "replicates": sum(key.stage == "replicate" for key in closed),
        "best_validation_nse": max(scores, default=None),
        "seconds": round(sum(j.seconds for j in book.jobs.values() if j.key.arm == name)),
    }


def is_finished(book: Ledger) -> bool:
    """Trained, and every replicate that could be trained is scored."""
    jobs = [job for arm in book.arms for job in book.replicates(arm)]
    return book.trained() and all(
        job.key in book.evaluations for job in jobs if book.status(job.key) == "done"
    )


def planned_jobs(spec: StudySpec, num_arms: int) -> int:
    """Trials, candidates and replicates of a study; fewer if an arm fails."""
    return num_arms * (spec.trials_per_arm() + _again(spec) + spec.confirmation.seeds)


def jobs_left(book: Ledger) -> int:
    """Jobs that are yet to be asked for or wait at a rung; fewer if an arm fails."""
    return planned_jobs(book.spec, len(book.arms)) - book.closed.total() - book.num_running


def planned_epochs(spec: StudySpec) -> int:
    """Epochs of one arm if no trial fails: the same for every arm.

    With asynchronous halving they are the fewest: a trial that is among the best only until better
    ones come has gone on by then. How many do depends on the order of reports.
    """
    search, epochs, before = spec.search, 0, 0
    competitions = 1 if search.halving == "asynchronous" else search.cohorts
    members = spec.trials_per_arm() // competitions
    for rung in rungs_of(spec):
        epochs += members * (rung - before)
        members, before = max(1, members // search.reduction), rung
    return competitions * epochs + _confirmation_epochs(spec)


def most_epochs(spec: StudySpec) -> int:
    """Epochs that one arm cannot exceed: with asynchronous halving, those of a search whose every
    trial is better than all before it, and goes on."""
    if spec.search.halving == "synchronous":
        return planned_epochs(spec)
    return spec.trials_per_arm() * spec.training.epochs + _confirmation_epochs(spec)


def _confirmation_epochs(spec: StudySpec) -> int:
    return (_again(spec) + spec.confirmation.seeds) * spec.training.epochs


def _again(spec: StudySpec) -> int:
    """Candidate jobs of an arm; a single trial needs none to be chosen."""
    candidates = min(spec.confirmation.candidates, spec.trials_per_arm())
    return candidates * spec.confirmation.candidate_seeds if candidates > 1 else 0


def winner_of(book: Ledger) -> str:
    """The arm with the best mean validation NSE of its replicates.

    Raises:
        StudyError: The study is not finished, or no arm could be trained.
    """
    if not is_finished(book):
        raise StudyError(
            f"study {book.spec.name} is not finished; go on with `study run`, then export"
        )
    means = {key.arm: mean_scores(book, key.arm) for key in book.evaluations}
    trained = [arm.name for arm in compared(book.arms.values()) if means.get(arm.name)]
    if not trained:
        raise StudyError(f"study {book.spec.name}: no arm could be trained; see `study report`")
    return max(trained, key=lambda arm: means[arm]["validation"]["nse_median"])


def mean_scores(book: Ledger, arm: str) -> dict[str, dict[str, float]]:
    """Period -> metric -> mean over the arm's replicates."""
    tables = [book.evaluations[j.key] for j in book.replicates(arm) if j.key in book.evaluations]
    if not tables:
        return {}
    return {
        period: {name: sum(t[period][name] for t in tables) / len(tables) for name in scores}
        for period, scores in tables[0].items()
        if scores is not None
    }
