"""Which figures a report has, and what each of them says in words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from study.experiment.jobs import rungs_of
from study.experiment.ledger import Ledger
from study.report import figures, forest
from study.report.effects import Parts
from study.report.evidence import Evidence, Period
from study.report.maps import AXIS_LABELS, Places, where
from study.report.sketches import Drawing, RunSketch, Sketch
from study.report.statistics import Effect

HYDROGRAPHS = 4


def all_drawings(
    book: Ledger,
    evidence: Evidence,
    report: dict[str, Any],
    effects: Mapping[str, Effect],
    parts: Mapping[str, Parts],
) -> list[Drawing]:
    """All figures of a report, in its order; none is drawn yet."""
    drawings = [_cdf(evidence, report), *_forests(book, evidence, effects, parts)]
    drawings += _wheres(evidence, report)
    drawings += _hydrographs(evidence, report)
    return [*drawings, *_searches(book, evidence, report)]


def _cdf(evidence: Evidence, report: dict[str, Any]) -> Drawing:
    name = evidence.verdict_period
    period = evidence.periods[name]
    scores = {arm: period.nse(arm) for arm in evidence.arms}
    medians = ", ".join(f"{arm['arm']} {arm[name]['nse_median']:.3f}" for arm in report["arms"])
    return Drawing(
        name="nse_cdf",
        sketch=partial(
            figures.nse_cdf, scores, references=period.complete_references(), period=name
        ),
        alt=f"Cumulative distribution of the basins' NSE in the {name} period, one curve an arm "
        f"with the range of its seeds. Medians: {medians}.",
    )


def _forests(
    book: Ledger, evidence: Evidence, effects: Mapping[str, Effect], parts: Mapping[str, Parts]
) -> list[Drawing]:
    margin, period = book.spec.evidence.equivalence, evidence.verdict_period
    if not effects:
        return []
    told = "; ".join(f"{name} {e.difference:+.3f}, {e.verdict}" for name, e in effects.items())
    drawings = [
        Drawing(
            name="differences",
            sketch=partial(forest.differences, effects, margin=margin, period=period),
            alt=f"Differences in NSE between arms with 95 % intervals: {told}.",
        )
    ]
    split = book.spec.evidence.split
    if split is not None and parts:
        pairs = {name: (of["below"], of["above"]) for name, of in parts.items()}
        sketch = partial(
            forest.differences_by_split, pairs, names=split.names, margin=margin, period=period
        )
        low, high = split.names
        alt = (
            f"Differences in NSE between arms with 95 % intervals, for basins of {low} and {high}."
        )
        drawings.append(Drawing(name="differences_by_split", sketch=sketch, alt=alt))
    return drawings


def _wheres(evidence: Evidence, report: dict[str, Any]) -> list[Drawing]:
    """A contrast's differences on the map and against climate, one figure each."""
    period, facts = evidence.periods[evidence.verdict_period], evidence.facts
    climate = {name: np.asarray(facts[name], float) for name in AXIS_LABELS if name in facts}
    places = Places(
        basins=evidence.basins,
        lat=facts.get("gauge_lat"),
        lon=facts.get("gauge_lon"),
        climate=climate,
    )
    if not climate and (places.lat is None or places.lon is None):
        return []
    margin, drawings = report["equivalence"], []
    for number, contrast in enumerate(report["contrasts"], start=1):
        paired = period.nse(contrast["a"]).mean(axis=0) - period.nse(contrast["b"]).mean(axis=0)
        gain, loss = int((paired > margin).sum()), int((paired < -margin).sum())
        rest = int(np.isfinite(paired).sum()) - gain - loss
        drawings.append(
            Drawing(
                name=f"where_{number:02d}",
                sketch=partial(where, paired, places, name=contrast["name"], margin=margin),
                alt=f"{contrast['name']}: each basin's difference in NSE on a map, and against "
                f"snow and aridity. {gain} basins gain more than {margin:g}, {loss} lose more, "
                f"{rest} lie between.",
            )
        )
    return drawings


def worth_showing(report: dict[str, Any]) -> list[str]:
    """The winner, and the arm it is first compared with."""
    winner = str(report["winner"])
    for contrast in report["contrasts"]:
        if winner in (contrast["a"], contrast["b"]):
            return [winner, contrast["b"] if contrast["a"] == winner else contrast["a"]]
    return [winner]


