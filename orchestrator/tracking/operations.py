"""What MLflow is told about trials and cells, as plain operations that bear repetition.

    {"op": "start", "run", "parent", "name", "tags", "params", "cells", "time"}   create or take up a run
    {"op": "log", "run", "metrics": [[name, value, step, time]], "tags"}
    {"op": "end", "run", "status", "time"}

``run`` names a run within the study: ``trial/3``, ``trial/3/cell/<key>``, ``baseline/zero_shot``. ``cells``
are keys by which a run of an older version is known to be the same. Times are milliseconds since 1970. A
metric carries the time that the records know for it: telling it again changes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.statistics.summary import Summary, seed_means, summarize
from orchestrator.tracking.metric_names import distinct_names, metric_name
from orchestrator.tracking.outbox import Operation

Trial = int | str
"""A trial's number, or the name of a reference row."""

Metric = tuple[str, float, int, int]

SYMBOLS = {"prompt_length": "b", "source_rows": "m", "source_cols": "n", "scale_init": "σ_M"}
"""The paper's letters for settings that have one."""


TRANSIENT_TAGS = ("state", "error")
"""Tags of how a run ended; they go when it is taken up again."""


def trial_run(trial: Trial) -> str:
    return f"trial/{trial}" if isinstance(trial, int) else f"baseline/{trial}"


def cell_run(trial: Trial, key: str) -> str:
    return f"{trial_run(trial)}/cell/{key}"


def row_of(run: str) -> str:
    """The run of the trial or row that ``run`` belongs to."""
    return run.split("/cell/")[0]


def start(
    run: str,
    *,
    name: str,
    time: int,
    parent: str | None = None,
    tags: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    cells: Sequence[str] = (),
) -> Operation:
    """Create a run or take it up again."""
    return {
        "op": "start",
        "run": run,
        "parent": parent,
        "name": name,
        "tags": {key: str(value) for key, value in (tags or {}).items() if value is not None},
        "params": {key: _text(value) for key, value in (params or {}).items()},
        "cells": list(cells),
        "time": time,
    }


def log(run: str, metrics: Iterable[Metric] = (), tags: Mapping[str, Any] | None = None) -> Operation:
    """Metrics that are numbers, and tags. Values that are not finite are left out."""
    kept = [list(metric) for metric in metrics if math.isfinite(metric[1])]
    return {"op": "log", "run": run, "metrics": kept, "tags": {k: str(v) for k, v in (tags or {}).items()}}


def end(run: str, state: str, time: int) -> Operation:
    """Close a run. ``state`` is complete, pruned, cancelled, interrupted or failed."""
    status = {"complete": "FINISHED", "failed": "FAILED"}.get(state, "KILLED")
    return {"op": "end", "run": run, "status": status, "time": time}


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


def flat_params(point: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names; lists and null as JSON."""
    flat: dict[str, Any] = {}
    for name, value in point.items():
        if isinstance(value, Mapping):
            flat.update(flat_params(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def trial_name(trial: Trial, point: Mapping[str, Any], partitions: Sequence[Any] = ()) -> str:
    """E.g. ``trial 3 · b=4 m=2 n=16 · G=2 · lr 0.0035``; another method than MmAP is named.

    A name that has parts already, as rows of a comparison have, stays as it is.
    """
    if isinstance(trial, str) and " · " in trial:
        return trial
    settings = dict(point.get("settings") or {})
    letters = [
        f"{short}={settings[long]}" for long, short in SYMBOLS.items() if settings.get(long) is not None
    ]
    groups = sorted({len(p) for p in partitions if p is not None})
    head = f"trial {trial}" if isinstance(trial, int) else trial.replace("_", " ").replace("zero ", "zero-")
    parts = [head, "" if point.get("method") in ("mmap", trial) else str(point.get("method", ""))]
    parts += [" ".join(letters), f"G={'/'.join(map(str, groups))}" if groups else ""]
    lr = (point.get("recipe") or {}).get("lr")
    if lr is not None and trial != "zero_shot":
        parts.append(f"lr {lr:.3g}")
    return " · ".join(part for part in parts if part)


def cell_name(cell: Mapping[str, Any]) -> str:
    """E.g. ``seed 1 · 3-shot``."""
    return f"seed {cell['seed']} · {cell['split']}"


def milliseconds(stamp: str) -> int:
    """UTC ISO time to milliseconds since 1970."""
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)


def _validation(name: str) -> str:
    return name if name in ("train_loss", "lr") else f"val_{name}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
