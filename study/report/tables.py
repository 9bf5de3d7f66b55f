"""The report's tables as files: CSV for people, Parquet for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from study.report.effects import SIDES, TOLD
from study.report.evidence import Evidence


def tables(report: dict[str, Any], evidence: Evidence) -> dict[str, pd.DataFrame]:
    """Name -> a table of the report; one may have no rows."""
    return {
        "arms": pd.json_normalize(report["arms"]),
        "contrasts": pd.DataFrame(map(_flat, report["contrasts"])),
        "factorial": pd.DataFrame(
            [{k: v for k, v in effect.items() if k != "weights"} for effect in report["factorial"]]
        ),
        "references": pd.DataFrame(_references(report)),
        "expected_best": _expected_best(report),
        "basins": _basins(evidence),
    }


def write_tables(report: dict[str, Any], evidence: Evidence, out: Path) -> None:
    """Write every table that has rows, as NAME.csv and NAME.parquet."""
    for name, table in tables(report, evidence).items():
        if len(table):
            table.to_csv(out / f"{name}.csv", index=False)
            _of_one_type(table).to_parquet(out / f"{name}.parquet", index=False)


def _of_one_type(table: pd.DataFrame) -> pd.DataFrame:
    """Columns that hold words and numbers (hyperparameters of different arms) as words."""
    mixed = [
        name
        for name in table
        if table[name].dtype == object and table[name].dropna().map(type).nunique() > 1
    ]
    return table.assign(**{str(name): table[name].map(str) for name in mixed})


def _flat(contrast: dict[str, Any]) -> dict[str, Any]:
    """A contrast as one row; `split.below.low` and so on if it has them."""
    row = {key: value for key, value in contrast.items() if key != "split"}
    if "split" not in contrast:
        return row
    split = contrast["split"]
    told = {f"split.{side}.{name}": (split[side] or {}).get(name) for side in SIDES
            for name in TOLD}  # fmt: skip
    return {**row, "split.attribute": split["attribute"], "split.at": split["at"], **told}


def _references(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"reference": reference["reference"], "period": period, **reference[period]}
        for reference in report["references"]
        for period in ("validation", "test")
        if reference[period] is not None
    ]


def _expected_best(report: dict[str, Any]) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(curve) for curve in report["search"]["expected_best"]])


def _basins(evidence: Evidence) -> pd.DataFrame:
    """Every metric of every basin, replicate and period."""
    return pd.concat(
        pd.DataFrame({"period": name, "arm": arm, "seed": number, "gauge_id": evidence.basins}
                     | {metric: values[row] for metric, values in metrics.items()})
        for name, period in evidence.periods.items()
        for arm, metrics in period.metrics.items()
        for row, number in enumerate(period.seeds[arm])
    )  # fmt: skip
