"""The runner of the checks: order, side by side, the first failure ends it, one line a stage."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / ".ci"))

from checks import PHASES
from stages import Phase, Run, Stage, run

MAKEFILE = Path(__file__).parents[1] / "Makefile"


def test_stages_of_a_lane_run_in_order_and_lanes_side_by_side(tmp_path: Path) -> None:
    said: list[str] = []
    work = Run(tmp_path / "logs", said.append)
    here, other = tmp_path / "here", tmp_path / "other"
    wait = "timeout 10 sh -c 'until [ -e {} ]; do sleep 0.05; done'"
    lanes: Phase = [  # each lane waits for the other: one after the other they would not end
        [Stage("one", f"touch {here}"), Stage("two", wait.format(other))],
        [Stage("three", f"{wait.format(here)} && touch {other}")],
    ]
    assert work.phase(lanes, side_by_side=True)
    assert [e.stage.name for e in work.ended].index("one") == 0
    assert len(said) == 3 and all(re.fullmatch(r"\w+ +\d+ s  ok", line) for line in said)
    assert work.table().splitlines()[-1].startswith("in all")


@pytest.mark.parametrize("side_by_side", [True, False])
def test_the_first_failure_ends_it(tmp_path: Path, side_by_side: bool) -> None:
    """What is in work is stopped with all that it has started; nothing else begins."""
    said: list[str] = []
    work = Run(tmp_path / "logs", said.append)
    child, began = tmp_path / "child", tmp_path / "began"
    long = Stage("long", f"(sleep 2; touch {child}) & touch {began}; sleep 60; exit 1")
    until = f"for _ in $(seq 100); do [ -e {began} ] && break; sleep 0.05; done"
    bad = Stage("bad", f"{until if side_by_side else ':'}; echo 'what is wrong'; exit 7")
    started = time.monotonic()
    lanes: Phase = [[bad, Stage("after", f"touch {tmp_path}/after")], [long]]
    assert not work.phase(lanes, side_by_side=side_by_side)
    assert time.monotonic() - started < 15
    outcomes = {e.stage.name: e.outcome for e in work.ended}
    assert outcomes == {"bad": "FAILED"} | ({"long": "stopped"} if side_by_side else {})
    assert any("what is wrong" in text and "ended with 7" in text for text in said)
    assert not (tmp_path / "after").exists()
    time.sleep(2.5 if side_by_side else 0)
    assert not child.exists()


def test_a_later_phase_does_not_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phases: dict[str, Phase] = {
        "one": [[Stage("bad", "exit 1")]],
        "two": [[Stage("never", f"touch {tmp_path}/never")]],
    }
    assert run(phases, tmp_path / "logs") == 1
    assert run(phases, tmp_path / "logs", ["two"]) == 0 and (tmp_path / "never").exists()
    assert "bad" in capsys.readouterr().out


def test_what_pytest_counted_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    closing = "===== 12 passed, 1 skipped in 3.21s (0:00:03) ====="
    assert Run(tmp_path, said.append).phase(
        [[Stage("tests", f"echo '{closing}'")]], side_by_side=False
    )
    assert said[0].endswith("12 passed, 1 skipped")


def test_every_stage_is_a_target_that_the_makefile_has() -> None:
    stages = [stage for phase in PHASES.values() for lane in phase for stage in lane]
    assert len({stage.name for stage in stages}) == len(stages)
    targets = set(re.findall(r"^([\w./-]+):", MAKEFILE.read_text(), re.MULTILINE))
    for stage in stages:
        for target in re.findall(r"^make ([\w./-]+)$", stage.command):
            assert target in targets, stage.name
