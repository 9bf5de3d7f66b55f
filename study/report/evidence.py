"""All that a finished study's replicates say, gathered from its results for the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load

from study.errors import StudyError
from study.evaluation.metrics import all_metrics, kge, nse, share_below_zero
from study.experiment.arms import compared
from study.experiment.confirm import BASINS, OBSERVED, REFERENCES, read_predictions
from study.experiment.jobs import JobKey
from study.experiment.ledger import Ledger
from study.experiment.progress import is_finished
from study.experiment.storage import Storage, read_result


@dataclass(frozen=True, kw_only=True)
class Period:
    """One period as simulated by all replicates; arrays over the study's basins."""

    days: pd.DatetimeIndex
    qobs: np.ndarray
    """(basin, day) mm/d"""
    swe: np.ndarray | None
    """(basin, day) mm, if the store had it"""
    qsim: Mapping[str, np.ndarray]
    """Arm -> (seed, basin, day) mm/d"""
    metrics: Mapping[str, Mapping[str, np.ndarray]]
    """Arm -> metric -> (seed, basin)"""
    seeds: Mapping[str, tuple[int, ...]]
    """Arm -> numbers of its replicates' seeds"""
    references: Mapping[str, np.ndarray]
    """Model to compare with -> (basin, day) mm/d, NaN where it has none"""
    reference_metrics: Mapping[str, Mapping[str, np.ndarray]]
    """Model to compare with -> `nse` and `kge` -> (basin,); NaN where it lacks a scored day"""

    def nse(self, arm: str) -> np.ndarray:
        """(seed, basin)"""
        return self.metrics[arm]["nse"]

    def complete_references(self) -> dict[str, np.ndarray]:
        """Model to compare with -> (basin,) NSE, of those that have every basin of the arms."""
        scored = np.any([np.isfinite(m["nse"]).any(axis=0) for m in self.metrics.values()], axis=0)
        return {
            name: metrics["nse"]
            for name, metrics in self.reference_metrics.items()
            if np.isfinite(metrics["nse"][scored]).all()
        }


@dataclass(frozen=True, kw_only=True)
class Evidence:
    basins: tuple[str, ...]
    facts: Mapping[str, np.ndarray]
    """Name -> (basin,) what is known of the basins (`huc_02`, `frac_snow`, ...)"""
    periods: Mapping[str, Period]
    """`validation`, and `test` if the study read one and it has observations"""
    references: Mapping[str, str]
    """Model to compare with -> where its discharge comes from"""
    repeats: Mapping[str, tuple[str, ...]]
    """Arm -> its repeated searches that could be trained, by the names the periods have them"""

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that could be trained."""
        repeated = {name for names in self.repeats.values() for name in names}
        return tuple(name for name in self.periods["validation"].qsim if name not in repeated)

    @property
    def verdict_period(self) -> str:
        """The period that effects are estimated on."""
        return "test" if "test" in self.periods else "validation"

    @property
    def regions(self) -> np.ndarray:
        """(basin,) regional blocks; every basin its own where the data name no region."""
        return np.asarray(self.facts.get("huc_02", np.array(self.basins)), np.str_)


def gather(book: Ledger, storage: Storage) -> Evidence:
    """Read the confirmation's simulations and score them.

    Raises:
        StudyError: The study is not finished.
    """
    replicates: dict[str, list[JobKey]] = {}
    for arm in book.arms:
        keys = [job.key for job in book.replicates(arm) if job.key in book.evaluations]
        if keys:
            replicates[arm] = keys
    if not is_finished(book) or not replicates:
        raise StudyError(
            f"study {book.spec.name} has nothing to report yet; see `study status`, and go on "
            "with `study run`"
        )
    index = json.loads(read_result(storage, BASINS))
    observed = load(read_result(storage, OBSERVED))
    sims: dict[str, list[dict[str, np.ndarray]]] = {
        arm: [read_predictions(storage, key) for key in keys] for arm, keys in replicates.items()
    }
    seeds = {arm: tuple(key.seed for key in keys) for arm, keys in replicates.items()}
    periods = {}
    for name, first_day in index["first_days"].items():
        if np.isfinite(observed[f"qobs.{name}"]).any():
            qsim = {arm: np.stack([s[name] for s in by_seed]) for arm, by_seed in sims.items()}
            periods[name] = _period(name, first_day, observed, qsim, seeds)
    facts = {name: np.asarray(values) for name, values in index["facts"].items()}
    return Evidence(
        basins=tuple(index["basins"]),
        facts=facts,
        periods=periods,
        references=index.get("references", {}),  # results of an earlier version have none
        repeats=_repeats(book, replicates),
    )


def _repeats(book: Ledger, trained: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Arm -> its repeated searches among the trained."""
    again = [book.arms[name] for name in trained if book.arms[name].repeat]
    return {
        arm.name: found
        for arm in compared(book.arms.values())
        if (found := tuple(a.name for a in again if a.levels == arm.levels))
    }


def _period(
    name: str,
    first_day: str,
    observed: Mapping[str, np.ndarray],
    qsim: Mapping[str, np.ndarray],
    seeds: Mapping[str, tuple[int, ...]],
) -> Period:
    """A period's series, scored."""
    qobs = observed[f"qobs.{name}"]
    references = {r: observed[f"{r}.{name}"] for r in REFERENCES if f"{r}.{name}" in observed}
    return Period(
        days=pd.date_range(first_day, periods=qobs.shape[1]),
        qobs=qobs,
        swe=observed.get(f"swe.{name}"),
        qsim=qsim,
        seeds=seeds,
        metrics={arm: all_metrics(sim=sim, obs=qobs) for arm, sim in qsim.items()},
        references=references,
        reference_metrics={
            reference: {"nse": nse(sim=sim, obs=qobs), "kge": kge(sim=sim, obs=qobs)}
            for reference, sim in references.items()
        },
    )


def summary(period: Period, arm: str) -> dict[str, Any]:
    """Scores of an arm: means over seeds of each metric's median over basins."""
    metrics = period.metrics[arm]
    result = {
        f"{name}_median": float(np.mean(np.nanmedian(values, axis=1)))
        for name, values in metrics.items()
    }
    nse = metrics["nse"]
    scored = np.isfinite(nse[0])
    ensemble = all_metrics(sim=period.qsim[arm].mean(axis=0), obs=period.qobs)["nse"]
    return result | {
        "nse_mean": float(np.mean(np.nanmean(nse, axis=1))),
        "share_nse_below_0": float(np.mean(share_below_zero(nse))),
        "nse_median_ensemble": float(np.nanmedian(ensemble)),
        "nse_median_seed_std": float(np.std(np.nanmedian(nse, axis=1), ddof=min(1, len(nse) - 1))),
        "basins": int(scored.sum()),
    }


def reference_summary(period: Period, reference: str, winner: str) -> dict[str, Any] | None:
    """Scores of a model to compare with, over the basins where it simulates every scored day, and
    the winner's `nse_median` over the same basins; None if there is no such basin."""
    scores = period.reference_metrics[reference]
    scored = np.isfinite(scores["nse"])
    if not scored.any():
        return None
    return {
        "nse_median": float(np.median(scores["nse"][scored])),
        "nse_mean": float(np.mean(scores["nse"][scored])),
        "kge_median": float(np.nanmedian(scores["kge"][scored])),
        "share_nse_below_0": float(share_below_zero(scores["nse"])),
        "winner_nse_median": float(np.mean(np.nanmedian(period.nse(winner)[:, scored], axis=1))),
        "basins": int(scored.sum()),
    }
