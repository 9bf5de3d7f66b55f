"""The end of `study run`: what comes first, what is left when a part fails or a signal comes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from inline import QUICK, InlineStudy
from mlflow import MlflowClient
from small import small_spec

from study.cli import main
from study.cli.answering import Ending
from study.experiment.book import Book
from study.experiment.engine import open_ledger
from study.experiment.eventlog import EventLog
from study.experiment.ledger import Ledger
from study.experiment.storage import LocalStorage, replacing
from study.export import build, winner
from study.export.bundle import read_bundle
from study.report import compare
from study.report.painters import Painters

SMALL: dict[str, Any] = {"factors": {"model": ["lstm"], "snow": ["off", "observed"]}}
AWAY = "http://127.0.0.1:9"
"""Where no MLflow server listens."""
PROGRAM = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from test_ending import end
from study.errors import Interrupted
from study.experiment.interruption import interruptible
from study.export import build
from study.report import compare

def wait(*arguments):
    print("now", flush=True)
    time.sleep(60)

home, moment = Path(sys.argv[1]), sys.argv[2]
setattr(*{"report": (compare, "write_tables"), "bundle": (build, "example_forcing")}[moment], wait)
try:
    with interruptible():
        end(home)
except Interrupted as ended:
    os._exit(ended.exit_code)
"""


@pytest.fixture(scope="module")
def scored(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a small study whose replicates are scored, and whose end never came."""
    home = tmp_path_factory.mktemp("results") / "small"
    InlineStudy(store=synthetic_store, storage=LocalStorage(home)).finish(**SMALL)
    return home


@pytest.fixture
def home(scored: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(scored, tmp_path / "small"))


def book_of(home: Path) -> Book:
    ledger = open_ledger(LocalStorage(home))
    return Book(ledger.spec, tuple(ledger.arms.values()), EventLog(LocalStorage(home)))


def end(home: Path, uri: str | None = None) -> Book:
    book, uri = book_of(home), uri or f"sqlite:///{home.parent}/mlflow.db"
    with Painters(2) as painters:
        ending = Ending(LocalStorage(home), home=str(home), uri=uri, painters=painters)
        ending(book)
    return book


def before(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, look: Callable[[], None]
) -> None:
    """Let a test look around before a function does its work."""
    original = getattr(owner, name)

    def looking(*arguments: Any, **keywords: Any) -> Any:
        look()
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, looking)


def bundles(home: Path) -> list[Path]:
    """Bundles, and what may be left of any."""
    return list((home / "export").glob("*"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_answer_then_report_then_bundle_then_tracking(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen = []

    def at_the_report() -> None:
        assert not (home / "report").exists()
        seen.append(capsys.readouterr().out)

    def at_the_bundle() -> None:
        assert (home / "report" / "report.html").is_file() and not bundles(home)
        seen.append(capsys.readouterr().out)

    before(monkeypatch, compare, "write_answer", at_the_report)
    before(monkeypatch, winner, "build_bundle", at_the_bundle)
    book = end(home)
    answer, report = seen
    assert "small: arms, test period" in answer and "winner, chosen on validation" in answer
    assert report == f"report    {home}/report\n"
    rest = capsys.readouterr()
    named = ("bundle    ", "MLflow    ", "model     ")
    assert [n for line in rest.out.splitlines() for n in named if n in line] == list(named)
    assert rest.err == "MLflow: begun\n"

    monkeypatch.undo()
    here = tmp_path / "here"
    compare.write_report(book, LocalStorage(home), here)
    assert files(home / "report") == files(here), "who draws changes no byte"

    events = EventLog(LocalStorage(home)).events
    assert events[-1]["event"] == "shown"
    assert list(events[-1]["seconds"]) == ["answer", "report", "bundle", "MLflow"]
    parts = [vars(Ledger(book.spec, tuple(book.arms.values()), e)) for e in (events, events[:-1])]
    assert parts[0] == parts[1], "it replays as nothing"


def test_a_bundle_that_cannot_be_built_is_a_warning(
    home: Path,
    synthetic_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the command itself, which ends as if all were well."""

    def fail(*arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("the tracer gave up")

    monkeypatch.setattr(build, "build_programs", fail)
    spec = home.parent / "small.yaml"
    content = small_spec(**QUICK | SMALL).model_dump(mode="json", exclude_none=True)
    spec.write_text(yaml.safe_dump(content))
    arguments = ["run", spec, "--data", synthetic_store, "--results", home.parent]
    monkeypatch.setattr(sys, "argv", ["study", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr()
    assert " ".join(said.err.split()).count("warning: the bundle of ") == 1
    assert "could not be built: the tracer gave up; the same `study run` tries again" in " ".join(
        said.err.split()
    )
    assert "Traceback" not in said.err
    assert (home / "report" / "report.html").is_file() and not bundles(home)
    last = EventLog(LocalStorage(home)).events[-1]
    assert last["event"] == "launch", "a study that was scored before adds nothing else"
    client = MlflowClient(tracking_uri=f"sqlite:///{home.parent}/mlflow.db")
    assert not client.search_registered_models() and "\nmodel " not in said.out


def test_a_server_that_is_away_takes_nothing_along(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    end(home, AWAY)
    assert (home / "report" / "report.html").is_file()
    (bundle,) = bundles(home)
    assert read_bundle(bundle).manifest.study == "small"
    said = " ".join(capsys.readouterr().err.split())
    assert said.count(f"warning: {AWAY}: the report could not be logged to MLflow") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "left"), [("report", set()), ("bundle", {"report"})])
def test_a_signal_leaves_nothing_half_written_and_nobody_behind(
    home: Path, moment: str, left: set[str]
) -> None:
    command = [sys.executable, "-c", PROGRAM, home, moment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != b"now\n":
            assert process.poll() is None, "it never came so far"
        helpers = children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert len(helpers) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in helpers)
    made = {path.name for path in home.iterdir()} - {"events", "predictions", "trials"}
    assert made - {"export"} == left
    assert not bundles(home)


def children(pid: int) -> list[str]:
    listed = subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(pid)], text=True)
    return listed.split()


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "report"
    with replacing(out) as aside:
        aside.mkdir()
        (aside / "page").write_text("old")
    for broken in (KeyboardInterrupt, None):
        with pytest.raises((KeyboardInterrupt, FileNotFoundError)), replacing(out) as aside:
            if broken:
                aside.mkdir()
                raise broken
            # the second way: there is nothing to put in its place, as it is out of the way
    assert files(tmp_path) == {"report/page": b"old"}
    with replacing(out) as aside:
        aside.mkdir()
        (aside / "page").write_text("new")
    assert files(tmp_path) == {"report/page": b"new"}


def test_the_answer_waits_for_no_matplotlib() -> None:
    code = (
        "import sys, study.report.compare, study.cli.answering\n"
        "print(sorted(set(sys.modules) & {'matplotlib', 'mlflow', 'onnx', 'jinja2'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
