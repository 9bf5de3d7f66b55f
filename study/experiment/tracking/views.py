"""Views of a study that the MLflow UI opens by a link: which runs, in which order, which charts.

The UI keeps a saved view as a tag of the experiment, lists it in its menu "Views", and opens it by
the tag's name: `/#/experiments/ID/runs?viewStateShareKey=arms`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from study.experiment.arms import Arm, compared
from study.spec import StudySpec

TAG = "mlflow.sharedViewState."
NAMES = {
    "arms": "Arms, the best first",
    "factors": "What the factors do",
    "search": "Trials of the search",
}
"""Key of a view -> its name in the UI's menu."""

CHOSEN = "val/nse_median"
"""What the search and the choice of the winner go by."""


def views(spec: StudySpec, arms: Sequence[Arm], study_run: str, at: int) -> dict[str, str]:
    """Tag of the experiment -> the view that it holds.

    Args:
        spec: The study.
        arms: Its arms.
        study_run: Id of the study's own run, under which the arms' runs are shown.
        at: When the study was begun, in milliseconds.
    """
    judged = f"{'val' if spec.data.periods.test is None else 'test'}/nse_median"
    scores = list(dict.fromkeys([judged, CHOSEN, judged.replace("nse", "kge")]))
    varied = [factor for factor, levels in spec.factors.items() if len(levels) > 1]
    states = {
        "arms": _runs("replicate", judged, [*scores, judged.replace("median", "mean")], [])
        | _charts(_curves(CHOSEN), _bars(judged))
        | {
            "groupBy": {"aggregateFunction": "average",
                        "groupByKeys": [{"mode": "tag", "groupByData": "study.arm"}]},
            "groupsExpanded": {f"tag.study.arm.{arm.name}": False for arm in compared(arms)},
        },
        "factors": _runs("arm", judged, scores, varied)
        | _charts(_parallel(varied, [judged]), _bars(judged))
        | {"runsExpanded": {study_run: True}},
        "search": _runs("search", CHOSEN, [CHOSEN], [*varied, *spec.search.space])
        | _charts(_parallel(list(spec.search.space), [CHOSEN]), _curves(CHOSEN)),
    }  # fmt: skip
    return {
        TAG + key: json.dumps({"name": NAMES[key], "createdAt": at, "state": json.dumps(state)})
        for key, state in states.items()
    }


def link(base: str, experiment: str, view: str) -> str:
    """Address of a view, with its charts, in the UI for training."""
    chosen = f"workflowType=machine_learning&viewStateShareKey={view}&compareRunsMode=CHART"
    return f"{base}/#/experiments/{experiment}/runs?{chosen}"


def _runs(stage: str, order: str, metrics: Sequence[str], params: Sequence[str]) -> dict[str, Any]:
    """The runs of a stage, the best first, and the columns of their table."""
    columns = [*(f"metrics.`{m}`" for m in metrics), *(f"params.`{p}`" for p in params)]
    return {
        "searchFilter": f"tags.`study.stage` = '{stage}'",
        "orderByKey": f"metrics.`{order}`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
    }


def _charts(*charts: Mapping[str, Any]) -> dict[str, Any]:
    """Charts in a section of their own, above those that the UI makes of every metric."""
    section = {"uuid": "study", "name": "study", "display": True, "isReordered": True}
    placed = [
        {"uuid": f"study-{number}", "metricSectionId": "study", "deleted": False,
         "isGenerated": False, "runsCountToCompare": 100, **chart}
        for number, chart in enumerate(charts)
    ]  # fmt: skip
    return {
        "compareRunSections": [section],
        "compareRunCharts": placed,
        "isAccordionReordered": True,
    }


def _parallel(params: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    return {"type": "PARALLEL", "selectedParams": list(params), "selectedMetrics": list(metrics),
            "showAllRuns": False}  # fmt: skip


def _bars(metric: str) -> dict[str, Any]:
    return {"type": "BAR", "metricKey": metric, "displayName": metric}


def _curves(metric: str) -> dict[str, Any]:
    """A metric over the epochs, a line for every run."""
    return {"type": "LINE", "metricKey": metric, "selectedMetricKeys": [metric],
            "displayName": f"{metric} over epochs", "xAxisKey": "step", "scaleType": "linear",
            "useGlobalLineSmoothing": True, "useGlobalXaxisKey": True}  # fmt: skip
