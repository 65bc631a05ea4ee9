"""Artefacts that nobody trained, for tests and measurements of what loads and serves them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmap_model.backbone import Backbone, BackboneSpec, load_backbone
from mmap_model.cells import Configuration, Point
from mmap_model.checkpoint import pack_prompts
from mmap_model.inference.exporting import export
from mmap_model.inference.trained import Trained
from mmap_model.methods import Problem, get_method

TASKS: Mapping[str, tuple[str, ...]] = {
    "art": ("dog", "alarm_clock", "sea turtle", "cat", "power_outlet"),
    "photo": ("dog", "cat"),
    "map": ("string_bean", "The_Eiffel_Tower", "teddy-bear"),
}
"""Three tasks with class lists of different lengths."""


def random_artefact(
    folder: Path,
    kind: str = "classifier",
    *,
    method: str = "mmap",
    settings: Mapping[str, Any] | None = None,
    tasks: Mapping[str, tuple[str, ...]] = TASKS,
    backbone: Backbone | None = None,
    seed: int = 5,
) -> Path:
    """Export a model whose trained tensors are moved by noise, so that tasks differ.

    Args:
        folder: to make.
        kind: the format.
        method, settings: what is "trained".
        tasks: class names by task.
        backbone: the CLIP; None: the one that this package holds, which the artefact then names.
        seed: of the noise.

    Returns:
        The folder.
    """
    clip = backbone or load_backbone(BackboneSpec())
    point = Point.from_dict({"method": method, "settings": dict(settings or {})})
    chosen = get_method(method)
    partition = (tuple(range(len(tasks))),) if chosen.needs_partition(point.settings) else None
    configuration = Configuration(method=method, settings=point.settings, partition=partition)
    problem = Problem(
        classes=list(tasks.values()),
        template=configuration.recipe.template,
        partitions=[partition],
        train_seeds=[1],
    )
    model = chosen.build(point.settings, clip, problem)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise.to(parameter), alpha=0.05)
    files = pack_prompts(model, 0, configuration=configuration, tasks=tasks, backbone=clip)
    export(Trained.of(files, clip), folder, kind)
    return folder