def _hydrographs(evidence: Evidence, report: dict[str, Any]) -> list[Drawing]:
    """A water year of the best tenth's, the middle, the worst tenth's and the snowiest basin: all
    in one figure, and each in one of its own."""
    arms, period = worth_showing(report), evidence.periods[evidence.verdict_period]
    nse = period.nse(arms[0]).mean(axis=0)
    chosen = _basins_to_show(nse, evidence)
    names = evidence.facts.get("gauge_name", np.array([""] * len(evidence.basins)))
    titles = {i: f"{_named(names[i])}NSE {nse[i]:.2f}" for i in chosen}
    sims = {arm: period.qsim[arm].mean(axis=0) for arm in arms}
    snow = ", with snow water equivalent" if period.swe is not None else ""
    drawings = []
    for name, basins in {
        "hydrographs": chosen,
        **{f"hydrograph_{i:02d}": [b] for i, b in enumerate(chosen, 1)},
    }.items():
        which = "; ".join(f"{evidence.basins[i]} {titles[i]}" for i in basins)
        width = 7.4 if name == "hydrographs" else 10.4
        drawings.append(
            Drawing(
                name=name,
                sketch=_hydrograph(period, sims, basins, evidence.basins, titles, width),
                alt=f"Observed discharge and that of {' and '.join(arms)}{snow}, a water year "
                f"of the {evidence.verdict_period} period. {which}.",
            )
        )
    return drawings


def run_hydrographs(evidence: Evidence, winner: str) -> list[RunSketch]:
    """A figure of every arm and of every replicate. All show the same years of the winner's middle
    basin and of the snowiest."""
    period = evidence.periods[evidence.verdict_period]
    order = _basins_to_show(period.nse(winner).mean(axis=0), evidence)
    chosen = list(dict.fromkeys([order[len(order) // 2], order[-1]]))
    sketches = []
    for arm in evidence.arms:
        simulated, nse = period.qsim[arm], period.nse(arm)
        mean = (None, simulated.mean(axis=0), nse.mean(axis=0))
        runs = [mean, *zip(period.seeds[arm], simulated, nse, strict=True)]
        for seed, sim, scores in runs:
            titles = {i: f"NSE {scores[i]:.2f}" for i in chosen}
            name = arm if seed is None else f"{arm}, seed {seed}"
            sketch = _hydrograph(period, {name: sim}, chosen, evidence.basins, titles, 7.4)
            sketches.append(RunSketch(arm, seed, sketch))
    return sketches


def _named(name: object) -> str:
    return f"{str(name).title()} · " if str(name) else ""


def _basins_to_show(nse: np.ndarray, evidence: Evidence) -> list[int]:
    order = [int(i) for i in np.argsort(nse) if np.isfinite(nse[i])]
    chosen = [order[int(share * (len(order) - 1))] for share in (0.9, 0.5, 0.1)]
    if "frac_snow" in evidence.facts:
        chosen.append(int(np.argmax(evidence.facts["frac_snow"])))
    return list(dict.fromkeys(chosen))[:HYDROGRAPHS]


def _hydrograph(
    period: Period,
    sims: Mapping[str, np.ndarray],
    chosen: list[int],
    basins: tuple[str, ...],
    titles: Mapping[int, str],
    width: float,
) -> Sketch:
    slices = {i: _best_observed_year(period, i) for i in chosen}
    cut = {i: np.arange(s.start, s.stop) for i, s in slices.items()}
    return partial(
        figures.hydrographs,
        np.stack([period.days.to_numpy()[cut[i]] for i in chosen]),
        np.stack([period.qobs[i, cut[i]] for i in chosen]),
        {name: np.stack([sim[i, cut[i]] for i in chosen]) for name, sim in sims.items()},
        basins=[basins[i] for i in chosen],
        titles=[titles[i] for i in chosen],
        swe=None if period.swe is None else np.stack([period.swe[i, cut[i]] for i in chosen]),
        width=width,
    )


def _best_observed_year(period: Period, basin: int) -> slice:
    """365 days from the middle of the period on, moved back to where the fewest days lack."""
    there = np.isfinite(period.qobs[basin])
    length = min(365, len(there))
    starts = range((len(there) - length) // 2 // 365 * 365, -1, -365)
    best = max(starts, key=lambda start: there[start : start + length].sum())
    return slice(best, best + length)


def _searches(book: Ledger, evidence: Evidence, report: dict[str, Any]) -> list[Drawing]:
    curves = {
        arm: [
            (np.array(list(job.scores)), np.array(list(job.scores.values())))
            for job in book.stage(arm, "search")
            if job.scores
        ]
        for arm in evidence.arms
    }
    rungs = ", ".join(map(str, rungs_of(book.spec)))
    best = {
        curve["arm"]: (np.array(curve["epochs"]), np.array(curve["validation_nse_median"]))
        for curve in report["search"]["expected_best"]
    }
    ends = ", ".join(f"{arm} {values[-1]:.3f}" for arm, (_, values) in best.items())
    return [
        Drawing(
            name="learning_curves",
            sketch=partial(figures.learning_curves, curves),
            alt="Validation NSE of every trial over its epochs, one panel an arm; trials were "
            f"compared after epochs {rungs}.",
        ),
        Drawing(
            name="expected_best",
            sketch=partial(figures.expected_best, best),
            alt="Expected best validation NSE of an arm's search against the epochs it was given, "
            f"one curve an arm. With the whole budget: {ends}.",
        ),
    ]
