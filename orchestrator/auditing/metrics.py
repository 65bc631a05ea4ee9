"""The numbers of a file of predictions, computed anew, and which of the stored ones differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

EXACT = 1e-9
"""Of counts over images."""

CLOSE = 1e-5
"""Of means of probabilities, which predictions hold in single precision."""

COUNTED = ("accuracy", "macro_f1")
METRICS = (*COUNTED, "nll", "ece")


def recompute(data: bytes, stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The metrics of a file of predictions as a record holds them, and the images of each task.

    Args:
        data: the file.
        stored: metrics of the record, for the number of classes of each task.

    Raises:
        ValueError: it cannot be read, or holds no task.
    """
    from mmap_model.training.metrics import mean_over_tasks, per_class_accuracy, summarise
    from mmap_model.training.predictions import read_predictions

    tasks: dict[str, dict[str, Any]] = {}
    images: dict[str, list[str]] = {}
    found = read_predictions(data)
    if not found:
        raise ValueError("it holds no predictions")
    for name, (samples, predictions) in found.items():
        tasks[name], images[name] = dict(summarise(predictions)), samples
    means = mean_over_tasks([dict(numbers) for numbers in tasks.values()])
    for name, (_, predictions) in found.items():
        classes = len(((stored.get("tasks") or {}).get(name) or {}).get("per_class") or ())
        if classes > int(max(predictions.labels.max(), predictions.classes[:, 0].max())):
            tasks[name]["per_class"] = per_class_accuracy(predictions, classes)
    return {**means, "tasks": tasks}, images


def differences(
    stored: Mapping[str, Any], found: Mapping[str, Any], loose: float = CLOSE
) -> Iterator[tuple[str, Any, Any]]:
    """Name, stored and recomputed value of every stored metric that differs.

    Args:
        stored, found: metrics of a record, and recomputed.
        loose: how far apart means of probabilities may be.
    """
    for name in METRICS:
        if stored.get(name) is not None and not _equal(stored[name], found[name], _slack(name, loose)):
            yield name, stored[name], found[name]
    if stored.keys() & set(METRICS) and (stored.get("tasks") or {}).keys() != found["tasks"].keys():
        yield "tasks", sorted(stored.get("tasks") or {}), sorted(found["tasks"])
        return
    for task, numbers in (stored.get("tasks") or {}).items():
        for name in METRICS:
            value, again = numbers.get(name), found["tasks"][task][name]
            if value is not None and not _equal(value, again, _slack(name, loose)):
                yield f"tasks.{task}.{name}", value, again
        classes = numbers.get("per_class") or ()
        for place, (value, again) in enumerate(
            zip(classes, found["tasks"][task].get("per_class", ()), strict=False)
        ):
            if (value is None) != (again is None) or (value is not None and not _equal(value, again, EXACT)):
                yield f"tasks.{task}.per_class.{place}", value, again


def same(a: float | None, b: float | None) -> bool:
    """Whether two accuracies are equal but for rounding; of what is missing nothing is said."""
    return a is None or b is None or _equal(a, b, EXACT)


def _slack(name: str, loose: float) -> float:
    return EXACT if name in COUNTED else loose


def _equal(a: float, b: float, slack: float) -> bool:
    return abs(a - b) <= slack * max(1.0, abs(b))
