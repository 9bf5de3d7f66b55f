"""What importers of other people's runs share: a run as this platform would have trained it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from study.errors import DataError
from study.export.manifest import FORMAT, InputEntry, Licence, Manifest, Simulation

WEIGHTS = re.compile(r"model_epoch(\d+)\.pt")

KNOWN_INPUTS = {"prcp": "mm/d", "srad": "W/m2", "tmax": "degC", "tmin": "degC", "vp": "Pa",
                "dayl": "s", "swe": "mm"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImportedRun:
    """One network of somebody else's."""

    manifest: Manifest
    """Of a bundle with this one member."""
    weights: Mapping[str, Tensor]
    """By this platform's parameter names."""
    attributes: pd.DataFrame
    """Of the basins it knows, index `gauge_id`; empty where the run keeps none."""


def read_weights(folder: Path, epoch: int | None) -> tuple[dict[str, Tensor], int]:
    """Weights by name, and the epoch they are of: the last, unless another is asked for.

    Raises:
        DataError: There are none, or the file holds anything but tensors.
    """
    found = {int(m[1]): p for p in folder.glob("*.pt") if (m := WEIGHTS.fullmatch(p.name))}
    if not found:
        raise DataError(f"{folder}: has no model_epochNNN.pt; give the folder of a finished run")
    chosen = max(found) if epoch is None else epoch
    if chosen not in found:
        raise DataError(
            f"{folder}: has no weights of epoch {epoch}, but those of "
            f"{', '.join(map(str, sorted(found)))}"
        )
    try:
        content = torch.load(found[chosen], map_location="cpu", weights_only=True)
        weights = {str(name): tensor.to(torch.float32) for name, tensor in content.items()}
    except Exception as error:  # pickle's and torch's errors have no base class in common
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{found[chosen]}: holds something else than named tensors and is not loaded, since "
            f"that could run code ({reason})"
        ) from None
    return weights, chosen


def take(
    weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], source: Path
) -> dict[str, Tensor]:
    """Exactly these tensors in exactly these shapes.

    Raises:
        DataError: One is missing, of another shape, or too many.
    """
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != dict(shapes):
        wrong = sorted(set(found.items()) ^ set(shapes.items()))
        raise DataError(
            f"{source}: its weights are not those of the model that its configuration describes; "
            f"they differ in {', '.join(f'{n} {list(s)}' for n, s in wrong[:6])}"
        )
    return dict(weights)


def canonical(names: Sequence[str]) -> dict[str, str]:
    """Inputs of other packages -> this platform's names (`PRCP(mm/day)_daymet` -> `prcp`), where
    that is plain and tells all apart; else as they are."""
    short = {name: re.split(r"[(_]", name.lower())[0] for name in names}
    if len(set(short.values())) == len(names) and set(short.values()) <= set(KNOWN_INPUTS):
        return short
    return {name: name for name in names}


def make_manifest(
    *,
    folder: Path,
    made_by: str,
    epoch: int,
    model: str,
    hidden_size: int,
    simulation: Simulation,
    training: dict[str, Any],
    dynamic: Sequence[InputEntry],
    static: Sequence[InputEntry],
    target: InputEntry,
    periods: dict[str, str],
    basins: Sequence[str],
    licences: tuple[Licence, ...] = (),
) -> Manifest:
    """The manifest of a run that knows nothing of studies."""
    return Manifest(
        format=FORMAT,
        name=f"{folder.resolve().name}, epoch {epoch}",
        study=None,
        arm=None,
        factors={"model": model, "statics": "on" if static else "off"},
        model=model,
        hidden_size=hidden_size,
        members=1,
        simulation=simulation,
        training=training,
        dynamic_inputs=tuple(dynamic),
        static_inputs=tuple(static),
        attributes_source="published",
        target=target,
        periods=periods,
        basins=tuple(basins),
        metrics={},
        licences=licences,
        digests={},
        provenance={"made_by": made_by, "run": folder.resolve().name, "epoch": epoch},
        checksums={},
    )


def together(runs: Sequence[ImportedRun]) -> Manifest:
    """The manifest of an ensemble of runs that differ by their seed alone.

    Raises:
        DataError: They differ in what they are fed with, or how.
    """
    first = runs[0].manifest
    apart = {"name", "training", "provenance"}
    for run in runs[1:]:
        for field in sorted(set(Manifest.model_fields) - apart):
            if getattr(run.manifest, field) != getattr(first, field):
                raise DataError(
                    f"{run.manifest.name}: differs from {first.name} in `{field}`; the members of "
                    "an ensemble take the same inputs in the same scaling, import them one by one"
                )
    if len(runs) == 1:
        return first
    names = [run.manifest.name for run in runs]
    return first.model_copy(
        update={
            "name": f"{len(runs)} runs: {', '.join(names[:3])}{', ...' * (len(runs) > 3)}",
            "members": len(runs),
            "provenance": first.provenance | {"runs": names},
        }
    )
