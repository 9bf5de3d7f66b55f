"""What MLflow shows of the arms and replicates of a finished study."""

from __future__ import annotations

from collections.abc import Iterator

from study.experiment.progress import winner_of
from study.experiment.tracking.gallery import Hydrograph
from study.report.compare import Answer
from study.report.drawings import run_hydrographs
from study.report.painters import Each
from study.report.sketches import drawn_run


def hydrographs(answer: Answer, each: Each = map) -> Iterator[Hydrograph]:
    """A hydrograph of every arm and of every replicate, as they are drawn.

    Args:
        answer: Of a study.
        each: Draws them; see `Painters`.
    """
    sketches = run_hydrographs(answer.evidence, winner_of(answer.book))
    figures = each(drawn_run, sketches)
    return (Hydrograph(run.arm, run.seed, png) for run, png in zip(sketches, figures, strict=True))
