"""Free prompts in both towers equal a plain reading of the published code: losses, gradients, in float64.

The references write prompts over the tokens of whole padded sequences, one task and replicate after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.errors import BackboneError, ShapeError
from mmap_model.methods import Problem, get_method
from mmap_model.methods.model import TunedModel
from mmap_model.templates import TEMPLATE_SETS
from mmap_model.testing.support import CLASSES

SEEDS, PARTITIONS = (1, 2), (((0, 2), (1,)), ((0, 1, 2),))
TEMPLATE = "a photo of a {}."


def built(name: str, backbone: Backbone, options: dict[str, Any], noise: float = 0.02) -> TunedModel:
    method = get_method(name)
    settings = method.Settings(**options)
    partitions = PARTITIONS if method.needs_partition(settings) else (None, None)
    problem = Problem(classes=CLASSES, template=TEMPLATE, partitions=partitions, train_seeds=SEEDS)
    model = method.build(settings, backbone, problem)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(drawn, alpha=noise)
    return model


def worded(names: Sequence[str], template: str) -> list[str]:
    return [template.replace("{}", name.replace("_", " ")) for name in names]


def over(x: Tensor, places: slice, prompt: Tensor) -> Tensor:
    return torch.cat([x[:, : places.start], prompt.expand(len(x), -1, -1), x[:, places.stop :]], dim=1)


def published_texts(
    backbone: Backbone, names: Sequence[str], prompts: Sequence[Tensor], template: str
) -> Tensor:
    clip, length = backbone.clip, len(prompts[0])
    ids = backbone.tokenize([" ".join(["X"] * length + [text]) for text in worded(names, template)])
    x, places = clip.token_embedding(ids), slice(1, 1 + length)
    mask = torch.full((77, 77), -torch.inf, dtype=x.dtype).triu(1)
    x = over(x, places, prompts[0]) + clip.positional_embedding
    for layer, block in enumerate(clip.transformer.resblocks):
        x = block(over(x, places, prompts[layer]) if 0 < layer < len(prompts) else x, attn_mask=mask)
    x = clip.ln_final(x)[torch.arange(len(x)), ids.argmax(dim=1)]
    return F.normalize(x @ clip.text_projection, dim=-1)


def published_images(backbone: Backbone, pixels: Tensor, prompts: Sequence[Tensor]) -> Tensor:
    visual, length = backbone.clip.visual, len(prompts[0])
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
    x = torch.cat([x + visual.positional_embedding, prompts[0].expand(len(x), -1, -1)], 1)
    x = visual.ln_pre(x)
    for layer, block in enumerate(visual.transformer.resblocks):
        if 0 < layer < len(prompts):
            x = over(x, slice(x.shape[1] - length, x.shape[1]), prompts[layer])
        x = block(x)
    return F.normalize(visual.ln_post(x[:, 0]) @ visual.proj, dim=-1)


def plain(backbone: Backbone, names: Sequence[str], template: str) -> Tensor:
    found: Tensor = backbone.clip.encode_text(backbone.tokenize(worded(names, template)))
    return found


def assert_trains_alike(
    model: TunedModel,
    backbone: Backbone,
    features: Callable[[int, int, Tensor], tuple[Tensor, Tensor]],
    more: Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor] | None = None,
) -> None:
    """Logits, losses and gradients; ``features`` of replicate, task, pixels; ``more`` joins the loss."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((2, 3, 2, 3, 16, 16), generator=generator, dtype=torch.float64)
    labels = torch.zeros((2, 3, 2), dtype=torch.int64)
    labels[..., 1] = 1
    classes, scale = model.class_features(), backbone.clip.logit_scale.exp()
    losses = model.image_losses(model.image_features(pixels), pixels, labels, classes).mean(-1)
    own = model.class_losses(classes)
    losses, expected = losses if own is None else losses + own, torch.zeros_like(losses)
    for r in range(2):
        for t, names in enumerate(CLASSES):
            images, texts = features(r, t, pixels[r, t])
            logits = scale * images @ texts.T
            torch.testing.assert_close(
                model.logits(pixels)[r, t, :, : len(names)], logits, rtol=1e-9, atol=1e-9
            )
            expected[r, t] = F.cross_entropy(logits, labels[r, t])
            if more is not None:
                expected[r, t] = expected[r, t] + more(t, pixels[r, t], images, texts, logits)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-10)
    weights = torch.arange(1.0, 7.0, dtype=torch.float64).view(2, 3)
    parameters = dict(model.named_parameters())
    ours, theirs = (
        torch.autograd.grad((weights * loss).sum(), list(parameters.values())) for loss in (losses, expected)
    )
    for name, actual, wanted in zip(parameters, ours, theirs, strict=True):
        assert wanted.abs().max() > 0, name
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-9 * wanted.abs().max().item())


