"""The report as one HTML page that needs no network; layout in `template`."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from study.experiment.jobs import rungs_of
from study.experiment.ledger import Ledger
from study.report.drawings import worth_showing
from study.report.evidence import Evidence
from study.report.sketches import Drawing
from study.report.words import (
    SIGNS,
    answer,
    beyond,
    bounds,
    chance,
    headline,
    number,
    sentence,
    signed,
)
from study.spec import Choice, RangeSpec

TEMPLATE = Path(__file__).parent / "template"
COLOURS = {
    "#0072b2": "--c0", "#d55e00": "--c1", "#009e73": "--c2", "#cc79a7": "--c3", "#e69f00": "--c4",
    "#56b4e9": "--c5", "#222222": "--ink", "#555555": "--soft", "#777777": "--soft",
    "#767676": "--grey", "#c4c4c4": "--pale", "#e6e6e6": "--faint", "#b9dcf2": "--snow",
    "#2f6f99": "--snow-ink", "#b34e00": "--worse-ink", "#ffffff": "--paper", "#000000": "--ink",
}  # fmt: skip
"""Colours of the figures -> the page's, which know a light and a dark form."""


def page(
    book: Ledger,
    report: dict[str, Any],
    evidence: Evidence,
    drawings: Sequence[Drawing],
    svgs: Mapping[str, str],
) -> str:
    """The page. All that comes from a spec, a store or a failure is escaped.

    Args:
        book: The study.
        report: Its report as plain data.
        evidence: What it was made from.
        drawings: The figures' names and alternative texts.
        svgs: Name of a figure -> its SVG.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": signed, "number": number, "bounds": bounds, "chance": chance}
    inlined = {d.name: inline_svg(svgs[d.name], name=d.name, alt=d.alt) for d in drawings}
    reach = _reach(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        period=report["period"],
        css=Markup((TEMPLATE / "report.css").read_text()),
        answer=answer(report),
        verdicts=[_row(report, contrast, reach) for contrast in report["contrasts"]],
        factorial=[
            effect
            | {"bar": bar(effect, reach, report["equivalence"]), "sign": SIGNS[effect["verdict"]]}
            for effect in report["factorial"]
        ],
        reach=reach,
        arms=sorted(report["arms"], key=lambda a: -a[report["period"]]["nse_median"]),
        figures=inlined,
        wheres=[svg for name, svg in inlined.items() if name.startswith("where_")],
        hydrographs=[svg for name, svg in inlined.items() if name.startswith("hydrograph_")],
        shown=worth_showing(report),
        importance=_importance(report),
        protocol=_protocol(book, evidence),
        provenance=_provenance(book),
        spec=yaml.safe_dump(
            book.spec.model_dump(mode="json", exclude_none=True),
            sort_keys=False,
            allow_unicode=True,
        ),
    )


def inline_svg(svg: str, *, name: str, alt: str) -> Markup:
    """A figure as a part of the page: it takes the page's colours and type, and has words for who
    cannot see it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    for colour, variable in COLOURS.items():
        svg = re.sub(colour, f"var({variable})", svg, flags=re.IGNORECASE)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", svg)
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2]
    opening = (
        f'<svg role="img" aria-label="{escape(alt)}" width="{float(width) * 4 / 3:.0f}" '
        f'height="{float(height) * 4 / 3:.0f}" viewBox="0 0 {width} {height}">'
    )
    return Markup(opening + svg[svg.index(">") + 1 :])


def bar(effect: Mapping[str, Any], reach: float, margin: float) -> Markup:
    """An interval as a small drawing, on the axis that all rows share."""
    width, height = 200.0, 20.0

    def at(value: float) -> float:
        return round(width / 2 * (1 + max(-1.0, min(1.0, value / reach))), 1)

    middle, value = height / 2, effect["difference"]
    parts = [
        f'<rect x="{at(-margin)}" width="{at(margin) - at(-margin):.1f}" height="{height}" '
        'class="rope"/>',
        f'<line x1="{width / 2}" x2="{width / 2}" y1="0" y2="{height}" class="zero"/>',
    ]
    if effect["low"] == effect["low"]:  # not NaN
        parts.append(f'<line x1="{at(effect["low"])}" x2="{at(effect["high"])}" y1="{middle}" '
                     f'y2="{middle}" class="span"/>')  # fmt: skip
    parts.append(f'<circle cx="{at(value)}" cy="{middle}" r="4" class="dot"/>')
    return Markup(
        f'<svg class="bar" viewBox="-6 0 {width + 12} {height}" aria-hidden="true">'
        + "".join(parts)
        + "</svg>"
    )


