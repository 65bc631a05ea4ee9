"""Methods that change weights of the towers equal plain open_clip with those weights, in float64.

The references run whole open_clip towers over whole padded texts, one task and replicate after another: what
our forward computes once for all classes (start of text, common words) depends on trained weights there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.methods import Problem, get_method
from mmap_model.methods.model import TunedModel
from mmap_model.testing.support import CLASSES

SEEDS, PARTITIONS = (1, 2), (((0, 2), (1,)), ((0, 1, 2),))
TEMPLATE = "a photo of a {}."
Tuned = Callable[[int, int], Any]


def built(name: str, backbone: Backbone, options: dict[str, Any]) -> TunedModel:
    method = get_method(name)
    settings = method.Settings(**options)
    partitions = PARTITIONS if method.needs_partition(settings) else (None, None)
    problem = Problem(classes=CLASSES, template=TEMPLATE, partitions=partitions, train_seeds=SEEDS)
    model = method.build(settings, backbone, problem)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise, alpha=0.05)
    return model


def with_weights(backbone: Backbone, weights: dict[str, Tensor]) -> Any:
    clip = copy.deepcopy(backbone.clip)
    for name, tensor in weights.items():
        path, _, leaf = name.rpartition(".")
        module = clip.get_submodule(path)
        delattr(module, leaf)
        setattr(module, leaf, tensor)
    return clip


def text_features(backbone: Backbone, clip: Any, names: Sequence[str]) -> Tensor:
    texts = [TEMPLATE.replace("{}", name.replace("_", " ")) for name in names]
    return F.normalize(clip.encode_text(backbone.tokenize(texts)), dim=-1)


def assert_trains_alike(
    model: TunedModel, backbone: Backbone, tuned: Tuned, rows: Callable[[int, int], Tensor] | None = None
) -> None:
    """Features, logits and gradients; class features are the texts' by the tuned CLIP unless ``rows`` are."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((2, 3, 2, 3, 16, 16), generator=generator, dtype=torch.float64)
    logits, images = model.logits(pixels), model.image_features(pixels)
    ours, theirs = [], []
    for r in range(2):
        for t, names in enumerate(CLASSES):
            clip = tuned(r, t)
            features = F.normalize(clip.encode_image(pixels[r, t]), dim=-1)
            classes = F.normalize(rows(r, t), dim=-1) if rows else text_features(backbone, clip, names)
            torch.testing.assert_close(images[r, t], features, rtol=0, atol=1e-11)
            torch.testing.assert_close(
                model.class_features()[r, t, : len(names)], classes, rtol=0, atol=1e-11
            )
            expected = backbone.clip.logit_scale.exp() * features @ classes.T
            actual = logits[r, t, :, : len(names)]
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
            for loss, scores in ((ours, actual), (theirs, expected)):
                loss.append((1 + r + t) * -scores.log_softmax(-1)[:, -1].mean())
    parameters = dict(model.named_parameters())
    found, wanted = (
        torch.autograd.grad(sum(losses), list(parameters.values()), allow_unused=True)  # type: ignore[arg-type]
        for losses in (ours, theirs)
    )
    for name, actual, expected in zip(parameters, found, wanted, strict=True):
        trained = name == "rows" if rows else name != "rows"
        assert (actual is not None) == trained, name
        if trained:
            assert expected.abs().max() > 0, name
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("regime", ["single", "multi", "grouped"])
def test_clip_lora_is_the_clip_with_low_rank_changes(tiny_backbone_fp64: Backbone, regime: str) -> None:
    options = {"rank": 3, "alpha": 2.0, "dropout": 0.0, "regime": regime}
    model = built("clip_lora", tiny_backbone_fp64, options)
    own = dict(model.named_parameters())

    def copies(r: int, t: int) -> list[int]:
        if regime != "grouped":
            return [t if regime == "single" else 0]
        return [next(g for g, members in enumerate(PARTITIONS[r]) if t in members), 2 + t]

    def tuned(r: int, t: int) -> Any:
        weights = {}
        for tower, path in (("text", "transformer"), ("image", "visual.transformer")):
            for layer in range(3):
                name = f"{path}.resblocks.{layer}.attn.in_proj_weight"
                changes = [
                    2.0 / 3**0.5 * own[f"{tower}_up"][r, c, layer, i] @ own[f"{tower}_down"][r, c, layer, i]
                    for i in range(3)
                    for c in copies(r, t)
                ]
                parts = [
                    sum(changes[i * len(copies(r, t)) : (i + 1) * len(copies(r, t))])  # type: ignore[misc]
                    for i in range(3)
                ]
                weights[name] = tiny_backbone_fp64.clip.get_parameter(name) + torch.cat(parts)
        return with_weights(tiny_backbone_fp64, weights)

    assert_trains_alike(model, tiny_backbone_fp64, tuned)


