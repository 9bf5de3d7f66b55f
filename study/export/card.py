"""The model card: what a person should know before they use a bundle."""

from __future__ import annotations

from collections.abc import Iterable

from study.export.manifest import EXAMPLE, EXPECTED, FIGURE, InputEntry, Manifest

SHOWN_METRICS = {
    "nse_median": "NSE, median over basins",
    "nse_mean": "NSE, mean over basins",
    "nse_median_ensemble": "NSE of the members' mean, median over basins",
    "kge_median": "KGE, median over basins",
    "alpha_nse_median": "ratio of standard deviations, median",
    "fhv_median": "bias of the 2 % highest flows (%), median",
    "share_nse_below_0": "share of basins with NSE below 0",
}

NAMES = {"lstm": "LSTM", "ealstm": "EA-LSTM"}
"""Architectures that the literature writes otherwise than a study file does."""


def model_card(manifest: Manifest, *, figure: bool, graphs: bool) -> str:
    """Markdown.

    Args:
        manifest: What is known of the bundle.
        figure: Whether it has one.
        graphs: Whether it has ONNX graphs.
    """
    parts = [
        f"# {manifest.name}",
        _what(manifest),
        "## How good it is\n\n" + _metrics(manifest),
        *([f"![Distribution of the basins' NSE]({FIGURE})"] if figure else []),
        "## What it is fed with\n\n" + _inputs(manifest),
        "## Where it may be used\n\n" + _limits(manifest),
        "## How to run it\n\n" + _usage(graphs),
        "## Data\n\n" + _data(manifest),
        "## Provenance\n\n" + _provenance(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _what(manifest: Manifest) -> str:
    kind = NAMES.get(manifest.model, manifest.model)
    many = f"{manifest.members} networks" if manifest.members > 1 else "One network"
    task = "daily discharge (mm/d)"
    if manifest.baseline is not None:
        task += f", as what is to be added to `{manifest.baseline.name}`"
    return (
        f"{many} ({kind}, {manifest.hidden_size} memory cells) that "
        f"simulate{'s' if manifest.members == 1 else ''} {task} of a catchment from daily "
        f"forcing{' and static attributes' if manifest.static_inputs else ''}."
    )


def _metrics(manifest: Manifest) -> str:
    if not manifest.metrics:
        return "The run it was imported from says nothing of it here; score it before you use it."
    lines = []
    for period, scores in manifest.metrics.items():
        days = manifest.periods.get(period, "")
        lines += [f"{period} period, {days.replace(':', ' to ')}:", "", "| metric | | 95 % |",
                  "|---|---|---|"]  # fmt: skip
        for name, words in SHOWN_METRICS.items():
            if scores.get(name) is not None:
                low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
                interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
                lines.append(f"| {words} | {scores[name]:.3f} | {interval} |")
        lines.append("")
    mean = "Means over the members, unless the members' mean is named." * (manifest.members > 1)
    return "\n".join([*lines, mean]).strip()


def _inputs(manifest: Manifest) -> str:
    head = ["| input | units | trained on | source |", "|---|---|---|---|"]
    baseline = [] if manifest.baseline is None else [manifest.baseline]
    daily = _rows([*manifest.dynamic_inputs, *baseline])
    text = "\n".join(["Every day:", "", *head, *daily])
    if manifest.static_inputs:
        text += "\n\n" + "\n".join(["Once a basin:", "", *head, *_rows(manifest.static_inputs)])
    return text


def _rows(entries: Iterable[InputEntry]) -> list[str]:
    return [
        f"| `{e.name}` | {e.units or ''} | "
        f"{'' if e.low is None or e.high is None else f'{e.low:.4g} to {e.high:.4g}'} | "
        f"{e.source or ''} |"
        for e in entries
    ]


def _limits(manifest: Manifest) -> str:
    simulation = manifest.simulation
    learned = len(set(manifest.basins) - set(manifest.held_out))
    lines = [
        f"- It needs {simulation.warmup} days of forcing before the first day it predicts, or the "
        "state that it left on the day before.",
        "- Inputs beyond what it was trained on are told when it predicts; trust it less there.",
        "- The spread of the members is that of training runs, not a predictive interval.",
    ]
    if simulation.mode == "windows":
        lines[0] = (
            f"- It was made to be run window by window: every {simulation.targets_per_window} days "
            f"from an empty state and {simulation.warmup} days of warm-up. `--continuous` runs it "
            "in one pass instead, faster and not quite the same."
        )
    if manifest.basins:
        others = "" if manifest.bound_to_basins else "; others are extrapolation in space"
        lines.append(f"- It learned from {learned} basins{others}.")
    if manifest.bound_to_basins:
        lines.append(f"- It cannot predict new basins, being a model {manifest.bound_to_basins}.")
    return "\n".join(lines)


def _usage(graphs: bool) -> str:
    commands = (
        f"    pip install '.[{'predict' if graphs else 'torch'}]'\n"
        "    study predict BUNDLE --forcing forcing.csv --out qsim.csv\n"
        "    study inspect BUNDLE\n\n"
        f"`{EXAMPLE}` shows what a forcing file looks like, with invented numbers; `{EXPECTED}` is "
        "what the networks make of it. "
    )
    if not graphs:
        return commands + (
            "There are no ONNX graphs of this architecture: predictions need torch, and the "
            "package that defines it."
        )
    return commands + (
        "The ONNX graphs take physical units and give mm/d: any onnxruntime runs them without this "
        "package (`forcing`, `attributes`, `h0`, `c0` in; `qsim`, `hn`, `cn` out)."
    )


def _data(manifest: Manifest) -> str:
    if not manifest.licences:
        return "The terms of the data it was trained on are not known here; ask whoever trained it."
    return "\n".join(f"- {one.data}: {one.terms}. {one.citation}" for one in manifest.licences)


def _provenance(manifest: Manifest) -> str:
    facts = {
        "study": manifest.study,
        "arm": manifest.arm,
        "factors": ", ".join(f"{k} {v}" for k, v in manifest.factors.items()) or None,
        **{f"{name} period": days for name, days in manifest.periods.items()},
        "code": manifest.provenance.get("git_commit"),
        "made by": manifest.provenance.get("made_by"),
        **{f"digest of {group}": digest for group, digest in manifest.digests.items()},
    }
    lines = [f"- {name}: {value}" for name, value in facts.items() if value]
    return "\n".join([*lines, "", "Everything else, and every file's checksum: `manifest.json`."])
