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
import pandas as pd

from study.errors import InputError
from study.experiment.arms import declared_contrasts
from study.experiment.jobs import JobKey
from study.experiment.ledger import Ledger
from study.experiment.progress import winner_of
from study.experiment.storage import Storage
from study.report import figures, forest
from study.report.effects import (
    SIDES,
    TOLD,
    Parts,
    contrast_effects,
    describe_split,
    split_effects,
)
from study.report.evidence import Evidence, Period, gather, reference_summary, summary
from study.report.statistics import Effect, arm_interval, holm
from study.seeding import derive

REPORT = "report.json"
HYDROGRAPHS = 4


def build_report(
    book: Ledger, evidence: Evidence, effects: Mapping[str, Effect], parts: Mapping[str, Parts]
) -> dict[str, Any]:
    """The report as plain data: what `study report --json` prints."""
    arms = [_arm(book, evidence, name) for name in evidence.arms]
    return {
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
        "failed_arms": [name for name in book.arms if name not in evidence.arms],
        "contrasts": _contrasts(book, effects, parts),
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
    """Write `report.json`, the tables as CSV and the figures as PNG into a folder.

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
        _write_tables(report, evidence, aside)
        _write_figures(book, evidence, report, effects, aside)
        _write_split_figure(book, evidence, parts, aside)
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


def _write_tables(report: dict[str, Any], evidence: Evidence, out: Path) -> None:
    pd.json_normalize(report["arms"]).to_csv(out / "arms.csv", index=False)
    pd.DataFrame(map(_flat, report["contrasts"])).to_csv(out / "contrasts.csv", index=False)
    references = [
        {"reference": reference["reference"], "period": period, **reference[period]}
        for reference in report["references"]
        for period in ("validation", "test")
        if reference[period] is not None
    ]
    if references:
        pd.DataFrame(references).to_csv(out / "references.csv", index=False)
    rows = [
        pd.DataFrame({"period": name, "arm": arm, "seed": number, "gauge_id": evidence.basins}
                     | {metric: values[row] for metric, values in metrics.items()})
        for name, period in evidence.periods.items()
        for arm, metrics in period.metrics.items()
        for row, number in enumerate(period.seeds[arm])
    ]  # fmt: skip
    pd.concat(rows).to_csv(out / "basins.csv", index=False)


def _flat(contrast: dict[str, Any]) -> dict[str, Any]:
    """A contrast as one row; `split.below.low` and so on if it has them."""
    row = {key: value for key, value in contrast.items() if key != "split"}
    if "split" not in contrast:
        return row
    split = contrast["split"]
    told = {f"split.{side}.{name}": (split[side] or {}).get(name) for side in SIDES
            for name in TOLD}  # fmt: skip
    return {**row, "split.attribute": split["attribute"], "split.at": split["at"], **told}


def _write_figures(
    book: Ledger,
    evidence: Evidence,
    report: dict[str, Any],
    effects: Mapping[str, Effect],
    out: Path,
) -> None:
    name = evidence.verdict_period
    period = evidence.periods[name]
    scores = {arm: period.nse(arm) for arm in evidence.arms}
    cdf = figures.nse_cdf(scores, references=period.complete_references(), period=name)
    figures.save(cdf, out / "nse_cdf.png")
    margin = book.spec.evidence.equivalence
    if effects:
        forest_plot = forest.differences(effects, margin=margin, period=name)
        figures.save(forest_plot, out / "differences.png")
    curves = {
        arm: [
            (np.array(sorted(job.scores)), np.array([job.scores[e] for e in sorted(job.scores)]))
            for job in book.stage(arm, "search")
            if job.scores
        ]
        for arm in evidence.arms
    }
    figures.save(figures.learning_curves(curves), out / "learning_curves.png")
    shown = _worth_showing(report)
    figures.save(_hydrographs(evidence, period, shown), out / "hydrographs.png")
    if "frac_snow" in evidence.facts:
        for number, contrast in enumerate(report["contrasts"]):
            a, b = period.nse(contrast["a"]).mean(axis=0), period.nse(contrast["b"]).mean(axis=0)
            figure = figures.difference_by_snow(
                a - b,
                evidence.facts["frac_snow"],
                name=contrast["name"],
                margin=margin,
                basins=evidence.basins,
            )
            figures.save(figure, out / f"difference_by_snow_{number + 1:02d}.png")


def _write_split_figure(
    book: Ledger, evidence: Evidence, parts: Mapping[str, Parts], out: Path
) -> None:
    """The contrasts in either part of the basins, if the spec asks for it."""
    split = book.spec.evidence.split
    if split is None or not parts:
        return
    figure = forest.differences_by_split(
        {name: (effects["below"], effects["above"]) for name, effects in parts.items()},
        names=split.names,
        margin=book.spec.evidence.equivalence,
        period=evidence.verdict_period,
    )
    figures.save(figure, out / "differences_by_split.png")


def _worth_showing(report: dict[str, Any]) -> list[str]:
    """The winner, and the arm it is first compared with."""
    winner = report["winner"]
    for contrast in report["contrasts"]:
        if winner in (contrast["a"], contrast["b"]):
            return [winner, contrast["b"] if contrast["a"] == winner else contrast["a"]]
    return [winner]


def _hydrographs(evidence: Evidence, period: Period, arms: list[str]) -> Any:
    """A water year of the best, the middle, the worst tenth and the snowiest basin."""
    nse = period.nse(arms[0]).mean(axis=0)
    order = [int(i) for i in np.argsort(nse) if np.isfinite(nse[i])]
    chosen = [order[int(share * (len(order) - 1))] for share in (0.9, 0.5, 0.1)]
    if "frac_snow" in evidence.facts:
        chosen.append(int(np.argmax(evidence.facts["frac_snow"])))
    chosen = list(dict.fromkeys(chosen))[:HYDROGRAPHS]
    slices = {i: _best_observed_year(period, i) for i in chosen}
    cut = {i: np.arange(s.start, s.stop) for i, s in slices.items()}
    names = evidence.facts.get("gauge_name", np.array([""] * len(evidence.basins)))
    return figures.hydrographs(
        np.stack([period.days.to_numpy()[cut[i]] for i in chosen]),
        np.stack([period.qobs[i, cut[i]] for i in chosen]),
        {a: np.stack([period.qsim[a][:, i, cut[i]].mean(axis=0) for i in chosen]) for a in arms},
        basins=[evidence.basins[i] for i in chosen],
        titles=[f"{str(names[i]).title()}   NSE {nse[i]:.2f}" for i in chosen],
        swe=None if period.swe is None else np.stack([period.swe[i, cut[i]] for i in chosen]),
    )


def _best_observed_year(period: Period, basin: int) -> slice:
    """365 days from the middle of the period on, moved back to where the fewest days lack."""
    there = np.isfinite(period.qobs[basin])
    length = min(365, len(there))
    starts = range((len(there) - length) // 2 // 365 * 365, -1, -365)
    best = max(starts, key=lambda start: there[start : start + length].sum())
    return slice(best, best + length)
