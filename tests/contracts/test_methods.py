"""What every registered tuning method keeps. A new method adds its settings and the paper's counts of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mmap_model.architecture import read_architecture
from mmap_model.backbone import Backbone, random_backbone
from mmap_model.checkpoint import load_prompts, pack_prompts
from mmap_model.configuration import Cell, Configuration, Partition, Point, Recipe, Seeds, Split
from mmap_model.methods import Method, get_method, method_names
from mmap_model.methods.model import TunedModel
from mmap_model.training import FusedRun, score_test

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bitfit": ("bitfit", {}),
    "clip_adapter": ("clip_adapter", {}),
    "clip_adapter shared": ("clip_adapter", {"shared": True, "biases": False, "reduction": 2}),
    "coop": ("coop", {"prompt_length": 3}),
    "coop single": ("coop", {"prompt_length": 2, "template": "{}", "regime": "single"}),
    "full_ft": ("full_ft", {}),
    "full_ft single": ("full_ft", {"regime": "single"}),
    "joint": ("joint", {"prompt_length": 2}),
    "joint group": ("joint", {"prompt_length": 3, "positions": "assembled", "modules": "group"}),
    "maple": ("maple", {"prompt_length": 2}),
    "maple single": ("maple", {"prompt_length": 2, "depth": 2, "before_ln_pre": False, "regime": "single"}),
    "mlp": ("mlp", {"prompt_length": 2, "source_dim": 8}),
    "mlp task": ("mlp", {"prompt_length": 2, "source_dim": 8, "modules": "task"}),
    "mmap": ("mmap", {"prompt_length": 6, "source_rows": 3, "source_cols": 8}),
    "vpt": ("vpt", {"prompt_length": 3}),
    "vpt single": ("vpt", {"prompt_length": 3, "depth": 1, "before_ln_pre": True, "regime": "single"}),
    "zero_shot": ("zero_shot", {}),
}
PARTITIONS: list[Partition] = [((0, 2), (1,)), ((0, 1, 2),)]
RECIPE = Recipe(epochs=2, batch_size=4, lr=0.01)
PAPER = {
    "bitfit": {"multi": 171_008},
    "clip_adapter": {"multi": 526_848},
    "coop": {"single": 4 * 8_192, "multi": 8_192},
    "full_ft": {"single": 598_482_948, "multi": 149_620_737},
    "joint": {"multi": 1_290_240},
    "maple": {"single": 4 * 4_776_960, "multi": 4_776_960},
    "mlp": {"multi": 3_959_808},
    "mmap": {"multi": 129_744},
    "vpt": {"single": 4 * 165_888, "multi": 165_888},
    "zero_shot": {None: 0},
}
"""Exact numbers behind the paper's "Parameters" row: ViT-B/16, four tasks, two groups."""


def method_of(case: str) -> Method:
    return get_method(CASES[case][0])


def configurations(case: str) -> list[Configuration]:
    """One per replicate; they differ in the partition if the method has any."""
    name, settings = CASES[case]
    point = Point.from_dict({"method": name, "settings": settings})
    partitions = PARTITIONS if get_method(name).grouped else [None, None]
    return [
        Configuration(method=name, settings=point.settings, recipe=RECIPE, partition=p) for p in partitions
    ]


def build(
    case: str,
    backbone: Backbone,
    classes: Sequence[Sequence[str]],
    seeds: Sequence[int],
    replicates: Sequence[int] = (0, 1),
) -> TunedModel:
    given = [configurations(case)[r] for r in replicates]
    return method_of(case).build(
        given[0].settings,
        backbone,
        classes=classes,
        template=RECIPE.template,
        partitions=[c.partition for c in given],
        train_seeds=seeds,
    )


def state_of(backbone: Backbone) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in backbone.clip.state_dict().items()}


def losses_of(model: TunedModel, pixels: Tensor) -> Tensor:
    return -model.logits(pixels).log_softmax(-1)[..., 0].mean(-1)


