"""Methods that leave both towers alone equal a plain reading of their papers' formulas, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.methods import Problem, get_method
from mmap_model.methods.model import TunedModel
from mmap_model.testing.support import CLASSES, IMAGES, NoiseSupport

SEEDS, PARTITIONS = (1, 2), (((0, 2), (1,)), ((0, 1, 2),))
TEMPLATE = "a photo of a {}."
Logits = Callable[[int, int, Tensor], Tensor]


def built(name: str, backbone: Backbone, options: dict[str, Any]) -> TunedModel:
    method = get_method(name)
    settings = method.Settings(**options)
    partitions = PARTITIONS if method.needs_partition(settings) else (None, None)
    problem = Problem(
        classes=CLASSES, template=TEMPLATE, partitions=partitions, train_seeds=SEEDS, images=IMAGES
    )
    model = method.build(settings, backbone, problem)
    if model.fits:
        model.fit(NoiseSupport(SEEDS, backbone))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise, alpha=0.05)
    return model


def raw_texts(backbone: Backbone, names: Sequence[str]) -> Tensor:
    texts = [TEMPLATE.replace("{}", name.replace("_", " ")) for name in names]
    found: Tensor = backbone.clip.encode_text(backbone.tokenize(texts))
    return found


def cosines(backbone: Backbone, images: Tensor, rows: Tensor) -> Tensor:
    scale: Tensor = backbone.clip.logit_scale.exp()
    return scale * F.normalize(images, dim=-1) @ F.normalize(rows, dim=-1).T


def assert_trains_alike(
    model: TunedModel,
    backbone: Backbone,
    logits_of: Logits,
    penalty: Callable[[int, int], Tensor | float] = lambda r, t: 0.0,
) -> None:
    """Logits, losses and gradients; ``logits_of`` replicate, task and raw image embeddings [B, E]."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((2, 3, 2, 3, 16, 16), generator=generator, dtype=torch.float64)
    labels = torch.zeros((2, 3, 2), dtype=torch.int64)
    labels[..., 1] = 1
    classes = model.class_features()
    losses = model.image_losses(model.image_features(pixels), pixels, labels, classes).mean(-1)
    own = model.class_losses(classes)
    losses = losses if own is None else losses + own
    expected = torch.zeros_like(losses)
    for r in range(2):
        for t, names in enumerate(CLASSES):
            logits = logits_of(r, t, backbone.clip.encode_image(pixels[r, t]))
            torch.testing.assert_close(
                model.logits(pixels)[r, t, :, : len(names)], logits, rtol=1e-9, atol=1e-10
            )
            expected[r, t] = F.cross_entropy(logits, labels[r, t]) + penalty(r, t)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-10)
    if not losses.requires_grad:
        return
    weights = torch.arange(1.0, 7.0, dtype=torch.float64).view(2, 3)
    parameters = dict(model.named_parameters())
    ours, theirs = (
        torch.autograd.grad((weights * loss).sum(), list(parameters.values())) for loss in (losses, expected)
    )
    for name, actual, wanted in zip(parameters, ours, theirs, strict=True):
        assert wanted.abs().max() > 0, name
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-9 * wanted.abs().max().item())


def owners(regime: str, r: int, t: int) -> list[str]:
    if regime == "grouped":
        group = next(g for g, members in enumerate(PARTITIONS[r]) if t in members)
        return [f"group {group}", f"task {t}"]
    return [f"task {t}" if regime == "single" else "all"]


def rows_of(model: Any, regime: str, r: int, t: int) -> Tensor:
    """[C, E]: the sum of the rows that act on each class, by name."""
    place = {key: number for number, key in enumerate(model.index.keys[r])}
    return torch.stack(
        [sum(model.rows[r, place[owner, name]] for owner in owners(regime, r, t)) for name in CLASSES[t]]  # type: ignore[misc]
    )


@pytest.mark.parametrize("regime", ["single", "multi", "grouped"])
def test_task_res(tiny_backbone_fp64: Backbone, regime: str) -> None:
    backbone = tiny_backbone_fp64
    model = built("task_res", backbone, {"alpha": 0.7, "regime": regime})

    def logits(r: int, t: int, images: Tensor) -> Tensor:
        return cosines(backbone, images, raw_texts(backbone, CLASSES[t]) + 0.7 * rows_of(model, regime, r, t))

    assert_trains_alike(model, backbone, logits)


@pytest.mark.parametrize("regime", ["single", "multi", "grouped"])
def test_zs_lp(tiny_backbone_fp64: Backbone, regime: str) -> None:
    backbone = tiny_backbone_fp64
    model = built("zs_lp", backbone, {"regime": regime})

    def logits(r: int, t: int, images: Tensor) -> Tensor:
        rows = rows_of(model, regime, r, t)
        return cosines(backbone, images, rows + raw_texts(backbone, CLASSES[t]) * (regime == "grouped"))

    assert_trains_alike(model, backbone, logits)


