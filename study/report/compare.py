"""The answer of a study: arms, budgets and contrasts as one object, its tables and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
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
from study.experiment.storage import Storage, replacing
from study.report.budget import search_account
from study.report.effects import (
    Parts,
    combinations,
    contrast_effects,
    describe_split,
    split_effects,
)
from study.report.evidence import Evidence, gather, reference_summary, summary
from study.report.painters import Each
from study.report.statistics import Effect, arm_interval, holm
from study.report.tables import write_tables
from study.seeding import derive

REPORT = "report.json"
PAGE = "report.html"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a finished study says."""

    book: Ledger
    evidence: Evidence
    effects: Mapping[str, Effect]
    """By contrast"""
    parts: Mapping[str, Parts]
    """By contrast, if the spec tells basins apart"""
    report: dict[str, Any]
    """All of it as plain data: what `study report --json` prints"""


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


def answer_of(book: Ledger, storage: Storage) -> Answer:
    """Read what a study's replicates say, and judge it.

    Raises:
        StudyError: There is nothing to report yet.
    """
    evidence = gather(book, storage)
    effects, parts = contrast_effects(book, evidence), split_effects(book, evidence)
    return Answer(
        book=book,
        evidence=evidence,
        effects=effects,
        parts=parts,
        report=build_report(book, evidence, effects, parts),
    )


def write_answer(answer: Answer, out: Path, each: Each = map) -> None:
    """Write a page (`report.html`), `report.json`, the tables as CSV and Parquet and the figures as
    PNG and SVG into a folder.

    The folder appears or changes when all of it is ready.

    Args:
        answer: Of a study.
        out: The folder.
        each: Draws the figures; see `Painters`.

    Raises:
        InputError: The folder exists and is something else.
    """
    refuse_foreign(out)
    with replacing(out) as aside:
        aside.mkdir()
        _write_files(answer, aside, each)


def write_report(book: Ledger, storage: Storage, out: Path, each: Each = map) -> dict[str, Any]:
    """Write a study's report into a folder; see `write_answer`.

    Returns:
        The report's object.

    Raises:
        InputError: The folder exists and is something else.
        StudyError: There is nothing to report yet.
    """
    refuse_foreign(out)
    answer = answer_of(book, storage)
    write_answer(answer, out, each)
    return answer.report


def _write_files(answer: Answer, out: Path, each: Each) -> None:
    from study.report.drawings import all_drawings  # load matplotlib: the answer is there before
    from study.report.page import page
    from study.report.sketches import drawn

    book, evidence, report = answer.book, answer.evidence, answer.report
    drawings = all_drawings(book, evidence, report, answer.effects, answer.parts)
    figures = each(drawn, drawings)  # drawn from here on, where there are processes for it
    (out / REPORT).write_text(json.dumps(_without_nan(report), indent=1))
    write_tables(report, evidence, out)
    svgs = {}
    for drawing, (png, svg) in zip(drawings, figures, strict=True):
        (out / f"{drawing.name}.png").write_bytes(png)
        (out / f"{drawing.name}.svg").write_text(svg)
        svgs[drawing.name] = svg
    (out / PAGE).write_text(page(book, report, evidence, drawings, svgs))


def refuse_foreign(out: Path) -> None:
    """A folder is replaced only if it is a report.

    Raises:
        InputError: It is something else.
    """
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