def _reach(report: dict[str, Any]) -> float:
    """End of the axis of all intervals: an interval far wider than others goes on beyond it."""
    effects = [*report["contrasts"], *report["factorial"]]
    ends = sorted(abs(e[k]) for e in effects for k in ("low", "high", "difference") if e[k] == e[k])
    if not ends:
        return 1.0
    largest = max(abs(e["difference"]) for e in effects)
    usual = max(3 * ends[len(ends) // 2], 1.2 * largest)
    return float(1.05 * max(2 * report["equivalence"], 0.001, min(usual, ends[-1])))


def _row(report: dict[str, Any], contrast: dict[str, Any], reach: float) -> dict[str, Any]:
    change, context = headline(report, contrast)
    return {
        **contrast,
        "change": change,
        "context": context,
        "says": sentence(contrast, report["equivalence"]),
        "more": beyond(contrast),
        "sign": SIGNS[contrast["verdict"]],
        "bar": bar(contrast, reach, report["equivalence"]),
    }


def _importance(report: dict[str, Any]) -> dict[str, Any] | None:
    """A table: arms by hyperparameters."""
    found = report["search"]["importance"]
    if not found:
        return None
    names = list(dict.fromkeys(name for arm in found for name in arm["shares"]))
    rows = [(arm["arm"], [arm["shares"].get(name) for name in names]) for arm in found]
    return {"names": names, "rows": rows, "epoch": found[0]["epoch"]}


def _protocol(book: Ledger, evidence: Evidence) -> list[tuple[str, str]]:
    """What was laid down before the first trial."""
    spec = book.spec
    search, training, confirmation = spec.search, spec.training, spec.confirmation
    told = "written to" if "contrasts" in book.header else "by the spec in"
    periods = [(f"{name} period", str(period)) for name, period in spec.data.periods if period]
    space = "; ".join(f"{name} {_choice(choice)}" for name, choice in search.space.items())
    varied = [f"{f}: {', '.join(levels)}" for f, levels in spec.factors.items() if len(levels) > 1]
    return [
        ("basins", f"{len(evidence.basins)} in {len(set(evidence.regions))} regions"),
        *periods,
        ("factors", "; ".join(varied) or "none"),
        (
            "search of each arm",
            f"{search.cohorts} × {search.cohort_size} trials, {search.sampler}, "
            f"{search.halving} halving after epochs {', '.join(map(str, rungs_of(spec)))}",
        ),
        ("space", space or "one fixed configuration"),
        (
            "training",
            f"{training.epochs} epochs, loss {training.loss}, warm-up {training.warmup} days, "
            f"{training.targets_per_window} targets a window",
        ),
        ("objective", "median over basins of validation NSE at a trial's last epoch"),
        (
            "confirmation",
            f"best {confirmation.candidates} trials again, seeds for each: "
            f"{confirmation.candidate_seeds}; then the winner, fresh seeds: {confirmation.seeds}",
        ),
        ("equivalence", f"±{spec.evidence.equivalence:g} NSE"),
        ("contrasts", f"{told} the study's log before the first trial"),
        ("bootstrap", f"{spec.evidence.repetitions} repetitions"),
    ]


def _choice(choice: Choice) -> str:
    if isinstance(choice, RangeSpec):
        return f"{choice.low:g} to {choice.high:g}{' (log)' if choice.log else ''}"
    options = choice if isinstance(choice, tuple) else choice.choices
    return " | ".join(map(str, options))


def _provenance(book: Ledger) -> list[tuple[str, str]]:
    header = book.header
    facts = dict(header.get("provenance", {}))
    packages = facts.pop("packages", {})
    dirty = facts.pop("git_dirty", None)
    if facts.get("git_commit"):
        facts["git_commit"] += ", with local changes" if dirty else ", clean"
    else:
        facts["git_commit"] = "none: not run from a checkout"
    reads = {0: "not read", 1: "read once"}.get(book.test_reads, f"read {book.test_reads} times")
    begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(header.get("time", 0)))
    return [
        ("begun", begun),
        ("test period was", reads),
        *((name.replace("_", " "), str(value)) for name, value in facts.items()),
        ("packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ("spec, sha-256", book.spec.digest()),
        *((f"data, {group}", digest) for group, digest in header.get("digests", {}).items()),
    ]