@pytest.mark.parametrize("name", ["zs_lp", "clap", "task_res"])
@pytest.mark.parametrize("regime", ["single", "multi"])
def test_before_training_rows_are_the_zero_shot_classifier(
    tiny_backbone_fp64: Backbone, name: str, regime: str
) -> None:
    model = get_method(name).build(
        get_method(name).Settings(regime=regime),
        tiny_backbone_fp64,
        Problem(classes=CLASSES, template=TEMPLATE, partitions=[None], train_seeds=[1]),
    )
    for t, names in enumerate(CLASSES):
        plain = F.normalize(raw_texts(tiny_backbone_fp64, names), dim=-1)
        torch.testing.assert_close(model.class_features()[0, t, : len(names)], plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("regime", ["single", "multi"])
def test_clap_holds_each_class_by_its_zero_shot_probability(
    tiny_backbone_fp64: Backbone, regime: str
) -> None:
    backbone, views = tiny_backbone_fp64, 3
    model = built("clap", backbone, {"views": views, "regime": regime})
    support = NoiseSupport(SEEDS, backbone)

    def penalty(r: int, t: int) -> Tensor:
        texts, names = raw_texts(backbone, CLASSES[t]), CLASSES[t]
        total = torch.zeros((), dtype=torch.float64)
        for c in range(len(names)):
            own = support.embeddings(views)[r][t][:, support.labels()[r][t] == c].flatten(0, 1)
            held = cosines(backbone, own, texts).softmax(-1)[:, c].mean()
            total = total + held * (rows_of(model, regime, r, t)[c] - texts[c]).square().sum()
        return total / len(names)

    assert_trains_alike(
        model, backbone, lambda r, t, images: cosines(backbone, images, rows_of(model, regime, r, t)), penalty
    )


def test_clip_adapters_of_a_group_and_a_task_act_by_their_mean(tiny_backbone_fp64: Backbone) -> None:
    backbone = tiny_backbone_fp64
    model = built("clip_adapter", backbone, {"regime": "grouped", "ratio": 0.3})
    tensors = dict(model.named_parameters())

    def logits(r: int, t: int, images: Tensor) -> Tensor:
        group = next(g for g, members in enumerate(PARTITIONS[r]) if t in members)
        adapted = torch.zeros_like(images)
        for place in (group, 2 + t):
            own = {name: tensor[r, place] for name, tensor in tensors.items()}
            hidden = F.linear(images, own["down_weight"], own["down_bias"]).relu()
            adapted = adapted + F.linear(hidden, own["up_weight"], own["up_bias"]).relu() / 2
        rows = raw_texts(backbone, CLASSES[t])
        return cosines(backbone, 0.3 * adapted + 0.7 * images, rows)

    assert_trains_alike(model, backbone, logits)


@pytest.mark.parametrize("regime", ["single", "multi"])
@pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f"])
def test_tip_adapter(tiny_backbone_fp64: Backbone, name: str, regime: str) -> None:
    backbone, alpha, beta = tiny_backbone_fp64, 2.5, 1.5
    model = built(name, backbone, {"alpha": alpha, "beta": beta, "views": 2, "regime": regime})
    support = NoiseSupport(SEEDS, backbone)

    def logits(r: int, t: int, images: Tensor) -> Tensor:
        unit = F.normalize(images, dim=-1)
        cached = torch.zeros(len(images), len(CLASSES[t]), dtype=torch.float64)
        first = 0
        for u, names in enumerate(CLASSES):
            for i, label in enumerate(support.labels()[r][u].tolist()):
                key = F.normalize(support.embeddings(2)[r][u][:, i].mean(0), dim=-1)
                if name == "tip_adapter_f":
                    key = model.keys[r, first + i]  # type: ignore[index]
                if names[label] in CLASSES[t] and (regime == "multi" or u == t):
                    place = CLASSES[t].index(names[label])
                    cached[:, place] += alpha * torch.exp(-beta * (1 - unit @ key))
            first += IMAGES[u]
        return cosines(backbone, images, raw_texts(backbone, CLASSES[t])) + cached

    assert_trains_alike(model, backbone, logits)


def test_a_class_without_images_is_held_fully(tiny_backbone_fp64: Backbone) -> None:
    class NoneOfTheLast(NoiseSupport):
        def labels(self) -> list[list[Tensor]]:
            return [[labels.clamp(max=0) for labels in own] for own in super().labels()]

    model: Any = built("clap", tiny_backbone_fp64, {"views": 1})
    model.fit(NoneOfTheLast(SEEDS, tiny_backbone_fp64))
    assert torch.equal(model.penalty[:, 1, 1], torch.ones(2, dtype=torch.float64))
    assert (model.penalty[:, 1, 0] < 1).all() and (model.penalty[:, 1, 2:] == 0).all()
