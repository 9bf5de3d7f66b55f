"""What the search did with its budget: how good the best of n trials is, and where optima lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gammaln

from study.experiment.importance import compared_at, importances
from study.experiment.jobs import JobKey
from study.experiment.ledger import Ledger
from study.report.evidence import Evidence
from study.report.spread import Floats
from study.spec import Choice, RangeSpec

BORDER = 0.05
"""An optimum in this share of a range, at either end, may want to lie beyond it."""
FEWEST_CHOICES = 3
"""Of fewer, every one lies at an end."""


def expected_best(scores: Floats) -> Floats:
    """Expected maximum of n of these scores drawn without replacement, for n = 1 ... N.

    `E_n = sum_i C(i - 1, n - 1) / C(N, n) s_(i)` over the scores in rising order: the unbiased
    estimator of the expected best of n trials (Tang et al. 2020, "Showing Your Work Doesn't
    Always Work", doi:10.18653/v1/2020.acl-main.246), where drawing with replacement (Dodge et al.
    2019) promises too little.

    Args:
        scores: `(trial,)`.

    Returns:
        `(trial,)`, never falling; the last is the maximum.
    """
    ordered, total = np.sort(scores), scores.size
    ranks, drawn = np.arange(1, total + 1), np.arange(1, total + 1)[:, None]
    above = np.maximum(ranks - drawn, 0)
    log_ways = gammaln(ranks) - gammaln(drawn) - gammaln(above + 1)
    log_all = gammaln(total + 1) - gammaln(drawn + 1) - gammaln(total - drawn + 1)
    shares = np.where(ranks >= drawn, np.exp(log_ways - log_all), 0.0)
    return np.asarray(shares @ ordered)


def search_account(book: Ledger, evidence: Evidence) -> dict[str, Any]:
    """Curves, importances and optima at borders of the arms' searches, as plain data."""
    return {
        "expected_best": [_curve(book, arm) for arm in evidence.arms],
        "importance": _importances(book, evidence),
        "at_borders": [found for arm in evidence.arms for found in optima_at_borders(book, arm)],
    }


def _curve(book: Ledger, arm: str) -> dict[str, Any]:
    """The best of n trials in random order; a trial counts with the last score it has, one that
    failed with the worst of its arm."""
    jobs = list(book.stage(arm, "search"))
    known = [job.scores[max(job.scores)] for job in jobs if job.scores]
    finite = [score for score in known if np.isfinite(score)]
    worst = min(finite)
    scores = np.array([*finite, *[worst] * (len(jobs) - len(finite))])
    epochs = sum(job.epochs for job in jobs) / len(jobs)
    return {
        "arm": arm,
        "trials": list(range(1, scores.size + 1)),
        "epochs": [round(epochs * n, 1) for n in range(1, scores.size + 1)],
        "validation_nse_median": [float(best) for best in expected_best(scores)],
    }


def _importances(book: Ledger, evidence: Evidence) -> list[dict[str, Any]]:
    found = {arm: importances(book, book.arms[arm]) for arm in evidence.arms}
    return [
        {"arm": arm, "epoch": compared_at(book.spec), "shares": shares}
        for arm, shares in found.items()
        if shares is not None
    ]


def optima_at_borders(book: Ledger, arm: str) -> list[dict[str, Any]]:
    """Hyperparameters of an arm's winner that lie at an end of what was searched."""
    winner = book.winner(arm)
    if winner is None:
        return []
    chosen = book.jobs[JobKey(arm, "search", winner, 0)].hyperparameters
    space = book.spec.search.space_of(book.arms[arm].levels)
    return [
        {"arm": arm, "hyperparameter": name, "value": chosen[name], "end": end}
        for name, choice in space.items()
        if (end := _end(choice, chosen[name])) is not None
    ]


def _end(choice: Choice, value: Any) -> str | None:
    """`lower` or `upper`, if a value lies there."""
    if isinstance(choice, RangeSpec):
        low, high, at = choice.low, choice.high, float(value)
        if choice.log:
            low, high, at = np.log(low), np.log(high), np.log(at)
        share = (at - low) / (high - low)
        return "lower" if share <= BORDER else "upper" if share >= 1 - BORDER else None
    options = choice if isinstance(choice, tuple) else choice.choices
    numeric = all(isinstance(o, int | float) and not isinstance(o, bool) for o in options)
    if not numeric or len(options) < FEWEST_CHOICES:
        return None
    return {min(options): "lower", max(options): "upper"}.get(value)
