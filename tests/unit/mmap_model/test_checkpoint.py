"""Saved prompts come back exactly, and only on the backbone they were trained on."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import save

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.cells import Configuration
from mmap_model.checkpoint import DESCRIPTION, TENSORS, load_prompts, pack_prompts, read_checkpoint
from mmap_model.configuration import Recipe
from mmap_model.errors import CheckpointError, InputError
from mmap_model.methods import Problem, get_method
from mmap_model.methods.mmap import MmapSettings
from mmap_model.methods.model import TunedModel

TASKS = {"clipart": ("dog", "sea_turtle", "cat"), "sketch": ("dog", "cat")}
PARTITIONS = [((0,), (1,)), ((0, 1),)]
SETTINGS = MmapSettings(prompt_length=4, source_rows=2, source_cols=8)
RECIPE = Recipe(template="a picture of the {}.")


def trained(backbone: Backbone) -> TunedModel:
    """Two replicates with different numbers of groups."""
    return get_method("mmap").build(
        SETTINGS,
        backbone,
        Problem(
            classes=list(TASKS.values()), template=RECIPE.template, partitions=PARTITIONS, train_seeds=[1, 2]
        ),
    )


def packed(backbone: Backbone, replicate: int = 1) -> dict[str, bytes]:
    configuration = Configuration(
        method="mmap", settings=SETTINGS, recipe=RECIPE, partition=PARTITIONS[replicate]
    )
    return pack_prompts(
        trained(backbone),
        replicate,
        configuration=configuration,
        tasks=TASKS,
        backbone=backbone,
        metrics={"accuracy": 0.5},
    )


@pytest.mark.parametrize("replicate", [0, 1])
def test_loaded_prompts_give_identical_logits(tiny_backbone: Backbone, replicate: int) -> None:
    files = packed(tiny_backbone, replicate)
    loaded = load_prompts(files, tiny_backbone)
    pixels = torch.randn(2, 2, 3, 3, 16, 16)
    logits = trained(tiny_backbone).logits(pixels)[replicate]
    torch.testing.assert_close(loaded.logits(pixels[replicate : replicate + 1])[0], logits)
    again = pack_prompts(
        loaded,
        0,
        configuration=read_checkpoint(files).configuration,
        tasks=TASKS,
        backbone=tiny_backbone,
        metrics={"accuracy": 0.5},
    )
    assert again == files


def test_the_description_says_what_the_prompts_need(tiny_backbone: Backbone) -> None:
    checkpoint = read_checkpoint(packed(tiny_backbone))
    assert checkpoint.tasks == TASKS
    assert checkpoint.configuration.partition == ((0, 1),)
    assert checkpoint.configuration.settings == SETTINGS
    assert checkpoint.fingerprint == tiny_backbone.fingerprint
    assert checkpoint.preprocessing["size"] == 16
    assert checkpoint.metrics == {"accuracy": 0.5}


def test_zero_shot_has_a_checkpoint_without_tensors(tiny_backbone: Backbone) -> None:
    method = get_method("zero_shot")
    configuration = Configuration(method="zero_shot", settings=method.Settings(), recipe=RECIPE)
    model = method.build(
        configuration.settings,
        tiny_backbone,
        Problem(classes=list(TASKS.values()), template=RECIPE.template, partitions=[None], train_seeds=[1]),
    )
    files = pack_prompts(model, 0, configuration=configuration, tasks=TASKS, backbone=tiny_backbone)
    pixels = torch.randn(1, 2, 3, 3, 16, 16)
    assert torch.equal(load_prompts(files, tiny_backbone).logits(pixels), model.logits(pixels))


def test_another_backbone_is_an_error(tiny_backbone: Backbone) -> None:
    with pytest.raises(CheckpointError, match="fingerprint"):
        load_prompts(packed(tiny_backbone), random_backbone(seed=1))


def change(files: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    return {**files, DESCRIPTION: json.dumps({**json.loads(files[DESCRIPTION]), **changes}).encode()}


def test_damaged_checkpoints_name_the_file(tiny_backbone: Backbone) -> None:
    files = packed(tiny_backbone)
    description = json.loads(files[DESCRIPTION])
    del description["tasks"]
    for damaged, name in (
        ({TENSORS: files[TENSORS]}, DESCRIPTION),
        ({DESCRIPTION: files[DESCRIPTION]}, TENSORS),
        ({**files, TENSORS: files[TENSORS][:-1]}, TENSORS),
        ({**files, DESCRIPTION: files[DESCRIPTION][:-9]}, DESCRIPTION),
        ({**files, DESCRIPTION: json.dumps(description).encode()}, DESCRIPTION),
        (change(files, format=2), DESCRIPTION),
    ):
        with pytest.raises(CheckpointError, match=name):
            load_prompts(damaged, tiny_backbone)


def test_tensors_of_another_shape_are_refused(tiny_backbone: Backbone) -> None:
    import hashlib

    files = packed(tiny_backbone)
    other = save({"source": torch.zeros(1)})
    swapped = change({**files, TENSORS: other}, sha256=hashlib.sha256(other).hexdigest())
    with pytest.raises(CheckpointError, match="wants"):
        load_prompts(swapped, tiny_backbone)


def test_unknown_settings_are_refused(tiny_backbone: Backbone) -> None:
    files = packed(tiny_backbone)
    configuration = json.loads(files[DESCRIPTION])["configuration"]
    configuration["settings"]["prompt_lenght"] = 4
    with pytest.raises(InputError, match="prompt_length"):
        load_prompts(change(files, configuration=configuration), tiny_backbone)