def copies(regime: str, r: int, t: int) -> list[int]:
    if regime != "grouped":
        return [t if regime == "single" else 0]
    return [next(g for g, members in enumerate(PARTITIONS[r]) if t in members), 2 + t]


def prompts_of(tensor: Tensor, regime: str, r: int, t: int) -> list[Tensor]:
    """By layer [J·n, D]: the group's before the task's own."""
    return [
        torch.cat([tensor[r, c, layer] for c in copies(regime, r, t)]) for layer in range(tensor.shape[2])
    ]


@pytest.mark.parametrize("regime", ["single", "multi", "grouped"])
@pytest.mark.parametrize(("text_depth", "image_depth"), [(None, None), (1, 2)])
def test_ivlp(regime: str, text_depth: int | None, image_depth: int | None) -> None:
    backbone = random_backbone(dtype=torch.float64, seed=7, layers=3, text_layers=2)
    options = {"text_length": 2, "image_length": 3, "text_depth": text_depth, "image_depth": image_depth}
    model: Any = built("ivlp", backbone, {**options, "regime": regime})
    assert model.text.shape[2:4] == (text_depth or 2, 2) and model.image.shape[2:4] == (image_depth or 3, 3)

    def features(r: int, t: int, pixels: Tensor) -> tuple[Tensor, Tensor]:
        images = published_images(backbone, pixels, prompts_of(model.image, regime, r, t))
        return images, published_texts(backbone, CLASSES[t], prompts_of(model.text, regime, r, t), "of a {}.")

    assert_trains_alike(model, backbone, features)


def test_vpt_of_groups_and_tasks_stands_side_by_side(tiny_backbone_fp64: Backbone) -> None:
    backbone = tiny_backbone_fp64
    options = {"prompt_length": 2, "depth": 2, "before_ln_pre": True, "regime": "grouped"}
    model: Any = built("vpt", backbone, options)

    def features(r: int, t: int, pixels: Tensor) -> tuple[Tensor, Tensor]:
        images = published_images(backbone, pixels, prompts_of(model.prompts, "grouped", r, t))
        return images, F.normalize(plain(backbone, CLASSES[t], TEMPLATE), dim=-1)

    assert_trains_alike(model, backbone, features)


@pytest.mark.parametrize("regime", ["single", "multi"])
@pytest.mark.parametrize("anchors", ["clip_7", "one {} of many"])
def test_promptsrc(tiny_backbone_fp64: Backbone, regime: str, anchors: str) -> None:
    backbone = tiny_backbone_fp64
    weights = {"text_weight": 3.0, "image_weight": 2.0, "logits_weight": 0.5}
    options = {"prompt_length": 3, "depth": 2, "regime": regime, "anchors": anchors, **weights}
    model: Any = built("promptsrc", backbone, options)
    texts = TEMPLATE_SETS.get(anchors, (anchors,))

    def features(r: int, t: int, pixels: Tensor) -> tuple[Tensor, Tensor]:
        images = published_images(backbone, pixels, prompts_of(model.image, regime, r, t))
        return images, published_texts(backbone, CLASSES[t], prompts_of(model.text, regime, r, t), "{}.")

    def held(t: int, pixels: Tensor, images: Tensor, found: Tensor, logits: Tensor) -> Tensor:
        frozen = F.normalize(backbone.clip.encode_image(pixels), dim=-1)
        mean = torch.stack([plain(backbone, CLASSES[t], text) for text in texts]).mean(0)
        anchor = F.normalize(mean, dim=-1)
        zero_shot = backbone.clip.logit_scale.exp() * frozen @ anchor.T
        divergence = F.kl_div(
            logits.log_softmax(1), zero_shot.log_softmax(1), reduction="sum", log_target=True
        )
        return (
            3.0 * F.l1_loss(found, anchor)
            + 2.0 * F.l1_loss(images, frozen)
            + 0.5 * divergence / logits.numel()
        )

    assert_trains_alike(model, backbone, features, held)


