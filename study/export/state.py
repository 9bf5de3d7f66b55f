"""Carried state: what the networks remember after the last day, so that tomorrow needs one day."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from study.errors import DataError
from study.export.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class Carried:
    """State of all members and basins at the end of a day."""

    networks: str
    """Digest of the weights it belongs to."""
    basins: tuple[str, ...]
    day: datetime.date
    hidden: np.ndarray
    """(member, basin, hidden) float32"""
    cell: np.ndarray
    """Likewise."""

    def of(self, basins: list[str], bundle: Bundle, source: str) -> Carried:
        """The state of these basins.

        Raises:
            DataError: It belongs to another model, or lacks a basin.
        """
        if self.networks != bundle.networks_digest:
            raise DataError(
                f"{source}: was left by other networks than those of {bundle.uri}; give the "
                "bundle it was made with, or run once over the warm-up with this one"
            )
        absent = [b for b in basins if b not in self.basins]
        if absent:
            raise DataError(
                f"{source}: has no state of basin {absent[0]}; leave it out of the forcing, or run "
                "once over the warm-up with it"
            )
        rows = [self.basins.index(b) for b in basins]
        return Carried(
            networks=self.networks,
            basins=tuple(basins),
            day=self.day,
            hidden=self.hidden[:, rows],
            cell=self.cell[:, rows],
        )


def write_state(state: Carried, path: Path) -> None:
    """Write a state, in place of an older one, whole or not at all.

    Raises:
        DataError: It cannot be written.
    """
    about = {
        "networks": state.networks,
        "basins": json.dumps(state.basins),
        "day": state.day.isoformat(),
    }
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"hidden": state.hidden, "cell": state.cell}, aside, about)
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: the state cannot be written ({error})") from None


def read_state(path: Path) -> Carried:
    """Read a state.

    Raises:
        DataError: The file is none.
    """
    try:
        with safe_open(path, "numpy") as file:
            about, hidden, cell = (
                file.metadata(),
                file.get_tensor("hidden"),
                file.get_tensor("cell"),
            )
        state = Carried(
            networks=about["networks"],
            basins=tuple(json.loads(about["basins"])),
            day=datetime.date.fromisoformat(about["day"]),
            hidden=hidden,
            cell=cell,
        )
        if hidden.shape != cell.shape or hidden.shape[1:2] != (len(state.basins),):
            raise ValueError(f"shapes {hidden.shape} and {cell.shape}")
        if (
            hidden.dtype != np.float32
            or not np.isfinite(hidden).all()
            or not np.isfinite(cell).all()
        ):
            raise ValueError("it holds other values than a network leaves")
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise DataError(
            f"{path}: is no carried state ({error}); give a file that --state-out wrote"
        ) from None
    return state
