"""What is kept of a finished cell: numbers, per-image predictions, prompts or gradient Gram matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmap_model.backbone import Backbone
from mmap_model.cells import METRIC_VERSION
from mmap_model.checkpoint import pack_prompts
from mmap_model.data.dataset import Dataset
from mmap_model.data.draws import Indices
from mmap_model.grouping.affinity import GramStack
from mmap_model.methods import custom_provenance, get_method
from mmap_model.methods.model import TunedModel
from mmap_model.methods.problem import ProblemSize
from mmap_model.training.metrics import (
    TaskPredictions,
    mean_over_tasks,
    per_class_accuracy,
    summarise,
)
from mmap_model.training.predictions import write_predictions
from mmap_model.training.provenance import provenance
from mmap_model.training.replicate import Replicate


@dataclass(frozen=True)
class CellResult:
    """A finished cell.

    Attributes:
        metrics: JSON-ready: ``accuracy``, ``nll``, ``ece``, ``macro_f1`` (means over tasks, validation
            images), ``tasks`` (the same by task, with ``per_class`` accuracy), ``labels`` (images used by
            task, ``train`` and ``validation``), ``history`` (the epoch reports) and ``metric_version``.
        parameters: trained numbers of this cell alone.
        seconds: its share of the batch's time: ``train``, ``evaluate``, ``data``.
        versions: what it was computed with.
        files: ``predictions.parquet``, ``prompts.safetensors`` and ``prompts.json``; of a probe
            ``gram.safetensors``.
    """

    metrics: dict[str, Any]
    parameters: int
    seconds: dict[str, float]
    versions: dict[str, Any]
    files: dict[str, bytes]


def cell_result(
    replicate: Replicate,
    number: int,
    *,
    fused: int,
    model: TunedModel,
    backbone: Backbone,
    dataset: Dataset,
    predictions: list[TaskPredictions] | None,
    grams: GramStack | None,
) -> CellResult:
    """The result of replicate ``number`` of a batch of ``fused`` cells."""
    configuration = replicate.cell.configuration
    files = {}
    scores: dict[str, Any] = {}
    if predictions is not None:
        scores, predicted = score(dataset, [d.validation for d in replicate.draws], predictions)
        files["predictions.parquet"] = predicted
    if grams is not None:
        files["gram.safetensors"] = grams.to_bytes()
    else:
        files |= pack_prompts(
            model,
            number,
            configuration=configuration,
            tasks={task.name: task.classes for task in dataset.tasks},
            backbone=backbone,
            metrics=scores,
            images=[len(drawn.train) for drawn in replicate.draws],
        )
    labels = {
        task.name: {"train": len(d.train), "validation": len(d.validation)}
        for task, d in zip(dataset.tasks, replicate.draws, strict=True)
    }
    method = get_method(configuration.method)
    return CellResult(
        metrics={**scores, "labels": labels, "history": replicate.history, "metric_version": METRIC_VERSION},
        parameters=method.parameters(
            configuration.settings,
            backbone.architecture,
            ProblemSize(
                tasks=len(dataset.tasks),
                groups=len(configuration.partition or ()),
                classes=[task.classes for task in dataset.tasks],
                images=[len(drawn.train) for drawn in replicate.draws],
                partition=configuration.partition,
            ),
        ),
        seconds=dict(replicate.seconds),
        versions={
            **provenance(backbone.device),
            **custom_provenance(configuration.method),
            "fused": fused,
            "compute": vars(model.execution),
        },
        files=files,
    )


def score(
    dataset: Dataset, indices: list[Indices], predictions: list[TaskPredictions]
) -> tuple[dict[str, Any], bytes]:
    """Metrics of all tasks and their means, and the predictions file."""
    tasks: dict[str, dict[str, Any]] = {}
    rows = {}
    for task, own, found in zip(dataset.tasks, indices, predictions, strict=True):
        tasks[task.name] = summarise(found)
        samples = dataset.sample_ids(task.name)
        rows[task.name] = ([samples[i] for i in own.tolist()], found)
    means = mean_over_tasks(tasks.values())
    for task, found in zip(dataset.tasks, predictions, strict=True):
        tasks[task.name]["per_class"] = per_class_accuracy(found, len(task.classes))
    return {**means, "tasks": tasks}, write_predictions(rows)