def pixels_of(replicates: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((replicates, 3, 2, 3, 16, 16), generator=generator, dtype=torch.float64)


def test_every_method_is_covered() -> None:
    assert {name for name, _ in CASES.values()} == set(method_names()) == set(PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_the_table_of_budgets_has_the_papers_counts(name: str) -> None:
    method, shape = get_method(name), read_architecture("ViT-B-16-quickgelu")
    counts = {
        budget.regime: method.count(method.Settings(**budget.settings), shape, tasks=4, groups=2)
        for budget in method.budgets
    }
    assert counts == PAPER[name]


@pytest.mark.parametrize("case", [case for case in CASES if "single" in case])
def test_a_task_of_its_own_copy_learns_from_its_own_images_only(
    case: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
) -> None:
    model = build(case, tiny_backbone_fp64, unequal_classes, [1, 2])
    losses_of(model, pixels_of(2))[0, 1].backward()
    for name, parameter in model.named_parameters():
        assert parameter.shape[:2] == (2, 3)
        moved = parameter.grad.reshape(2, 3, -1).abs().amax(2) > 0  # type: ignore[union-attr]
        assert torch.equal(moved, torch.tensor([[False, True, False], [False] * 3])), name


@pytest.mark.parametrize("case", CASES)
class TestMethod:
    def test_settings_survive_json(self, case: str) -> None:
        configuration = configurations(case)[0]
        assert Configuration.from_dict(configuration.to_dict()) == configuration

    def test_logits_are_finite_exactly_where_a_task_has_classes(
        self, case: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        model = build(case, tiny_backbone_fp64, unequal_classes, [1, 2])
        logits = model.logits(pixels_of(2))
        assert logits.shape == (2, 3, 2, 5)
        assert torch.equal(logits.isfinite(), model.class_mask[None, :, None].expand_as(logits))
        assert torch.equal(model.class_mask.sum(1), torch.tensor([5, 2, 3]))
        for features in (model.class_features(), model.image_features(pixels_of(2))):
            norms = features.norm(dim=-1)
            torch.testing.assert_close(norms, torch.ones_like(norms))

    def test_the_count_is_that_of_the_trained_tensors(
        self, case: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        model = build(case, tiny_backbone_fp64, unequal_classes, [1, 2])
        for replicate, configuration in enumerate(configurations(case)):
            counted = method_of(case).count(
                configuration.settings,
                tiny_backbone_fp64.architecture,
                tasks=3,
                groups=len(configuration.partition or ()),
            )
            assert sum(t.numel() for t in model.replicate_state(replicate).values()) == counted
        assert method_of(case).trains == (counted > 0) == any(p.requires_grad for p in model.parameters())

    def test_the_train_seed_alone_decides_the_start(
        self, case: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        torch.manual_seed(0)
        first = build(case, tiny_backbone_fp64, unequal_classes, [5, 6])
        torch.manual_seed(1)
        again = build(case, tiny_backbone_fp64, unequal_classes, [6, 5], replicates=(1, 0))
        for replicate in (0, 1):
            state, mirrored = first.replicate_state(replicate), again.replicate_state(1 - replicate)
            assert state.keys() == mirrored.keys()
            assert all(torch.equal(state[key], mirrored[key]) for key in state)

    def test_fused_replicates_equal_separate_ones(
        self, case: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        if not method_of(case).fuses:
            pytest.skip(f"{case} trains the backbone: replicates never share a batch")
        fused = build(case, tiny_backbone_fp64, unequal_classes, [1, 2])
        pixels = pixels_of(2)
        losses = losses_of(fused, pixels)
        for replicate, seed in enumerate((1, 2)):
            alone = build(case, tiny_backbone_fp64, unequal_classes, [seed], replicates=[replicate])
            expected = losses_of(alone, pixels[replicate : replicate + 1])[0]
            torch.testing.assert_close(losses[replicate], expected, rtol=1e-9, atol=0)

    def test_every_trained_tensor_gets_a_gradient(
        self, case: str, tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        model = build(case, tiny_backbone_fp64, unequal_classes, [1, 2])
        losses = losses_of(model, pixels_of(2)).sum()
        assert losses.requires_grad == method_of(case).trains
        if losses.requires_grad:
            losses.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            for replicate in parameter.grad:
                assert replicate.abs().max() > 0, name

    def test_twenty_steps_lower_the_loss_and_leave_the_backbone(
        self, case: str, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        if not method_of(case).trains:
            pytest.skip(f"{case} trains nothing")
        backbone = random_backbone(dtype=torch.float64, seed=3)
        frozen = state_of(backbone)
        trained, pixels = [], pixels_of(2)
        for _ in range(2):
            model = build(case, backbone, unequal_classes, [1, 2])
            optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
            before = losses_of(model, pixels).sum(1)
            for _ in range(20):
                optimiser.zero_grad()
                losses_of(model, pixels).sum().backward()
                optimiser.step()
            assert (losses_of(model, pixels).sum(1) < before).all()
            trained.append(model)
        assert all(torch.equal(frozen[key], tensor) for key, tensor in backbone.clip.state_dict().items())
        for ours, theirs in zip(*(model.parameters() for model in trained), strict=True):
            assert torch.equal(ours, theirs)

    def test_a_checkpoint_gives_the_same_logits(
        self, case: str, tiny_backbone: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        tasks = {f"task {t}": names for t, names in enumerate(unequal_classes)}
        model = build(case, tiny_backbone, unequal_classes, [1, 2])
        pixels = pixels_of(2).float()
        for replicate, configuration in enumerate(configurations(case)):
            files = pack_prompts(
                model, replicate, configuration=configuration, tasks=tasks, backbone=tiny_backbone
            )
            loaded = load_prompts(files, tiny_backbone).logits(pixels[replicate : replicate + 1])[0]
            torch.testing.assert_close(loaded, model.logits(pixels)[replicate])

    def test_logits_are_full_precision_under_bf16(
        self, case: str, tiny_backbone: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
    ) -> None:
        model = build(case, tiny_backbone, unequal_classes, [1, 2])
        pixels = pixels_of(2).float()
        exact = model.logits(pixels)
        model = build(case, tiny_backbone, unequal_classes, [1, 2])
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.logits(pixels)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.5)

    def test_the_training_loop_trains_resumes_and_scores_it(
        self, case: str, tiny_backbone: Backbone, pattern_dataset: Any
    ) -> None:
        few = {"fan": 6, "tv": 6}
        dataset = pattern_dataset(
            {"art": ("warm", {"mug": 6, **few}), "photo": ("cold", {"mug": 6, **few}), "map": ("cold", few)}
        )
        cells = [
            Cell(
                configuration=configuration,
                split=Split(shots=2),
                seeds=Seeds.both(seed),
                dataset="0" * 32,
                backbone="b",
            )
            for seed, configuration in enumerate(configurations(case)[: 1 + method_of(case).fuses])
        ]
        frozen = state_of(tiny_backbone)
        whole, first, resumed = (FusedRun(cells, tiny_backbone, dataset) for _ in range(3))
        assert len(list(whole.epochs())) == (2 if method_of(case).trains else 1)
        next(first.epochs())
        resumed.restore(first.state())
        list(resumed.epochs())
        results, again = whole.finish(), resumed.finish()
        for cell in cells:
            assert results[cell.key].files == again[cell.key].files
            assert 0 <= results[cell.key].metrics["accuracy"] <= 1
        files = {cell.key: results[cell.key].files for cell in cells}
        assert set(score_test(cells, files, tiny_backbone, dataset)) == set(files)
        assert all(torch.equal(frozen[key], own) for key, own in tiny_backbone.clip.state_dict().items())
