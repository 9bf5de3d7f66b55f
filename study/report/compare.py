"""The answer of a study: arms, budgets and contrasts as one object, its tables and figures."""

from __future__ import annotations

import json
import math
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from study import __version__
from study.errors import InputError
from study.experiment.arms import compared
from study.experiment.contrasts import declared_contrasts
from study.experiment.jobs import JobKey
from study.experiment.ledger import Ledger
from study.experiment.progress import winner_of
from study.experiment.storage import Storage
from study.report import figures
from study.report.budget import search_account
from study.report.drawings import draw_all
from study.report.effects import (
    Parts,
    combinations,
    contrast_effects,
    describe_split,
    split_effects,
)
from study.report.evidence import Evidence, gather, reference_summary, summary
from study.report.page import page
from study.report.statistics import Effect, arm_interval, holm
from study.report.tables import write_tables
from study.seeding import derive

REPORT = "report.json"
PAGE = "report.html"


def build_report(
    book: Ledger, evidence: Evidence, effects: Mapping[str, Effect], parts: Mapping[str, Parts]
) -> dict[str, Any]:
    """The report as plain data: what `study report --json` prints."""
    arms = [_arm(book, evidence, name) for name in evidence.arms]
    return {
        "version": __version__,
        "study": book.spec.name,
        "question": book.spec.question,
        "winner": winner_of(book),
        "winner_chosen_on": "validation",
        "period": evidence.verdict_period,
        "equivalence": book.spec.evidence.equivalence,
        "test_reads": book.test_reads,
        "exploratory": evidence.verdict_period == "validation" or book.test_reads > 1,
        "arms": arms,
        "references": _references(evidence, winner_of(book)),
        "searches": _searches(evidence),
        "failed_arms": [
            arm.name for arm in compared(book.arms.values()) if arm.name not in evidence.arms
        ],
        "contrasts": _contrasts(book, effects, parts),
        "factorial": _factorial(book, evidence),
        "search": search_account(book, evidence),
        "failures": [
            {"job": str(job.key), "reason": job.failure.strip().splitlines()[-1]}
            for job in book.jobs.values()
            if job.failure
        ],
    }


def _contrasts(
    book: Ledger, effects: Mapping[str, Effect], parts: Mapping[str, Parts]
) -> list[dict[str, Any]]:
    """The contrasts as plain data, in either part of the basins if the spec asks for it."""
    adjusted = holm([e.p_wilcoxon for e in effects.values()])
    pairs = {c.name: c for c in declared_contrasts(book.spec, tuple(book.arms.values()))}
    split = book.spec.evidence.split
    return [
        {"name": name, "a": pairs[name].a, "b": pairs[name].b, **vars(effect), "p_holm": p}
        | ({} if split is None else {"split": describe_split(split, parts[name])})
        for (name, effect), p in zip(effects.items(), adjusted, strict=True)
    ]


def _factorial(book: Ledger, evidence: Evidence) -> list[dict[str, Any]]:
    """Main effects and interactions as plain data; a family of their own for Holm."""
    found = combinations(book, evidence)
    adjusted = holm([effect.p_wilcoxon for _, effect in found])
    return [
        {**vars(implied), "weights": dict(implied.weights), **vars(effect), "p_holm": p}
        for (implied, effect), p in zip(found, adjusted, strict=True)
    ]


def _arm(book: Ledger, evidence: Evidence, name: str) -> dict[str, Any]:
    search = list(book.stage(name, "search"))
    later = [*book.stage(name, "candidate"), *book.stage(name, "replicate")]
    winner = book.winner(name)
    periods: dict[str, Any] = {"validation": None, "test": None}
    for period_name, period in evidence.periods.items():
        interval = arm_interval(
            period.nse(name),
            regions=evidence.regions,
            repetitions=book.spec.evidence.repetitions,
            seed=derive("bootstrap", book.spec.search.seed, name, period_name),
        )
        periods[period_name] = summary(period, name) | {
            "nse_median_low": interval.low,
            "nse_median_high": interval.high,
        }
    return {
        "arm": name,
        "factors": dict(book.arms[name].levels),
        "hyperparameters": {}
        if winner is None
        else dict(book.jobs[JobKey(name, "search", winner, 0)].hyperparameters),
        "trials": len(search),
        "failed_trials": sum(job.failure is not None for job in search),
        "epochs": sum(job.epochs for job in search),
        "seconds": round(sum(job.seconds for job in search), 3),
        "confirmation_seconds": round(sum(job.seconds for job in later), 3),
        "replicates": len(evidence.periods["validation"].nse(name)),
        **periods,
    }


def _searches(evidence: Evidence) -> list[dict[str, Any]]:
    """What an arm came to in each of its repeated searches: how far their luck goes.

    `nse_median` is a search's mean over replicates of the median over basins; `std` the standard
    deviation of these between searches, beside which `seed_std`, what replicates of one search
    alone would let it be: their standard deviation over the root of their number.
    """
    period = evidence.periods[evidence.verdict_period]
    found = []
    for arm, again in evidence.repeats.items():
        if arm in evidence.arms:
            medians = [np.nanmedian(period.nse(name), axis=1) for name in (arm, *again)]
            spreads = [np.var(m, ddof=1) / len(m) if len(m) > 1 else np.nan for m in medians]
            found.append({
                "arm": arm,
                "nse_median": [float(m.mean()) for m in medians],
                "std": float(np.std([m.mean() for m in medians], ddof=1)),
                "seed_std": float(np.sqrt(np.mean(spreads))),
            })  # fmt: skip
    return found


def _references(evidence: Evidence, winner: str) -> list[dict[str, Any]]:
    """Models to compare with, scored on the arms' basins and days."""
    result: list[dict[str, Any]] = []
    for name, about in evidence.references.items():
        scores = {
            period_name: reference_summary(period, name, winner)
            for period_name, period in evidence.periods.items()
        }
        result.append(
            {"reference": name, "about": about, "validation": None, "test": None, **scores}
        )
    return result


def write_report(book: Ledger, storage: Storage, out: Path) -> dict[str, Any]:
    """Write a page (`report.html`), `report.json`, the tables as CSV and Parquet and the figures as
    PNG and SVG into a folder.

    The folder appears or changes when all of it is ready.

    Returns:
        The report's object.

    Raises:
        InputError: The folder exists and is something else.
        StudyError: There is nothing to report yet.
    """
    _refuse_foreign(out)
    evidence = gather(book, storage)
    effects = contrast_effects(book, evidence)
    parts = split_effects(book, evidence)
    report = build_report(book, evidence, effects, parts)
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    older = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    aside.mkdir(parents=True)
    try:
        (aside / REPORT).write_text(json.dumps(_without_nan(report), indent=1))
        write_tables(report, evidence, aside)
        drawings = draw_all(book, evidence, report, effects, parts)
        for drawing in drawings:
            figures.save(drawing.figure, aside / f"{drawing.name}.png")
        svgs = {d.name: (aside / f"{d.name}.svg").read_text() for d in drawings}
        (aside / PAGE).write_text(page(book, report, evidence, drawings, svgs))
        if out.exists():
            out.rename(older)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(older, ignore_errors=True)
    return report


def _refuse_foreign(out: Path) -> None:
    """A folder is replaced only if it is a report."""
    if out.exists() and not (out / REPORT).is_file():
        if out.is_dir() and not any(out.iterdir()):
            return
        raise InputError(f"{out}: exists and is no report; give --out a new folder")


def _without_nan(value: Any) -> Any:
    """Plain data with null for numbers that are none, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
