"""Which tests there are, and whether one has gone that version 0.1.0 had.

    python -m tests.collected            # what has gone without a named replacement
    python -m tests.collected --list     # every test function: stage of the checks, cases, id
    python -m tests.collected --seconds junit.xml ...  # what files take, by `pytest --junitxml`

`0.1.0.txt` is what `--list` said of version 0.1.0. A test may leave the checks, move, or have fewer
cases only if `replaced.txt` says by which other one it is replaced, and why.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

FOLDER = Path(__file__).parent
STAGES = ("testbed", "browser", "slow")
"""Marks of tests that the checks run in stages of their own."""
NEVER = ("benchmark", "calibration", "chaos")
"""Marks of tests that only somebody who asks for them runs."""
OPTIONS = ["--collect-only", "-q", "-q", "-p", "no:cacheprovider"]

LEAST_SECONDS = 3
"""Files that take less may begin at any time."""

Tests = Counter[tuple[str, str]]
"""(id of a test function, stage) -> number of cases"""


class Collector:
    """A plugin of pytest that notes what is collected."""

    def __init__(self) -> None:
        self.tests: Tests = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            marks = {mark.name for mark in item.iter_markers()}
            stage = next((m for m in (*NEVER, *STAGES) if m in marks), "test")
            self.tests[item.nodeid.partition("[")[0], stage] += 1


def collected() -> Tests:
    """The tests of this checkout."""
    collector = Collector()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(OPTIONS, plugins=[collector])
    if code:
        raise SystemExit(f"{said.getvalue()}\nthe tests cannot be collected")
    return collector.tests


def read(path: Path) -> Tests:
    lines = (line.split(maxsplit=2) for line in path.read_text().splitlines())
    return Counter({(name, stage): int(cases) for stage, cases, name in lines})


def replaced(path: Path) -> set[str]:
    """Ids of tests that have a replacement, of lines `old -> new: why`."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return {line.split(" -> ")[0] for line in lines}


def in_checks(tests: Tests) -> Counter[str]:
    """Test functions that the checks run -> number of their cases."""
    found: Counter[str] = Counter()
    for (name, stage), cases in tests.items():
        if stage not in NEVER:
            found[name] += cases
    return found


def gone(before: Tests, now: Tests, excused: set[str]) -> list[str]:
    """What the checks, or their longer forms, no longer do, in words."""
    said = []
    for name, cases in in_checks(before).items():
        if name not in excused and in_checks(now)[name] < cases:
            said.append(f"{name}: {in_checks(now)[name]} of {cases} cases are in the checks")
    of_all = [Counter[str](), Counter[str]()]
    for counter, tests in zip(of_all, (before, now), strict=True):
        for (name, _), cases in tests.items():
            counter[name] += cases
    said += [
        f"{name}: has gone" for name in of_all[0] if name not in of_all[1] and name not in excused
    ]
    return said


def seconds(reports: Sequence[str]) -> Counter[str]:
    """File of tests -> what its tests and their fixtures took, by reports of pytest's."""
    found: Counter[str] = Counter()
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            parts = case.attrib["classname"].split(".")
            found["/".join(parts) + ".py"] += float(case.attrib["time"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.collected", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print every test function")
    parser.add_argument("--seconds", nargs="+", metavar="FILE", help="print what files take")
    given = parser.parse_args()
    if given.seconds:
        for name, taken in seconds(given.seconds).most_common():
            if taken >= LEAST_SECONDS:
                print(f"{taken:5.0f} {name}")
        return 0
    now = collected()
    if given.list:
        for (name, stage), cases in sorted(now.items()):
            print(f"{stage:11} {cases:4} {name}")
        return 0
    before, excused = read(FOLDER / "0.1.0.txt"), replaced(FOLDER / "replaced.txt")
    missing = gone(before, now, excused)
    print("\n".join(missing))
    then, today = in_checks(before).total(), in_checks(now).total()
    print(f"{then} cases in the checks of 0.1.0, {today} now; {len(missing)} without a replacement")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
