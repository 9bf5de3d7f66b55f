"""Text files of numbers, read fast, and with the file and line in every complaint."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from study.errors import DataError

GAUGE_ID = re.compile(r"\d{8}")
"""An id of the United States Geological Survey, as CAMELS-US has them."""

GAPS = ("", "nan", "NaN", "NA")
"""What a field of `read_dated` holds where there is no value."""


def read_lines(path: Path, what: str) -> list[str]:
    """All lines of a text file.

    Args:
        path: The file: UTF-8, every line ended by a line break.
        what: What the file should be; named in errors.

    Raises:
        DataError: The file cannot be read, is not text, is empty, or ends within a line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: cannot be read as {what}: {reason}; put the file there") from None
    try:
        text = raw.decode("utf-8").replace("\r\n", "\n")
        at = text.find("\0")
    except UnicodeDecodeError as error:
        text, at = "", error.start
    if at >= 0:
        line = raw[:at].count(b"\n") + 1
        raise DataError(
            f"{path}: line {line} holds the byte 0x{raw[at]:02x}, which is not UTF-8 text; "
            f"save the file as UTF-8, or fetch this {what} again"
        )
    if not text.strip():
        raise DataError(f"{path}: is empty; fetch this {what} again")
    if not text.endswith("\n"):
        raise DataError(
            f"{path}: line {text.count(chr(10)) + 1} has no line break at its end, so the file was "
            f"cut off there; fetch this {what} again"
        )
    return text[:-1].split("\n")


def read_table(
    path: Path, lines: Sequence[str], columns: Mapping[str, type], *, first_line: int
) -> dict[str, np.ndarray]:
    """A table of which every field must be there, and every number be one.

    Args:
        path: Named in errors.
        lines: The rows, their fields with white space between.
        columns: Name -> float, or str for text.
        first_line: Line number of the first row in the file.

    Returns:
        Name -> (line,) float64, or strings.

    Raises:
        DataError: A line has too few or too many fields, or a field is not a finite number.
    """
    if not lines:
        raise DataError(f"{path}: holds no day; the file was cut off, fetch it again")
    try:
        table = pd.read_csv(
            StringIO("\n".join(lines)),
            sep=r"\s+",
            header=None,
            dtype={at: float if k is float else object for at, k in enumerate(columns.values())},
            quoting=csv.QUOTE_NONE,
            na_filter=False,  # a line that ends early has "" for what it lacks
            skip_blank_lines=False,
        )
    except ValueError as error:
        raise DataError(_complaint(path, lines, columns, first_line, error)) from None
    series = dict(zip(columns, (table[at].to_numpy() for at in table), strict=False))
    whole = table.shape == (len(lines), len(columns)) and all(
        np.isfinite(values).all() if columns[name] is float else (values != "").all()
        for name, values in series.items()
    )
    if not whole:
        raise DataError(_complaint(path, lines, columns, first_line, "not a number"))
    return series


def _complaint(
    path: Path,
    lines: Sequence[str],
    columns: Mapping[str, type],
    first_line: int,
    reason: object,
) -> str:
    """What is wrong with the first line that is wrong."""
    for number, line in enumerate(lines, start=first_line):
        fields = line.split()
        if len(fields) != len(columns):
            return (
                f"{path}: line {number} has {len(fields)} fields, expected are {len(columns)} "
                f"({', '.join(columns)}); correct the line, or fetch the file again"
            )
        for (name, kind), field in zip(columns.items(), fields, strict=True):
            if kind is float and not _is_number(field):
                return (
                    f"{path}: line {number}: `{name}` is {field.strip()[:40]!r}, not a number; "
                    "correct the line, or fetch the file again"
                )
    short = " ".join(str(reason).split())
    return f"{path}: is not a table of numbers ({short}); fetch the file again"


def _is_number(field: str) -> bool:
    try:
        return math.isfinite(float(field)) and "_" not in field
    except ValueError:
        return False


def to_days(
    path: Path, year: np.ndarray, month: np.ndarray, day: np.ndarray, *, first_line: int
) -> np.ndarray:
    """The days of a file, which must follow each other without a gap.

    Args:
        path: Named in errors.
        year: And `month`, `day`: floats, one a line.
        first_line: Line number of the first of them.

    Returns:
        (day,) datetime64[D]

    Raises:
        DataError: A date is impossible, repeated, missing or out of order.
    """
    date = np.stack([year, month, day])
    fits = (date == np.trunc(date)).all(axis=0) & (np.abs(year - 2000) < 500)
    fits &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    y, m, d = np.where(fits, date, 1).astype(np.int64)
    months = (12 * (y - 1970) + m - 1).astype("datetime64[M]")
    days: np.ndarray = months.astype("datetime64[D]") + (d - 1)
    fits &= days.astype("datetime64[M]") == months
    if not fits.all():
        at = int(np.flatnonzero(~fits)[0])
        raise DataError(
            f"{path}: line {at + first_line}: {year[at]:g}-{month[at]:g}-{day[at]:g} is no date; "
            "correct the line"
        )
    check_consecutive(path, days, first_line=first_line)
    return days


