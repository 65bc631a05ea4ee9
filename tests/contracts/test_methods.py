"""What every registered tuning method keeps. A new method adds its settings to ``SETTINGS``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.checkpoint import load_prompts, pack_prompts
from mmap_model.configuration import Configuration, Partition, Point, Recipe
from mmap_model.methods import get_method, method_names
from mmap_model.methods.model import TunedModel

SETTINGS: dict[str, dict[str, Any]] = {
    "mmap": {"prompt_length": 6, "source_rows": 3, "source_cols": 8},
    "zero_shot": {},
}
PARTITIONS: list[Partition] = [((0, 2), (1,)), ((0, 1, 2),)]
RECIPE = Recipe()


def configurations(name: str) -> list[Configuration]:
    """One per replicate; they differ in the partition if the method has any."""
    point = Point.from_dict({"method": name, "settings": SETTINGS[name]})
    partitions = PARTITIONS if get_method(name).grouped else [None, None]
    return [
        Configuration(method=name, settings=point.settings, recipe=RECIPE, partition=p) for p in partitions
    ]


def build(
    name: str,
    backbone: Backbone,
    classes: Sequence[Sequence[str]],
    seeds: Sequence[int],
    replicates: Sequence[int] = (0, 1),
) -> TunedModel:
    given = [configurations(name)[r] for r in replicates]
    return get_method(name).build(
        given[0].settings,
        backbone,
        classes=classes,
        template=RECIPE.template,
        partitions=[c.partition for c in given],
        train_seeds=seeds,
    )


def losses_of(model: TunedModel, pixels: Tensor) -> Tensor:
    return -model.logits(pixels).log_softmax(-1)[..., 0].mean(-1)


def pixels_of(replicates: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((replicates, 3, 2, 3, 16, 16), generator=generator, dtype=torch.float64)


def test_every_method_is_covered() -> None:
    assert set(SETTINGS) == set(method_names())


@pytest.mark.parametrize("name", SETTINGS)
class TestMethod:
    def test_settings_survive_json(self, name: str) -> None:
        configuration = configurations(name)[0]
        assert Configuration.from_dict(configuration.to_dict()) == configuration

    def test_logits_are_finite_exactly_where_a_task_has_classes(
        self, name: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        model = build(name, tiny_backbone_fp64, unequal_classes, [1, 2])
        logits = model.logits(pixels_of(2))
        assert logits.shape == (2, 3, 2, 5)
        assert torch.equal(logits.isfinite(), model.class_mask[None, :, None].expand_as(logits))
        assert torch.equal(model.class_mask.sum(1), torch.tensor([5, 2, 3]))
        for features in (model.class_features(), model.image_features(pixels_of(2))):
            norms = features.norm(dim=-1)
            torch.testing.assert_close(norms, torch.ones_like(norms))

    def test_the_count_is_that_of_the_trained_tensors(
        self, name: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        model = build(name, tiny_backbone_fp64, unequal_classes, [1, 2])
        for replicate, configuration in enumerate(configurations(name)):
            counted = get_method(name).count(
                configuration.settings,
                tiny_backbone_fp64.architecture,
                tasks=3,
                groups=len(configuration.partition or ()),
            )
            assert sum(t.numel() for t in model.replicate_state(replicate).values()) == counted
        assert get_method(name).trains == (counted > 0) == any(p.requires_grad for p in model.parameters())

    def test_the_train_seed_alone_decides_the_start(
        self, name: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        torch.manual_seed(0)
        first = build(name, tiny_backbone_fp64, unequal_classes, [5, 6])
        torch.manual_seed(1)
        again = build(name, tiny_backbone_fp64, unequal_classes, [6, 5], replicates=(1, 0))
        for replicate in (0, 1):
            state, mirrored = first.replicate_state(replicate), again.replicate_state(1 - replicate)
            assert state.keys() == mirrored.keys()
            assert all(torch.equal(state[key], mirrored[key]) for key in state)

    def test_fused_replicates_equal_separate_ones(
        self, name: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        if not get_method(name).fuses:
            pytest.skip(f"{name} trains the backbone: replicates never share a batch")
        fused = build(name, tiny_backbone_fp64, unequal_classes, [1, 2])
        pixels = pixels_of(2)
        losses = losses_of(fused, pixels)
        for replicate, seed in enumerate((1, 2)):
            alone = build(name, tiny_backbone_fp64, unequal_classes, [seed], replicates=[replicate])
            expected = losses_of(alone, pixels[replicate : replicate + 1])[0]
            torch.testing.assert_close(losses[replicate], expected, rtol=1e-9, atol=0)

    def test_a_step_moves_the_method_and_not_the_backbone(
        self, name: str, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        if not get_method(name).trains:
            pytest.skip(f"{name} trains nothing")
        backbone = random_backbone(dtype=torch.float64, seed=3)
        frozen = {key: tensor.clone() for key, tensor in backbone.clip.state_dict().items()}
        model = build(name, backbone, unequal_classes, [1, 2])
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
        pixels = pixels_of(2)
        before = losses_of(model, pixels)
        for _ in range(3):
            optimiser.zero_grad()
            losses_of(model, pixels).sum().backward()
            optimiser.step()
        assert (losses_of(model, pixels) < before).all()
        assert all(torch.equal(frozen[key], tensor) for key, tensor in backbone.clip.state_dict().items())

    def test_a_checkpoint_gives_the_same_logits(
        self, name: str, tiny_backbone: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        tasks = {f"task {t}": names for t, names in enumerate(unequal_classes)}
        model = build(name, tiny_backbone, unequal_classes, [1, 2])
        pixels = pixels_of(2).float()
        for replicate, configuration in enumerate(configurations(name)):
            files = pack_prompts(
                model, replicate, configuration=configuration, tasks=tasks, backbone=tiny_backbone
            )
            loaded = load_prompts(files, tiny_backbone).logits(pixels[replicate : replicate + 1])[0]
            torch.testing.assert_close(loaded, model.logits(pixels)[replicate])
