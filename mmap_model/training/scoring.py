"""The test firewall's other side: saved prompts on test images, in a call of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mmap_model.backbone import Backbone
from mmap_model.cells import METRIC_VERSION, Cell
from mmap_model.checkpoint import load_prompts, model_identity
from mmap_model.data.dataset import Dataset
from mmap_model.forward.precision import exact_products
from mmap_model.host_memory import keep_freed_memory
from mmap_model.training.evaluation import Evaluation
from mmap_model.training.metrics import TaskPredictions, broken_logits
from mmap_model.training.pixels import Normalisation
from mmap_model.training.replicate import draw_tasks
from mmap_model.training.results import score


def score_test(
    cells: Sequence[Cell],
    files: Mapping[str, Mapping[str, bytes]],
    backbone: Backbone,
    dataset: Dataset,
    *,
    device: torch.device | str = "cpu",
    check: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Any]]:
    """Score finished cells on the test images of their draws. Nothing else in this package reads those.

    Cells of one model and the same images are computed once.

    Args:
        cells: finished, of any configuration.
        files: by cell key, ``prompts.safetensors`` and ``prompts.json`` of its result.
        backbone: that the prompts were trained on.
        dataset: whose manifest the cells name.
        device: where to compute; the backbone is moved there.
        check: called before every batch; may raise to end the scoring.

    Returns:
        By key ``metrics`` (``accuracy``, ``nll``, ``ece``, ``macro_f1``, ``tasks``, ``images``,
        ``metric_version``) and ``files`` (``test_predictions.parquet``); of a cell whose logits are not
        finite ``error`` alone.

    Raises:
        CheckpointError: prompts that are damaged or belong to another backbone.
    """
    backbone = backbone.to(device)
    exact_products()
    if backbone.device.type == "cpu":
        keep_freed_memory()
    results: dict[str, dict[str, Any]] = {}
    found: dict[tuple[str | bytes, ...], list[TaskPredictions]] = {}
    for cell in cells:
        model = load_prompts(files[cell.key], backbone, where=f"cell {cell.key}")
        indices = [drawn.test for drawn in draw_tasks(cell, dataset)]
        # Zero-shot CLIP is the same at every seed, and so are the images.
        same: tuple[str | bytes, ...] = (
            model_identity(files[cell.key]),
            cell.precision,
            *(own.tobytes() for own in indices),
        )
        if same not in found:
            with torch.autocast(backbone.device.type, torch.bfloat16, enabled=cell.precision == "bf16"):
                scored = Evaluation(dataset, [indices], backbone).run(model, Normalisation(backbone), check)
            found[same] = scored[0]
        broken = broken_logits([task.name for task in dataset.tasks], found[same])
        if broken is not None:
            results[cell.key] = {"error": f"cell {cell.key[:12]} cannot be scored: {broken}"}
            continue
        metrics, predictions = score(dataset, indices, found[same])
        images = {task.name: len(own) for task, own in zip(dataset.tasks, indices, strict=True)}
        results[cell.key] = {
            "metrics": {**metrics, "images": images, "metric_version": METRIC_VERSION},
            "files": {"test_predictions.parquet": predictions},
        }
    return results