@pytest.mark.parametrize("regime", ["single", "multi"])
@pytest.mark.parametrize("stage", [0, 1])
def test_two_stages(tiny_backbone_fp64: Backbone, regime: str, stage: int) -> None:
    model: Any = built("two_stage", tiny_backbone_fp64, {"regime": regime})
    own = {name: p for name, p in model.named_parameters() if name != "rows"}
    assert len(own) == 2 * 3 * 4, "weight and bias of two LayerNorms in three blocks of two towers"

    def tuned(r: int, t: int) -> Any:
        copy_ = t if regime == "single" else 0
        weights = {n.removeprefix("clip/").replace("/", "."): p[r, copy_] for n, p in own.items()}
        return with_weights(tiny_backbone_fp64, weights)

    if stage == 0:
        assert_trains_alike(model, tiny_backbone_fp64, tuned)
        return
    model.enter_stage(1)
    place = {key: number for number, key in enumerate(model.index.keys[0])}

    def rows(r: int, t: int) -> Tensor:
        return torch.stack([model.rows[r, place[f"task {t}", name]] for name in CLASSES[t]])

    for r in range(2):
        for t, names in enumerate(CLASSES):
            start = text_features(tiny_backbone_fp64, tuned(r, t), names)
            torch.testing.assert_close(rows(r, t), start, rtol=0, atol=1e-11)
    with torch.no_grad():
        model.rows.add_(torch.randn(model.rows.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
    assert_trains_alike(model, tiny_backbone_fp64, tuned, rows)


def test_lora_starts_as_the_plain_clip(tiny_backbone_fp64: Backbone) -> None:
    method = get_method("clip_lora")
    problem = Problem(classes=CLASSES, template=TEMPLATE, partitions=[None], train_seeds=[1])
    model = method.build(method.Settings(), tiny_backbone_fp64, problem)
    plain = text_features(tiny_backbone_fp64, tiny_backbone_fp64.clip, CLASSES[0])
    torch.testing.assert_close(model.class_features()[0, 0, :5], plain, rtol=0, atol=1e-12)


def test_dropout_is_keyed_by_seed_copy_and_step_and_absent_in_evaluation(
    tiny_backbone_fp64: Backbone,
) -> None:
    model = built("clip_lora", tiny_backbone_fp64, {"dropout": 0.5, "regime": "multi"})
    without = built("clip_lora", tiny_backbone_fp64, {"dropout": 0.0, "regime": "multi"})
    pixels = torch.randn((2, 3, 2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).double()

    def at(step: int) -> Tensor:
        model.step = step
        return model.image_features(pixels)

    assert torch.equal(at(1), at(1)) and not torch.equal(at(1), at(2))
    same = pixels[:, :1].expand(-1, 3, -1, -1, -1, -1)
    dropped = model.image_features(same)
    assert not torch.equal(dropped[:, 0], dropped[:, 1]), "every image has masks of its own"
    model.eval()
    assert torch.equal(model.image_features(pixels), without.image_features(pixels))
    assert torch.equal(model.class_features(), without.class_features())


def test_a_dropped_branch_is_right_on_average(tiny_backbone_fp64: Backbone) -> None:
    from mmap_model.methods.clip_lora.module import LowRank

    generator = torch.Generator().manual_seed(0)
    branch = LowRank("image/0", 0.7, 0.25).double()
    branch.down = torch.nn.Parameter(torch.randn(3, 2, 8, generator=generator, dtype=torch.float64))
    branch.up = torch.nn.Parameter(torch.randn(3, 8, 2, generator=generator, dtype=torch.float64))
    x = torch.randn(1, 1, 8, generator=generator, dtype=torch.float64).expand(40_000, 1, 8)
    dropped = branch.train()(x, slice(0, 3))
    exact = branch.eval()(x[:1], slice(0, 3))
    error = (dropped.mean(0) - exact[0]).abs() / (dropped.std(0) / 40_000**0.5)
    assert error.max() < 5, "standard errors of the mean"
    assert (branch.eval()(x[:1], slice(1, 3)) == exact[..., 8:]).all(), "keys and values alone"
