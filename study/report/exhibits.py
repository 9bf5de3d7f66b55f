"""All that MLflow shows of a finished study, made and logged."""

from __future__ import annotations

import tempfile
from pathlib import Path

from study.experiment.book import Book
from study.experiment.progress import winner_of
from study.experiment.storage import Storage
from study.experiment.tracking.gallery import Exhibits, log_exhibits
from study.report import figures
from study.report.drawings import run_hydrographs
from study.report.evidence import gather

HYDROGRAPHS = "hydrographs.png"


def publish(book: Book, storage: Storage, uri: str, report: Path) -> None:
    """Put the report, and a hydrograph of every arm and replicate, into MLflow.

    Raises:
        StudyError: The study is not finished, or the server does not answer.
    """
    evidence = gather(book, storage)
    with tempfile.TemporaryDirectory() as temporary:
        hydrographs = {}
        for arm, seed, figure in run_hydrographs(evidence, winner_of(book)):
            place = Path(temporary, arm, str(seed))
            place.mkdir(parents=True)
            hydrographs[arm, seed] = place / HYDROGRAPHS
            figures.save_png(figure, place / HYDROGRAPHS)
        log_exhibits(book, uri, Exhibits(report=report, hydrographs=hydrographs))
