"""Trained prompts as two small files: tensors (safetensors) and what they belong to (JSON)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from mmap_model.backbone import Backbone
from mmap_model.cells import Configuration
from mmap_model.errors import CheckpointError, InputError
from mmap_model.methods import Problem, get_method
from mmap_model.methods.model import TunedModel
from mmap_model.plain import content_key
from mmap_model.text_files import decode_json, decode_text

TENSORS, DESCRIPTION = "prompts.safetensors", "prompts.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class PromptCheckpoint:
    """What a checkpoint says of itself.

    Attributes:
        configuration: method, settings, recipe (with the template) and partition.
        tasks: class names by task name, in the order of the partition's indices.
        model, pretrained: the backbone's name and tag or file as it was trained; None if it had none.
        fingerprint: of the backbone.
        preprocessing: ``mean`` and ``std`` per channel of pixels in [0, 1], and ``size`` of the square input;
            ``resize_mode``, ``interpolation``, ``fill_color`` as in open_clip where they are not CLIP's own.
        metrics: whatever was known of the prompts when they were saved.
        images: labelled images of each task, in their order; None where a method does not keep any.
    """

    configuration: Configuration
    tasks: Mapping[str, tuple[str, ...]]
    model: str | None
    pretrained: str | None
    fingerprint: str
    preprocessing: Mapping[str, Any]
    metrics: Mapping[str, Any]
    images: tuple[int, ...] | None = None


def pack_prompts(
    model: TunedModel,
    replicate: int,
    *,
    configuration: Configuration,
    tasks: Mapping[str, tuple[str, ...]],
    backbone: Backbone,
    metrics: Mapping[str, Any] | None = None,
    images: Sequence[int] | None = None,
) -> dict[str, bytes]:
    """The files of one replicate's prompts, by name.

    Args:
        model: what was trained.
        replicate: which of its replicates.
        configuration: of that replicate, with its partition.
        tasks: class names by task name, as the model was built with.
        backbone: that the model runs on.
        metrics: JSON-ready numbers to keep beside the prompts.
        images: labelled images of each task; kept where the shape of what is saved depends on them.
    """
    state = model.replicate_state(replicate)
    tensors = save({name: tensor.cpu().contiguous() for name, tensor in state.items()})
    description = {
        "format": FORMAT,
        "configuration": configuration.to_dict(),
        "tasks": [{"name": name, "classes": list(classes)} for name, classes in tasks.items()],
        "backbone": {
            "model": backbone.spec.model if backbone.spec else None,
            "pretrained": backbone.spec.pretrained if backbone.spec else None,
            "fingerprint": backbone.fingerprint,
        },
        "preprocessing": {
            "mean": list(backbone.image_mean),
            "std": list(backbone.image_std),
            "size": backbone.image_size,
            **backbone.resize.described(),
        },
        "metrics": dict(metrics or {}),
        **({"images": list(images)} if images is not None and model.fits else {}),
        "sha256": hashlib.sha256(tensors).hexdigest(),
    }
    text = json.dumps(description, indent=1, allow_nan=False, ensure_ascii=False)
    return {TENSORS: tensors, DESCRIPTION: text.encode()}


def read_checkpoint(files: Mapping[str, bytes], where: str = "checkpoint") -> PromptCheckpoint:
    """Read and check the description of a checkpoint.

    Args:
        files: as from ``pack_prompts``.
        where: folder or cell, for messages.

    Raises:
        CheckpointError: a file is missing or damaged, or of a later format.
        ConfigurationError: its configuration is not one of this release.
    """
    missing = {TENSORS, DESCRIPTION} - set(files)
    if missing:
        raise CheckpointError(
            f"{min(missing)} is missing", where=where, fix="copy both files of the checkpoint"
        )
    try:
        text = decode_text(files[DESCRIPTION], DESCRIPTION, where, CheckpointError)
        data = decode_json(text, DESCRIPTION, where, CheckpointError)
        if data["format"] != FORMAT:
            raise CheckpointError(
                f"format {data['format']!r} is not {FORMAT}",
                where=f"{where}: {DESCRIPTION}",
                fix="use the release that wrote it",
            )
        intact = data["sha256"] == hashlib.sha256(files[TENSORS]).hexdigest()
        checkpoint = PromptCheckpoint(
            configuration=Configuration.from_dict(data["configuration"], f"{where}: configuration"),
            tasks={task["name"]: tuple(task["classes"]) for task in data["tasks"]},
            model=data["backbone"]["model"],
            pretrained=data["backbone"]["pretrained"],
            fingerprint=data["backbone"]["fingerprint"],
            preprocessing=data["preprocessing"],
            metrics=data["metrics"],
            images=tuple(data["images"]) if "images" in data else None,
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"damaged: {error!r}", where=f"{where}: {DESCRIPTION}", fix="copy the checkpoint again"
        ) from error
    if not intact:
        raise CheckpointError(
            f"does not have the hash that {DESCRIPTION} gives",
            where=f"{where}: {TENSORS}",
            fix="copy both files of the same checkpoint again",
        )
    return checkpoint


def model_identity(files: Mapping[str, bytes]) -> str:
    """Equal for checkpoints of equal models, whatever was measured of each."""
    return content_key({**json.loads(files[DESCRIPTION]), "metrics": {}})


def load_prompts(files: Mapping[str, bytes], backbone: Backbone, where: str = "checkpoint") -> TunedModel:
    """The model of one replicate with the saved prompts; its tasks are those of ``read_checkpoint``.

    Raises:
        CheckpointError: as ``read_checkpoint``; or the backbone is not the one the prompts were trained on.
    """
    checkpoint = read_checkpoint(files, where)
    if checkpoint.fingerprint != backbone.fingerprint:
        trained_on = " ".join(filter(None, (checkpoint.model, checkpoint.pretrained))) or "another model"
        raise CheckpointError(
            f"trained on {trained_on} with fingerprint {checkpoint.fingerprint}, "
            f"but the backbone has {backbone.fingerprint}",
            where=where,
            fix="load the backbone that the prompts were trained on",
        )
    configuration = checkpoint.configuration
    model = get_method(configuration.method).build(
        configuration.settings,
        backbone,
        Problem(
            classes=list(checkpoint.tasks.values()),
            template=configuration.recipe.template,
            partitions=[configuration.partition],
            train_seeds=[0],
            templates=configuration.recipe.templates_of(list(checkpoint.tasks)),
            images=checkpoint.images,
        ),
    )
    try:
        tensors = load(files[TENSORS])
    except SafetensorError as error:
        raise CheckpointError(
            f"damaged: {error}", where=f"{where}: {TENSORS}", fix="copy the checkpoint again"
        ) from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.replicate_state(0).items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        raise CheckpointError(
            f"holds {found}, the configuration wants {expected}",
            where=f"{where}: {TENSORS}",
            fix="copy both files of the same checkpoint again",
        )
    model.load_replicate_state(0, tensors)
    return model.eval()
