"""The end of `study run`: the answer at once, then the report, the winner's bundle and MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from study.cli.common import console, errors

if TYPE_CHECKING:
    from study.experiment.book import Book
    from study.experiment.storage import Storage
    from study.experiment.tracking.gallery import Hydrograph
    from study.report.compare import Answer
    from study.report.console import Steps
    from study.report.painters import Painters

T = TypeVar("T")


class Ending:
    """What is done with a study whose last replicate is scored, the most important first: what
    fails takes nothing along that came before it."""

    def __init__(self, storage: Storage, *, home: str, uri: str, painters: Painters):
        """
        Args:
            storage: The study's results.
            home: Their address, as the user gave it.
            uri: Of the tracking server or database.
            painters: Who draws.
        """
        self.storage, self.home, self.uri, self.painters = storage, home, uri, painters

    def __call__(self, book: Book) -> None:
        """Print the answer, write the report, build the bundle and show it all in MLflow. The log
        is told how many seconds each took, the answer since the last score."""
        from study.experiment.progress import winner_of
        from study.experiment.storage import working_folder
        from study.report.compare import answer_of
        from study.report.console import Steps, show_report

        last, steps = book.log.events[-1], Steps(errors)
        answer = answer_of(book, self.storage)
        show_report(answer.report, console)
        steps.seconds["answer"] = round(time.time() - last["time"], 2)
        with working_folder(self.storage, "report") as folder:
            self._report(answer, folder, steps)
            from study.report.exhibits import hydrographs  # loads MLflow

            shown = hydrographs(answer, self.painters.each)  # drawn while the bundle is built
            bundle = self._bundle(answer, winner_of(book), steps)
            parts = sum(1 + len(book.replicates(arm)) for arm in answer.evidence.arms)
            with steps.step("MLflow", parts) as done:
                self._show(book, folder, _counted(shown, done), bundle)
        if last["event"] == "evaluated":  # not when a finished study is shown again
            book.log.append(event="shown", seconds=steps.seconds)
            book.log.flush()

    def _report(self, answer: Answer, folder: Path, steps: Steps) -> None:
        from study.experiment.storage import put_folder
        from study.report.compare import REPORT, write_answer

        with steps.step("report"):
            write_answer(answer, folder, self.painters.each)
            put_folder(self.storage, "report", folder, last=REPORT)
        console.print(f"report    {self.home}/report")

    def _bundle(self, answer: Answer, winner: str, steps: Steps) -> str | None:
        """The bundle's name among the results; None, and a warning, if it cannot be built."""
        from study.experiment.storage import put_folder, replacing, working_folder
        from study.export.manifest import MANIFEST
        from study.export.winner import export_arm

        name, known = f"export/{winner}", answer.evidence
        try:
            with steps.step("bundle"), working_folder(self.storage, name) as folder:
                with replacing(folder) as aside:  # that of the study before it grew
                    export_arm(answer.book, self.storage, winner, aside, evidence=known)
                put_folder(self.storage, name, folder, last=MANIFEST)
        except Exception as error:  # whatever a tracer may do, the answer stays
            _warn(f"the bundle of {winner} could not be built: {error or type(error).__name__}")
            return None
        console.print(f"bundle    {self.home}/{name}")
        return name

    def _show(
        self, book: Book, report: Path, hydrographs: Iterable[Hydrograph], bundle: str | None
    ) -> None:
        """Put all of it into MLflow, the model into its registry."""
        from study.experiment.tracking.gallery import log_exhibits
        from study.export.registering import register_arm

        try:
            log_exhibits(book, self.uri, report, hydrographs)
            if bundle is not None:
                winner = bundle.rpartition("/")[2]
                version = register_arm(
                    book, self.storage, winner, self.uri, f"{self.home}/{bundle}"
                )
        except Exception as error:  # whatever a server may do, the rest stays
            _warn(str(error) or type(error).__name__)
            return
        console.print(f"MLflow    study ui --tracking-uri {self.uri}")
        if bundle is not None:
            console.print(f"model     models:/{version.name}/{version.number}")


def _warn(reason: str) -> None:
    errors.print(
        f"warning: {reason}; the same `study run` tries again", markup=False, soft_wrap=True
    )


def _counted(items: Iterable[T], done: Callable[[], None]) -> Iterator[T]:
    for item in items:
        yield item
        done()
