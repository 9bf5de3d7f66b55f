"""The tracker: a thread that lets MLflow follow a study, so that training never waits for it.

What it does there is `tracker`'s, which loads MLflow; this does not.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from types import TracebackType

from study.experiment.book import Book
from study.experiment.cache import cache_folder
from study.experiment.interruption import RECORDS_SECONDS, Interruption
from study.experiment.storage import is_s3

SQLITE = "sqlite:///"
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_BETWEEN_ROUNDS = 0.5
PATIENCE_SECONDS = 60
"""How long the end of a study waits for a server that does not answer."""

logger = logging.getLogger(__name__)


def default_uri(results: Path | str) -> str:
    """The database of a results folder, when no server is named.

    A bucket can hold no database: that of results in one is a file of this host, which the log
    fills again wherever it is not.
    """
    folder = Path(results).resolve()
    if is_s3(results):
        folder = cache_folder("tracking") / str(results).partition("://")[2].strip("/")
        folder.mkdir(parents=True, exist_ok=True)
    return f"{SQLITE}{folder}/mlflow.db"


class Tracker:
    """Follows a book's log while it is entered (`with`)."""

    def __init__(self, book: Book, uri: str, interruption: Interruption | None = None):
        self._book, self._uri = book, uri
        self._interruption = interruption or Interruption()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)

    def __enter__(self) -> Tracker:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join(self._interruption.seconds_left(RECORDS_SECONDS))
        if self._thread.is_alive():
            logger.warning("MLflow lacks the last records; the same `study run` adds them")

    def _follow(self) -> None:
        self._wait_for_work()
        from study.experiment.tracking.tracker import Projection  # loads MLflow

        projection = Projection(self._book, self._uri)
        deadline, told = None, ""
        while True:
            ending = self._ending.is_set()  # before the round: it then sees the last events
            if ending and deadline is None:
                deadline = time.monotonic() + PATIENCE_SECONDS
            try:
                projection.catch_up()
                if ending:
                    return
            except Exception as error:  # whatever a server may do, training goes on
                if str(error) != told:  # once, not twice a second
                    logger.warning("MLflow does not answer, records wait in the log: %s", error)
                    told = str(error)
                if deadline is not None and time.monotonic() > deadline:
                    logger.warning("the same `study run` later adds what MLflow lacks")
                    return
            self._ending.wait(SECONDS_BETWEEN_ROUNDS)
            if ending:
                time.sleep(SECONDS_BETWEEN_ROUNDS)

    def _wait_for_work(self) -> None:
        """Until a job is asked: the seconds in which MLflow loads are Ray's before."""
        while not self._book.jobs and not self._ending.wait(SECONDS_BETWEEN_LOOKS):
            pass
