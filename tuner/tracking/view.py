"""How MLflow's web interface opens on a study: columns, order of runs, colours, links; no data.

The columns are in MLflow's *shared view*, a tag of the experiment. Its format is not documented; this is the one of
MLflow 3.17. A version that does not know it says so once and shows its default columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tuner.core.records import RunRecord
from tuner.core.values import Scalar

KEY = "tuner"
VIEW_TAG = f"mlflow.sharedViewState.{KEY}"
KIND_TAG = "mlflow.experimentKind"
KIND = "custom_model_development"
"""Answers MLflow's question whether the experiment is about training or about language models."""
PRIMARY_TAG = "mlflow.experiment.primaryMetric.name"
COLOR_TAG = "mlflow.runColor"
TRAINING = "workflowType=machine_learning"
"""In a page's address: without it, MLflow 3.17 opens its pages for language models."""

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F")


def color(arm: str, arms: Sequence[str]) -> str:
    """Return an arm's colour in all charts: one of Okabe and Ito's, which colour-blind readers can tell apart.

    >>> color("adamw", ["sgdm", "adamw"])
    '#D55E00'
    """
    return _COLORS[arms.index(arm) % len(_COLORS)] if arm in arms else _COLORS[-1]


def shared_view(runs: Iterable[RunRecord], direction: str) -> str:
    """Return MLflow's view state: the table of runs, best value first, with the settings that the study searched."""
    runs = list(runs)
    settings = dict.fromkeys(key for run in runs for key in run.spec.setting.hyperparameters)
    options: dict[str, set[Scalar]] = {}
    for run in runs:
        for key, value in run.spec.setting.training.items():
            options.setdefault(key, set()).add(value)
    settings |= {f"training.{key}": None for key, values in options.items() if len(values) > 1}
    columns = ["metrics.`value`", "metrics.`train_seconds`", "params.`schedule.kind`"]
    columns += [f"params.`{key}`" for key in settings]
    several = len({run.spec.horizon for run in runs}) > 1
    columns += ["params.`horizon`"] if several else []
    columns += [f"tags.`{key}`" for key in ("phase", "outcome", "source")]
    state: dict[str, Any] = {
        "searchFilter": "tags.phase != 'study'",
        "orderByKey": "metrics.`value`",
        "orderByAsc": direction == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    return json.dumps(state, separators=(",", ":"))


def links(experiment: str, parent: str) -> str:
    """Return Markdown with links from a note to the study's other pages.

    >>> links("1", "ab").splitlines()[-1].count("](#/experiments/1/runs")
    3
    """
    table = f"#/experiments/{experiment}/runs?{TRAINING}&viewStateShareKey={KEY}"
    study = f"#/experiments/{experiment}/runs/{parent}?{TRAINING}"
    return f"\n\n[All runs, best first]({table}) · [curves]({table}&compareRunsMode=CHART) · [the study]({study})"
