"""Numbers of cells and rows as metrics: names as MLflow has them, see ``names``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.statistics.summary import Summary, seed_means, summarize
from orchestrator.tracking.names import distinct_names, metric_name
from orchestrator.tracking.operations import Metric, milliseconds


def epoch_metrics(report: Mapping[str, Any]) -> list[Metric]:
    """Curves of one cell: every number of an epoch's report, those of a task under ``<metric>/<task>``."""
    step, time = int(report["epoch"]), milliseconds(report["at"])
    metrics: list[Metric] = []
    for name, value in report.items():
        if name == "tasks":
            short = distinct_names(value)
            for task, numbers in value.items():
                metrics += [
                    (f"{metric_name(_validation(n))}/{short[task]}", float(v), step, time)
                    for n, v in numbers.items()
                    if _is_number(v)
                ]
        elif name == "seconds":
            metrics += [(metric_name(f"seconds/{n}"), float(v), step, time) for n, v in value.items()]
        elif name != "epoch" and _is_number(value):
            metrics.append((metric_name(_validation(name)), float(value), step, time))
    return metrics


def test_metrics(test: Mapping[str, Any]) -> list[Metric]:
    """Of one cell: ``test_accuracy`` and ``test_accuracy/<task>``, from its record of the test images."""
    metrics, time = test["metrics"], milliseconds(test["scored_at"])
    tasks = metrics.get("tasks") or {}
    short = distinct_names(tasks)
    numbers = {"test_accuracy": metrics["accuracy"]}
    numbers |= {f"test_accuracy/{short[task]}": values["accuracy"] for task, values in tasks.items()}
    return [(name, float(value), 0, time) for name, value in numbers.items()]


def mean_metrics(
    cells: Sequence[Mapping[str, Any]], values: Sequence[float], step: int, time: int, prefix: str = "val"
) -> list[Metric]:
    """Mean, standard deviation and n over seeds of one value per cell, and the mean per split if several."""
    by_cell = {(c["split"], c["seed"]): v for c, v in zip(cells, values, strict=True)}
    metrics = summary_metrics(summarize(list(seed_means(by_cell).values())), step, time, prefix)
    splits = list(dict.fromkeys(c["split"] for c in cells))
    short = distinct_names(splits)
    for split in splits if len(splits) > 1 else ():
        part = [v for (s, _), v in by_cell.items() if s == split]
        name = f"{prefix}_accuracy_mean/{short[split]}"
        metrics.append((name, math.fsum(part) / len(part), step, time))
    return metrics


def summary_metrics(summary: Summary, step: int, time: int, prefix: str = "val") -> list[Metric]:
    """``<prefix>_accuracy_mean``, ``_std`` and ``_n``."""
    metrics: list[Metric] = [
        (f"{prefix}_accuracy_mean", summary.mean, step, time),
        (f"{prefix}_accuracy_n", float(summary.n), step, time),
    ]
    if summary.std is not None:
        metrics.append((f"{prefix}_accuracy_std", summary.std, step, time))
    return metrics


def _validation(name: str) -> str:
    return name if name in ("train_loss", "lr") else f"val_{name}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
