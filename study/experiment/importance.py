"""Which hyperparameters mattered in an arm's search: exploratory, and never an effect of a study.

Functional analysis of variance of a random forest fitted to the trials (Hutter, Hoos and
Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance", ICML). Not
PED-ANOVA, which looks within the best trials only and may give next to nothing to what decided
everything.
"""

from __future__ import annotations

import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import create_trial

from study.experiment.arms import Arm
from study.experiment.ledger import Ledger
from study.experiment.search import distribution
from study.seeding import derive
from study.spec import StudySpec

FEWEST_TRIALS = 10
"""A forest of fewer tells nothing."""


def compared_at(spec: StudySpec) -> int:
    """The epoch at which all trials of an arm have a score: the first rung, or the cap."""
    return spec.search.rungs[0] if spec.search.rungs else spec.training.epochs


def importances(book: Ledger, arm: Arm) -> dict[str, float] | None:
    """Hyperparameter -> its share of the variance of validation NSE over the arm's space.

    All trials are compared after the same number of epochs (`compared_at`). None where there are
    too few of them, fewer than two hyperparameters, or nothing that varies.
    """
    epoch = compared_at(book.spec)
    space = {n: distribution(n, c) for n, c in book.spec.search.space_of(arm.levels).items()}
    trials = [
        create_trial(params=dict(job.hyperparameters), distributions=space, value=job.scores[epoch])
        for job in book.stage(arm.name, "search")
        if epoch in job.scores
    ]
    if len(trials) < FEWEST_TRIALS or len(space) < 2 or len({t.value for t in trials}) < 2:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    seed = derive("fanova", book.spec.search.seed, arm.name) % 2**32
    found = optuna.importance.get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=seed)
    )
    return {name: float(share) for name, share in found.items()}