@pytest.mark.parametrize(
    ("name", "options", "template"),
    [
        ("coop", {"prompt_length": 4, "init_words": "a photo of a"}, "a photo of a {}."),
        (
            "coop",
            {"prompt_length": 2, "init_words": "a photo of a", "template": "of a {}."},
            "a photo of a {}.",
        ),
        ("maple", {"prompt_length": 4, "depth": 1, "init_words": "a photo of a"}, "a photo of a {}."),
        ("ivlp", {"text_depth": 1}, "a photo of a {}."),
        ("promptsrc", {"depth": 1}, "a photo of a {}."),
    ],
)
def test_prompts_that_start_at_words_read_as_those_words(
    tiny_backbone_fp64: Backbone, name: str, options: dict[str, Any], template: str
) -> None:
    model = built(name, tiny_backbone_fp64, options, noise=0.0)
    for t, names in enumerate(CLASSES):
        wanted = F.normalize(plain(tiny_backbone_fp64, names, template), dim=-1)
        torch.testing.assert_close(model.class_features()[1, t, : len(names)], wanted, rtol=0, atol=1e-11)


def test_in_the_grouped_regime_the_tasks_own_prompt_starts_at_the_words(tiny_backbone_fp64: Backbone) -> None:
    model: Any = built("ivlp", tiny_backbone_fp64, {"regime": "grouped"}, noise=0.0)
    ids = tiny_backbone_fp64.tokenize(["a photo"])[0, 1:3]
    words = tiny_backbone_fp64.clip.token_embedding(ids)
    assert all(torch.equal(model.text[r, 2 + t, 0], words) for r in range(2) for t in range(3))
    assert not torch.equal(model.text[0, 0, 0], words) and not torch.equal(model.text[0, 0], model.text[0, 1])


def test_words_that_are_too_few_or_unknown_are_refused(tiny_backbone_fp64: Backbone) -> None:
    coop = get_method("coop")
    with pytest.raises(ShapeError, match="4 tokens"):
        coop.check(coop.Settings(init_words="a photo of a"), tiny_backbone_fp64.architecture)
    reduced = random_backbone(dtype=torch.float64, seed=3)
    with torch.no_grad():
        reduced.clip.token_embedding.weight[reduced.tokenize(["photo"])[0, 1]] = 0
    with pytest.raises(BackboneError, match=r"lacks words of 'a photo'"):
        built("ivlp", reduced, {})
    with pytest.raises(BackboneError, match="lacks words"):
        built("promptsrc", reduced, {"depth": 2, "init_words": ""})


def test_sets_of_templates_are_those_of_the_library() -> None:
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    assert TEMPLATE_SETS["clip_80"] == tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    assert TEMPLATE_SETS["clip_7"] == tuple(template("{}") for template in SIMPLE_IMAGENET_TEMPLATES)
    assert len(set(TEMPLATE_SETS["clip_60"])) == 60 and "a photo of a {}." in TEMPLATE_SETS["clip_60"]


@pytest.mark.parametrize("start", ["normal", "uniform"])
def test_tokens_of_vpt_may_start_as_published(start: str) -> None:
    backbone = random_backbone(dtype=torch.float64, seed=3)
    model: Any = built("vpt", backbone, {"start": start}, noise=0.0)
    tower = backbone.architecture.image
    bound = (6 / (3 * backbone.architecture.patch_size**2 + tower.width)) ** 0.5
    if start == "uniform":
        assert 0.99 * bound < model.prompts.abs().max() <= bound
        assert model.prompts.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    else:
        assert model.prompts.std().item() == pytest.approx(0.02, rel=0.05)
