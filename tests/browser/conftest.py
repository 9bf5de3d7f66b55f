"""A headless Chromium that talks to nobody, and a folder for its screenshots."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from inline import InlineStudy
from playwright.sync_api import Browser, sync_playwright

from study.experiment.book import Book
from study.experiment.storage import LocalStorage
from study.report.compare import write_report

SCREENSHOTS = Path(__file__).resolve().parents[2] / "browser"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None or not Path(path).exists():
        pytest.fail(
            "no Chromium: `apt-get install chromium`, or `make browser CHROMIUM=/path/to/it`"
        )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished study."""

    book: Book
    storage: LocalStorage
    report: Path
    """Folder of its report."""


@pytest.fixture(scope="session")
def finished(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A small study of two factors, in two parts of the basins."""
    folder = tmp_path_factory.mktemp("in_a_browser")
    storage = LocalStorage(folder / "study")
    book = InlineStudy(store=synthetic_store, storage=storage).finish(
        question="Does snow help <both> kinds of model?",
        factors={"model": ["lstm", "ealstm"], "snow": ["off", "observed"]},
        confirmation={"candidates": 2, "candidate_seeds": 1, "seeds": 5},
        evidence={"repetitions": 200, "split": {"at": 0.3}},
    )
    write_report(book, storage, folder / "report")
    return Finished(book=book, storage=storage, report=folder / "report")


@pytest.fixture(scope="session")
def screenshots() -> Path:
    SCREENSHOTS.mkdir(exist_ok=True)
    return SCREENSHOTS
