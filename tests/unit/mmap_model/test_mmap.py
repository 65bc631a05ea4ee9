"""MmAP: generation, fused replicates, per-task gradients, counts; float64 and relative errors throughout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmap_model.architecture import read_architecture
from mmap_model.backbone import Backbone, random_backbone
from mmap_model.configuration import Partition
from mmap_model.errors import ShapeError
from mmap_model.methods import Problem, get_method
from mmap_model.methods.mmap import MmapSettings
from mmap_model.methods.mmap.module import MmapModel, generate

TEMPLATE = "a photo of a {}."
ODD = MmapSettings(prompt_length=9, source_rows=3, source_cols=8)
TWO_GROUPS: Partition = ((0, 2), (1,))
ONE_GROUP: Partition = ((0, 1, 2),)


def relative(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def build(
    backbone: Backbone,
    classes: Sequence[Sequence[str]],
    partitions: Sequence[Partition],
    seeds: Sequence[int],
    shape: MmapSettings = ODD,
) -> MmapModel:
    model = get_method("mmap").build(
        shape, backbone, Problem(classes=classes, template=TEMPLATE, partitions=partitions, train_seeds=seeds)
    )
    assert isinstance(model, MmapModel)
    return model


def pixels_of(replicates: int, tasks: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((replicates, tasks, 2, 3, 16, 16), generator=generator, dtype=torch.float64)


def use_prompts(model: MmapModel, text: Tensor, image: Tensor) -> MmapModel:
    """Let a one-module model run with the given prompts [K, R, b, D] instead of generated ones."""
    model.text_prompts = lambda: text[:, model.members[:, 0]].unbind(0)  # type: ignore[method-assign]
    model.image_prompts = lambda: image[:, model.members[:, 0]].unbind(0)  # type: ignore[method-assign]
    return model


def losses_of(model: MmapModel, pixels: Tensor) -> Tensor:
    """Cross-entropy of the first class, [R, T]."""
    return -model.logits(pixels).log_softmax(-1)[..., 0].mean(-1)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_prompts_are_kronecker_products(
    modules: int, layers: int, rows: int, columns: int, m: int, n: int
) -> None:
    source = torch.randn(2, modules, layers, m, n)
    scale = torch.randn(2, modules, layers, rows, columns)
    prompts = generate(source, scale)
    assert prompts.shape == (layers, 2 * modules, rows * m, columns * n)
    for r in range(2):
        for p in range(modules):
            for k in range(layers):
                expected = torch.kron(scale[r, p, k], source[r, p, k])
                torch.testing.assert_close(prompts[k, r * modules + p], expected)


@pytest.mark.parametrize("modules", ["both", "group", "task"])
@pytest.mark.parametrize("positions", ["original", "assembled"])
@pytest.mark.parametrize("options", [{}, {"text_layers": 2}])
def test_logits_and_gradients_equal_a_plain_forward(
    reference_logits: Callable[..., Tensor],
    unequal_classes: tuple[tuple[str, ...], ...],
    modules: Any,
    positions: Any,
    options: dict[str, int],
) -> None:
    backbone = random_backbone(dtype=torch.float64, seed=7, **options)
    model = build(
        backbone, unequal_classes, [TWO_GROUPS], [11], replace(ODD, modules=modules, positions=positions)
    )
    pixels = pixels_of(1, 3)
    logits = model.logits(pixels)[0]
    total = torch.zeros((), dtype=torch.float64)
    group_of = {0: 0, 2: 0, 1: 1}
    first_task = {"both": 2, "group": 0, "task": 0}[modules]
    for task, names in enumerate(unequal_classes):
        members = {
            "both": [group_of[task], first_task + task],
            "group": [group_of[task]],
            "task": [first_task + task],
        }[modules]
        prompts = {
            tower: [
                torch.cat([torch.kron(scale[0, p, k], model.source[0, p, k]) for p in members])
                for k in range(backbone.architecture.depth)
            ]
            for tower, scale in (("text", model.text_scale), ("image", model.image_scale))
        }
        expected = reference_logits(
            backbone,
            pixels[0, task],
            [TEMPLATE.replace("{}", name.replace("_", " ")) for name in names],
            prompts["text"],
            prompts["image"],
            positions == "assembled",
        )
        assert relative(logits[task, :, : len(names)], expected) < 1e-9
        assert torch.isneginf(logits[task, :, len(names) :]).all()
        total = total - expected.log_softmax(-1)[:, 0].mean()
    loss = losses_of(model, pixels).sum()
    assert relative(loss, total) < 1e-9
    parameters = list(model.parameters())
    for actual, expected in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(total, parameters), strict=True
    ):
        assert expected.abs().amax(dim=(2, 3, 4)).min() > 0
        assert relative(actual, expected) < 1e-9


@settings(max_examples=8, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**31), min_size=3, max_size=3, unique=True))
def test_fused_replicates_equal_separate_ones(
    tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...], seeds: list[int]
) -> None:
    partitions: list[Partition] = [TWO_GROUPS, ONE_GROUP, ((0,), (1,), (2,))]
    fused = build(tiny_backbone_fp64, unequal_classes, partitions, seeds)
    pixels = pixels_of(3, 3)
    losses = losses_of(fused, pixels)
    losses.sum().backward()
    for r, (partition, seed) in enumerate(zip(partitions, seeds, strict=True)):
        alone = build(tiny_backbone_fp64, unequal_classes, [partition], [seed])
        for name, tensor in alone.replicate_state(0).items():
            assert torch.equal(tensor, fused.replicate_state(r)[name])
        loss = losses_of(alone, pixels[r : r + 1])
        loss.sum().backward()
        assert relative(losses[r], loss[0]) < 1e-9
        used = [*range(len(partition)), *range(3, 6)]
        for name, parameter in alone.named_parameters():
            gradient = fused.get_parameter(name).grad
            assert gradient is not None and parameter.grad is not None
            assert relative(gradient[r, used], parameter.grad[0]) < 1e-9
            unused = [g for g in range(6) if g not in used]
            assert not gradient[r, unused].any()


def test_a_replicate_with_nan_leaves_the_others_unchanged(
    tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
) -> None:
    pixels = pixels_of(3, 3)
    gradients = []
    for broken in (False, True):
        model = build(tiny_backbone_fp64, unequal_classes, [TWO_GROUPS, ONE_GROUP, TWO_GROUPS], [1, 2, 3])
        if broken:
            with torch.no_grad():
                model.source[1] = torch.nan
        losses = losses_of(model, pixels)
        losses.sum().backward()
        gradients.append([losses.detach(), *(p.grad for p in model.parameters())])
    for whole, broken_one in zip(*gradients, strict=True):
        assert whole is not None and broken_one is not None
        assert broken_one[1].isnan().any()
        assert torch.equal(whole[[0, 2]], broken_one[[0, 2]])


def test_frozen_weights_are_untouched_by_a_step(
    tiny_backbone: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_backbone.clip.state_dict().items()}
    model = build(tiny_backbone, unequal_classes, [TWO_GROUPS], [1])
    start = model.replicate_state(0)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    losses_of(model, pixels_of(1, 3).float()).sum().backward()
    optimiser.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_backbone.clip.state_dict().items())
    assert all(p.grad is None for p in tiny_backbone.clip.parameters())
    assert not any(torch.equal(start[name], tensor) for name, tensor in model.replicate_state(0).items())


def gram_of(model: MmapModel, losses: Tensor) -> dict[str, Tensor]:
    prompts = [model.generated("text"), model.generated("image")]
    return model.task_gram(torch.autograd.grad(losses.sum(), prompts))


def test_one_backward_gives_every_tasks_gradient(
    tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
) -> None:
    partitions, shape = [ONE_GROUP, ONE_GROUP], replace(ODD, modules="group")
    model = build(tiny_backbone_fp64, unequal_classes, partitions, [4, 5], shape)
    pixels = pixels_of(2, 3)
    expected: dict[str, list[Tensor]] = {"prompts": [], "parameters": []}
    for task in range(3):
        losses = losses_of(model, pixels)
        leaves = [
            generate(model.source, scale).detach().requires_grad_()
            for scale in (model.text_scale, model.image_scale)
        ]
        alone = use_prompts(build(tiny_backbone_fp64, unequal_classes, partitions, [4, 5], shape), *leaves)
        by_prompt = torch.autograd.grad(losses_of(alone, pixels)[:, task].sum(), leaves)
        by_parameter = torch.autograd.grad(losses[:, task].sum(), list(model.parameters()))
        expected["prompts"].append(torch.cat([g.movedim(1, 0).flatten(1) for g in by_prompt], dim=1))
        expected["parameters"].append(torch.cat([g.flatten(1) for g in by_parameter], dim=1))
    losses = losses_of(model, pixels)
    total = torch.autograd.grad(losses.sum(), list(model.parameters()), retain_graph=True)
    grams = gram_of(model, losses)
    for space, gradients in expected.items():
        rows = torch.stack(gradients, dim=1)
        assert grams[space].dtype == torch.float64
        assert relative(grams[space], rows @ rows.transpose(1, 2)) < 1e-9
    for parameter, gradient in zip(model.parameters(), total, strict=True):
        assert parameter.grad is not None
        assert relative(parameter.grad, gradient) < 1e-9


def test_the_gram_in_prompt_space_ignores_a_rescaling_that_leaves_the_model_as_it_is(
    tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
) -> None:
    model = build(tiny_backbone_fp64, unequal_classes, [ONE_GROUP], [4], replace(ODD, modules="group"))
    pixels = pixels_of(1, 3)
    before = gram_of(model, losses_of(model, pixels))
    with torch.no_grad():
        model.source /= 8
        model.text_scale *= 8
        model.image_scale *= 8
    after = gram_of(model, losses_of(model, pixels))
    assert relative(after["prompts"], before["prompts"]) < 1e-9
    assert relative(after["parameters"], before["parameters"]) > 0.1


@pytest.mark.parametrize(
    ("shape", "groups", "count"),
    [
        (MmapSettings(), 2, 129_744),
        (MmapSettings(modules="task"), 2, 86_496),
        (MmapSettings(modules="group"), 2, 43_248),
        (MmapSettings(modules="group"), 1, 21_624),
        (MmapSettings(), 1, 108_120),
        (MmapSettings(prompt_length=18, source_rows=6, source_cols=256), 3, 130_284),
        (MmapSettings(prompt_length=16, source_rows=16, source_cols=128), 2, 148_176),
        (MmapSettings(prompt_length=16, source_rows=4, source_cols=4), 4, 124_416),
        (MmapSettings(prompt_length=8, source_rows=8, source_cols=64), 2, 38_304),
    ],
)
def test_counts_on_vit_b_16_are_those_of_the_paper_budget(
    shape: MmapSettings, groups: int, count: int
) -> None:
    vit = read_architecture("ViT-B-16-quickgelu")
    assert get_method("mmap").count(shape, vit, tasks=4, groups=groups) == count


@pytest.mark.parametrize("modules", ["both", "group", "task"])
@pytest.mark.parametrize("options", [{}, {"text_layers": 2}])
def test_the_count_is_that_of_the_saved_tensors(
    unequal_classes: tuple[tuple[str, ...], ...], modules: Any, options: dict[str, int]
) -> None:
    backbone = random_backbone(**options)
    shape = replace(ODD, modules=modules)
    model = build(backbone, unequal_classes, [TWO_GROUPS, ONE_GROUP], [1, 2], shape)
    for replicate, groups in enumerate((2, 1)):
        saved = sum(t.numel() for t in model.replicate_state(replicate).values())
        counted = get_method("mmap").count(shape, backbone.architecture, tasks=3, groups=groups)
        assert saved == counted


@pytest.mark.parametrize(
    ("shape", "deviation"),
    [
        (MmapSettings(prompt_length=8, source_rows=8, source_cols=4), None),
        (MmapSettings(prompt_length=8, source_rows=2, source_cols=4), 1.0),
        (MmapSettings(prompt_length=8, source_rows=8, source_cols=4, scale_init=0.02), 0.02),
    ],
)
def test_scales_start_at_one_only_when_no_rows_are_tied(
    unequal_classes: tuple[tuple[str, ...], ...], shape: MmapSettings, deviation: float | None
) -> None:
    backbone = random_backbone(text_width=256, text_heads=8, image_width=256, layers=2)
    model = build(backbone, unequal_classes, [ONE_GROUP], [3], shape)
    assert model.source.std().item() == pytest.approx(0.02, rel=0.3)
    for scale in (model.text_scale, model.image_scale):
        if deviation is None:
            assert (scale == 1).all()
        else:
            assert scale.std().item() == pytest.approx(deviation, rel=0.3)


def test_modules_layers_and_replicates_start_different(
    tiny_backbone: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
) -> None:
    model = build(tiny_backbone, unequal_classes, [TWO_GROUPS, TWO_GROUPS], [1, 2])
    sources = model.source.detach().flatten(0, 2).flatten(1)
    assert len(torch.unique(sources, dim=0)) == len(sources)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("prompt_length", MmapSettings(prompt_length=0)),
        ("source_rows", MmapSettings(prompt_length=8, source_rows=3)),
        ("source_cols", MmapSettings(prompt_length=14, source_cols=3)),
        ("source_init", MmapSettings(source_init=-1.0)),
        ("scale_init", MmapSettings(scale_init=-0.5)),
        ("scale_init", MmapSettings(source_init=0.0, scale_init=0.0)),
    ],
)
def test_impossible_shapes_name_the_key(key: str, shape: MmapSettings) -> None:
    with pytest.raises(ShapeError) as caught:
        get_method("mmap").check(shape, read_architecture("ViT-B-16-quickgelu"))
    assert caught.value.where == key
    assert caught.value.fix
