"""From a trained model to an artefact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mmap_model.errors import ConfigurationError
from mmap_model.inference.artefact import (
    Artefact,
    ArtefactSource,
    BackboneEntry,
    MethodEntry,
    PreprocessingEntry,
    TaskEntry,
)
from mmap_model.inference.classifier import MEANS
from mmap_model.inference.formats import ExportFormat, format_of
from mmap_model.inference.trained import Trained
from mmap_model.methods import custom_provenance
from mmap_model.methods.deployed import EveryTask
from mmap_model.training.provenance import provenance

TASK_FEATURES = "task_features.safetensors"
SAME = 1e-4
"""Cosines that two ways of computing them give may be this far apart: 1e-6 in fp32, more on GPUs."""


def export(
    trained: Trained,
    folder: str | Path,
    kind: str,
    *,
    source: ArtefactSource | None = None,
    validation_accuracy: Mapping[str, float] | None = None,
    task_features: Tensor | None = None,
    task_accuracy: float | None = None,
    licence: str | None = None,
    versions: Mapping[str, str | None] | None = None,
    notes: Sequence[str] = (),
) -> Artefact:
    """Write a trained model as an artefact.

    Args:
        trained: the model and the tasks to export.
        folder: to make; it must not exist, or be empty.
        kind: the format.
        source: where it was recorded, and why this seed.
        validation_accuracy: by task, in [0, 1].
        task_features: mean unit feature of each exported task's training images by the plain CLIP, [T, E].
        task_accuracy: share of validation images, in [0, 1], that are nearest to the mean of their own task.
        licence: a note on what the CLIP's weights may be used for.
        versions: of the caller, beside those of what this package runs on.
        notes: what a user should know, one sentence each.

    Raises:
        ConfigurationError: no such format, a missing library, a model that the format cannot hold, or one
            whose ``deployed`` form gives other logits.
        CheckpointError: the folder holds something.
    """
    chosen = require_format(trained, kind)
    _check(trained)
    backbone, configuration = trained.backbone, trained.checkpoint.configuration
    accuracy = validation_accuracy or {}
    own = custom_provenance(configuration.method).get("own_method", {})
    head = trained.deployed.head
    artefact = Artefact(
        kind=kind,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        tasks=tuple(
            TaskEntry(
                name=name,
                classes=trained.checkpoint.tasks[name],
                validation_accuracy=accuracy.get(name),
            )
            for name in trained.task_names
        ),
        preprocessing=PreprocessingEntry.of(backbone.preprocessing, backbone.image_size),
        logit_scale=tuple(head.scale.tolist()),
        backbone=BackboneEntry(
            model=backbone.spec.model if backbone.spec else None,
            pretrained=backbone.spec.pretrained if backbone.spec else None,
            activation=backbone.spec.activation if backbone.spec else None,
            fingerprint=backbone.fingerprint,
            licence=licence,
        ),
        method=MethodEntry(
            name=configuration.method,
            settings=configuration.to_dict()["settings"],
            template=configuration.recipe.template,
            version=own.get("version"),
            sha256=own.get("sha256", {}),
        ),
        source=source or ArtefactSource(),
        text_tower=chosen.text_tower,
        versions=_versions() | dict(versions or {}),
        task_features=None if task_features is None else TASK_FEATURES,
        task_accuracy=task_accuracy,
        notes=(*_slow(trained), *chosen.notes(trained), *notes),
    )

    def fill(target: Path) -> None:
        chosen.write(trained, target)
        if task_features is not None:
            assert task_features.shape == head.class_features.shape[::2], "a mean feature for each task"
            save_file({MEANS: task_features.float().cpu().contiguous()}, target / TASK_FEATURES)

    return artefact.write(folder, fill)


@torch.no_grad()
def _check(trained: Trained) -> None:
    """That the deployed form gives the logits of the model itself, on two images of noise for each task."""
    backbone, model, tasks = trained.backbone, trained.model, torch.tensor(trained.tasks)
    generator, size = torch.Generator().manual_seed(0), backbone.image_size
    pixels = torch.randn(2, 3, size, size, generator=generator).to(backbone.device, backbone.dtype)
    wanted = model.logits(pixels.expand(1, model.tasks, *pixels.shape))[0, tasks]
    for place, logits in enumerate(wanted):
        found = trained.deployed(pixels, torch.full((2,), place, device=pixels.device))
        scale, shown = trained.deployed.head.scale[place], trained.deployed.head.mask[place]
        apart = ((found - logits[:, : found.shape[1]])[:, shown] / scale).abs().max().item()
        if not apart <= SAME or not found[:, ~shown].isneginf().all():
            raise ConfigurationError(
                f"the deployed form of {trained.method.name} is not what was trained: cosines of task "
                f"{trained.task_names[place]!r} are {apart:.1e} apart",
                where="format",
                fix="let the method's model override deployed too, and leave logits and compare as they are",
            )


def require_format(trained: Trained, kind: str) -> ExportFormat:
    """The format of that name.

    Raises:
        ConfigurationError: there is none, a library is missing, or it cannot hold that model; says why.
    """
    chosen = format_of(kind)
    chosen.require()
    reason = chosen.refusal(trained)
    if reason is not None:
        raise ConfigurationError(f"{kind} cannot hold this model: {reason}", where="format")
    return chosen


def _slow(trained: Trained) -> list[str]:
    if not isinstance(trained.deployed.images, EveryTask) or len(trained.checkpoint.tasks) == 1:
        return []
    return [
        f"The method has image features of its own: each image passes the tower for all "
        f"{len(trained.checkpoint.tasks)} tasks."
    ]


def _versions() -> dict[str, str | None]:
    known = provenance("cpu")
    return {name: known[name] for name in ("python", "torch", "open_clip_torch", "numpy", "pillow")}