def check_consecutive(
    path: Path, days: np.ndarray, *, first_line: int, gaps_allowed: bool = False
) -> None:
    """Refuse days that are out of order, repeated, or (unless allowed) not all there."""
    steps = np.diff(days).astype(np.int64)
    wrong = steps < 1 if gaps_allowed else steps != 1
    if not wrong.any():
        return
    at = int(np.flatnonzero(wrong)[0])
    before, after, step = days[at], days[at + 1], int(steps[at])
    if step == 0:
        what = f"gives {after} again; remove one of the two lines"
    elif step < 0 or before + 1 in days:
        what = f"has {after} after {before}; sort the lines by date"
    else:
        missing = f"{step - 1} days are" if step > 2 else "1 day is"
        what = f"has {after} after {before}, {missing} missing; fetch the file again"
    raise DataError(f"{path}: line {at + 1 + first_line} {what}")


def on_days(days: np.ndarray, own: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A series on other days than its own; NaN where it has none.

    Args:
        days: (day,) datetime64[D] wanted, without gaps.
        own: (own day,) those of the series, in order.
        values: (own day,)

    Returns:
        (day,) float32
    """
    result = np.full(len(days), np.nan, np.float32)
    inside = (own >= days[0]) & (own <= days[-1])
    result[(own[inside] - days[0]).astype(np.int64)] = values[inside]
    return result


def read_dated(
    path: Path, column: str | None, choices: Sequence[str], what: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """One column of a CSV that has a column `date`; its days may have gaps, and its fields.

    Args:
        path: The file.
        column: Name of the column; the first of `choices` that the file has if None.
        choices: Names that the column may have.
        what: What the file should be; named in errors.

    Returns:
        (day,) datetime64[D]; (day,) float64, NaN where the field is empty; the column's name.

    Raises:
        DataError: The file is not such a table.
    """
    lines = read_lines(path, what)
    header = [name.strip() for name in lines[0].split(",")]
    found = next((n for n in ([column] if column else choices) if n in header), None)
    if found is None or "date" not in header:
        wanted = "date" if "date" not in header else column or f"one of {', '.join(choices)}"
        raise DataError(
            f"{path}: line 1 lacks the column {wanted}; it has {', '.join(header)}; "
            f"{what} needs the columns `date` and `{column or choices[0]}`"
        )
    for number, line in enumerate(lines[1:], start=2):
        if line.count(",") != len(header) - 1:
            raise DataError(
                f"{path}: line {number} has {line.count(',') + 1} fields, line 1 has "
                f"{len(header)}; correct the line, or fetch the file again"
            )
    if len(lines) == 1:
        raise DataError(f"{path}: holds no day; the file was cut off, fetch it again")
    columns = header.index("date"), header.index(found)
    dates, texts = ([line.split(",")[at].strip() for line in lines[1:]] for at in columns)
    return _dates(path, dates), _floats(path, texts, found), found


def _dates(path: Path, texts: Sequence[str]) -> np.ndarray:
    """Days written 1999-10-01; in order, each once."""
    try:
        days = np.array(texts, "datetime64[D]")
    except ValueError:
        days = np.array([np.datetime64("NaT", "D")])
    if np.isnat(days).any() or any(len(t) != 10 for t in texts):
        number, text = next((i, t) for i, t in enumerate(texts, start=2) if not _is_date(t))
        raise DataError(f"{path}: line {number}: {text!r} is no date; dates are written 1999-10-01")
    check_consecutive(path, days, first_line=2, gaps_allowed=True)
    return days


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and not np.isnat(np.datetime64(text, "D"))
    except ValueError:
        return False


def _floats(path: Path, texts: Sequence[str], name: str) -> np.ndarray:
    """Numbers; NaN where there is none."""
    try:
        values = np.array([np.nan if text in GAPS else float(text) for text in texts])
    except ValueError:
        values = np.array([float(text) if _is_number(text) else np.nan for text in texts])
    wrong = ~np.isfinite(values) & [text not in GAPS for text in texts]
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: line {at + 2}: `{name}` is {texts[at]!r}, not a number; correct the "
            "line, or leave the field empty where there is no value"
        )
    return values


def read_ids(path: Path) -> list[str]:
    """Gauge ids of a file that has one a line; empty lines and what follows a `#` are left out.

    Raises:
        DataError: The file cannot be read, a line is not an id, an id is repeated, or there is
            none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as a list of basins ({error}); give a text file with one "
            "gauge id a line"
        ) from None
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        gauge_id = line.partition("#")[0].strip()
        if not gauge_id:
            continue
        if not GAUGE_ID.fullmatch(gauge_id):
            short = gauge_id.isdecimal() and len(gauge_id) < 8
            cure = f"; did a leading zero get lost ({gauge_id:0>8})?" if short else ""
            raise DataError(
                f"{path}: line {number}: {gauge_id[:40]!r} is no gauge id; each line has one, of "
                f"eight digits{cure}"
            )
        if gauge_id in ids:
            raise DataError(
                f"{path}: line {number}: basin {gauge_id} was given in line {ids[gauge_id]} "
                "already; list each basin once"
            )
        ids[gauge_id] = number
    if not ids:
        raise DataError(f"{path}: the list of basins is empty; give one gauge id a line")
    return list(ids)
