"""What a person, or a script, sees of a study in a terminal: status, report, completion."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from inline import InlineStudy
from rich.console import Console
from small import small_spec

from study.cli import main
from study.experiment.engine import open_ledger
from study.experiment.progress import is_finished
from study.experiment.storage import LocalStorage
from study.report import console as view
from study.report.console import keep_showing

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CHANGES = {
    "factors": {"model": ["lstm", "ealstm"], "snow": ["off", "observed"]},
    "confirmation": {"candidates": 1, "candidate_seeds": 1, "seeds": 5},
    "training__epochs": 1,
    "search__cohort_size": 2,
}


@pytest.fixture(scope="module")
def results(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study, `small`."""
    folder = tmp_path_factory.mktemp("results")
    InlineStudy(store=synthetic_store, storage=LocalStorage(folder / "small")).finish(**CHANGES)
    return folder


@pytest.fixture
def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """A command's exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["study", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


Told = Callable[..., tuple[int, str, str]]


def test_status_tells_every_arm_and_that_it_is_finished(results: Path, told: Told) -> None:
    code, out, _ = told("status", "small", "--results", results)
    assert code == 0
    assert "small: finished" in out
    for arm in ("lstm", "lstm-snow", "ealstm", "ealstm-snow"):
        assert re.search(rf"│ {arm} +│ +2/2 │", out), out


def test_watching_a_finished_study_ends_at_once(results: Path, told: Told) -> None:
    started = time.monotonic()
    code, out, _ = told("status", "small", "--results", results, "--watch")
    assert code == 0
    assert out.count("small: finished") == 1
    assert time.monotonic() - started < view.SECONDS_BETWEEN_LOOKS


def test_watching_follows_a_study_until_it_is_finished(
    synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "SECONDS_BETWEEN_LOOKS", 0.02)
    study = InlineStudy(store=synthetic_store, storage=LocalStorage(tmp_path))
    first = threading.Event()
    states: list[int] = []

    def read() -> object:
        book = open_ledger(study.storage)
        states.append(book.closed.total())
        first.set()
        return book

    study.train(**CHANGES)  # all but the last act
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    watcher = threading.Thread(target=keep_showing, args=(read, console), daemon=True)
    watcher.start()
    assert first.wait(20)
    assert watcher.is_alive(), "it must go on while replicates are not scored"
    assert is_finished(study.finish(**CHANGES))
    watcher.join(20)
    assert not watcher.is_alive()
    shown = ANSI.sub("", screen.getvalue())
    assert "small: trained" in shown
    assert shown.rstrip().endswith("jobs closed")
    assert shown.rfind("small: finished") > shown.rfind("small: trained")


def test_in_a_file_a_table_comes_when_something_has_changed(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "SECONDS_BETWEEN_LOOKS", 0.0)
    answers = iter([open_ledger(LocalStorage(results / "small"))])
    page = io.StringIO()
    keep_showing(lambda: next(answers), Console(file=page, force_terminal=False, width=120))
    assert page.getvalue().count("small: finished") == 1
    assert "\x1b" not in page.getvalue()


def test_a_report_can_be_asked_for_some_contrasts(results: Path, told: Told) -> None:
    _, whole, _ = told("report", "small", "--results", results, "--json")
    code, out, _ = told("report", "small", "--results", results, "--json", "--contrast", "SNOW")
    assert code == 0
    every, some = json.loads(whole), json.loads(out)
    names = [contrast["name"] for contrast in some["contrasts"]]
    assert names == ["snow: observed - off (lstm)", "snow: observed - off (ealstm)"]
    assert len(every["contrasts"]) == 4
    kept = [c for c in every["contrasts"] if c["name"] in names]
    assert some["contrasts"] == kept, "nothing is computed anew"
    _, out, _ = told("report", "small", "--results", results, "--contrast", "(ealstm)")
    assert "│ ealstm-snow │" in out
    assert "│ lstm-snow" not in out
    assert "snow: observed - off (ealstm)" in out


def test_a_contrast_that_is_none_is_refused_with_those_there_are(results: Path, told: Told) -> None:
    code, _, err = told("report", "small", "--results", results, "--contrast", "shyft")
    assert code == 2
    said = " ".join(err.split())
    assert "--contrast shyft: study small has no contrast of this name; it has " in said
    assert "snow: observed - off (lstm)" in said


def test_an_unknown_study_is_told_with_those_there_are(results: Path, told: Told) -> None:
    code, _, err = told("status", "smal", "--results", results)
    assert code == 2
    assert f"holds no study; start one with `study run SPEC`; {results} holds small" in " ".join(
        err.split()
    )


def test_watch_and_json_exclude_each_other(results: Path, told: Told) -> None:
    code, _, err = told("status", "small", "--results", results, "--watch", "--json")
    assert code == 2
    assert "give it or --json, not both" in " ".join(err.split())


def completed(typed: str, folder: Path) -> list[str]:
    """What a bash completes a command line to."""
    words = typed.split(" ")
    ended = subprocess.run(
        [sys.executable, "-c", "from study.cli import app; app(prog_name='study')"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ
        | {"_STUDY_COMPLETE": "complete_bash", "COMP_WORDS": typed}
        | {"COMP_CWORD": str(len(words) - 1)},
    )
    return ended.stdout.split()


def test_the_shell_completes_commands_and_studies(results: Path, tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(results)
    (tmp_path / "snow.yaml").write_text("")
    assert completed("study stat", tmp_path) == ["status"]
    assert completed("study status s", tmp_path) == ["small", "snow.yaml"]
    assert completed("study report sm", tmp_path) == ["small"]
    assert completed(f"study export --results {results} sm", tmp_path) == ["small"]


def test_a_log_holds_no_live_bar_though_colour_is_forced(tmp_path: Path) -> None:
    """Jupyter's kernels set FORCE_COLOR for every command they start."""
    ended = subprocess.run(
        [sys.executable, "-m", "study", "status", "absent"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"FORCE_COLOR": "1"},
    )
    assert ended.returncode == 2
    assert "\x1b" not in ended.stdout + ended.stderr


def test_json_is_there_for_every_command_that_reads(
    results: Path, synthetic_store: Path, tmp_path: Path, told: Told
) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(yaml.safe_dump(small_spec().model_dump(mode="json", exclude={"evidence"})))
    for arguments in (
        ("data", "info", synthetic_store),
        ("check", spec),
        ("status", "small", "--results", results),
        ("report", "small", "--results", results, "--out", tmp_path / "report"),
    ):
        code, out, err = told(*arguments, "--json")
        assert code == 0, err
        assert isinstance(json.loads(out), dict)
