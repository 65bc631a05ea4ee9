"""Numbers from predictions. `METRIC_VERSION` of the configuration rises when any changes its meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ECE_BINS = 15
TOP = 5


@dataclass(frozen=True)
class TaskPredictions:
    """Of n images of one task.

    Attributes:
        labels: the truth, [n].
        classes: the most probable classes, best first, [n, min(5, C)].
        probabilities: theirs, [n, min(5, C)].
        nll: negative log probability of the truth, nats, [n].
        broken: images of which a logit is infinite or none: what stands here of them means nothing.

    In the precision they were computed in; every metric is computed in double precision.
    """

    labels: npt.NDArray[np.integer]
    classes: npt.NDArray[np.integer]
    probabilities: npt.NDArray[np.floating]
    nll: npt.NDArray[np.floating]
    broken: int = 0


def broken_logits(tasks: Sequence[str], predictions: Sequence[TaskPredictions]) -> str | None:
    """Say which task's logits are not finite, the first one if several are; None if all are finite."""
    for task, found in zip(tasks, predictions, strict=True):
        if found.broken:
            return f"the logits of {found.broken} of {len(found.labels)} images of {task!r} are not finite"
    return None


def summarise(predictions: TaskPredictions) -> dict[str, float]:
    """Accuracy, NLL (nats), ECE and macro-F1 of one task; accuracy, ECE and F1 in [0, 1]."""
    guess = predictions.classes[:, 0]
    right = guess == predictions.labels
    return {
        "accuracy": float(right.mean()),
        "nll": float(predictions.nll.astype(np.float64).mean()),
        "ece": calibration_error(predictions.probabilities[:, 0], right),
        "macro_f1": macro_f1(predictions.labels, guess),
    }


def mean_over_tasks(tasks: Iterable[dict[str, float]]) -> dict[str, float]:
    """The unweighted mean over tasks of every number."""
    rows = list(tasks)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def calibration_error(confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error over 15 equally wide bins of confidence (Guo et al. 2017)."""
    confidence = confidence.astype(np.float64)
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins, weights=right.astype(np.float64) - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def macro_f1(labels: npt.NDArray[np.integer], guess: npt.NDArray[np.integer]) -> float:
    """Mean F1 over the classes that occur among the labels."""
    count = int(max(labels.max(), guess.max())) + 1
    truth = np.bincount(labels, minlength=count)
    hits = np.bincount(labels[labels == guess], minlength=count)
    f1 = 2 * hits / np.maximum(truth + np.bincount(guess, minlength=count), 1)
    return float(f1[truth > 0].mean())


def per_class_accuracy(predictions: TaskPredictions, classes: int) -> list[float | None]:
    """Share of right guesses of every class, None for a class without images."""
    right = predictions.classes[:, 0] == predictions.labels
    truth = np.bincount(predictions.labels, minlength=classes)
    hits = np.bincount(predictions.labels[right], minlength=classes)
    return [float(h / n) if n else None for h, n in zip(hits, truth, strict=True)]
