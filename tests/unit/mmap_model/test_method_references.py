"""Each method equals a plain reading of its published code, loss and gradients, in float64.

The references know nothing of the prompted forward: placeholders in the string, prompts written over the
tokens of every layer, whole open_clip blocks, the whole context, one task and replicate after another.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.methods import Problem, get_method
from mmap_model.methods.model import TunedModel

TEMPLATE = "a photo of a {}."
PARTITIONS = [((0, 2), (1,)), ((0, 1, 2),)]
SEEDS = (1, 2)


def build(
    name: str, backbone: Backbone, classes: Sequence[Sequence[str]], options: dict[str, Any]
) -> TunedModel:
    method = get_method(name)
    return method.build(
        method.Settings(**options),
        backbone,
        Problem(
            classes=classes,
            template=TEMPLATE,
            partitions=PARTITIONS if method.grouped else [None, None],
            train_seeds=SEEDS,
        ),
    )


def texts_of(names: Sequence[str], template: str = TEMPLATE) -> list[str]:
    return [template.replace("{}", name.replace("_", " ")) for name in names]


def overwritten(x: Tensor, places: slice, prompt: Tensor) -> Tensor:
    return torch.cat([x[:, : places.start], prompt.expand(len(x), -1, -1), x[:, places.stop :]], dim=1)


def published_texts(
    backbone: Backbone, names: Sequence[str], prompts: Sequence[Tensor], template: str = "{}."
) -> Tensor:
    """CoOp and MaPLe: prompts [n, D] in the places of n words "X", in later layers over what was there."""
    clip, length = backbone.clip, len(prompts[0])
    ids = backbone.tokenize([" ".join(["X"] * length + [text]) for text in texts_of(names, template)])
    x, places = clip.token_embedding(ids), slice(1, 1 + length)
    mask = torch.full((77, 77), -torch.inf, dtype=x.dtype).triu(1)
    x = overwritten(x, places, prompts[0]) + clip.positional_embedding
    for layer, block in enumerate(clip.transformer.resblocks):
        if 0 < layer < len(prompts):
            x = overwritten(x, places, prompts[layer])
        x = block(x, attn_mask=mask)
    x = clip.ln_final(x)[torch.arange(len(x)), ids.argmax(dim=1)]
    return F.normalize(x @ clip.text_projection, dim=-1)


def published_images(
    backbone: Backbone, pixels: Tensor, prompts: Sequence[Tensor], before_ln_pre: bool
) -> Tensor:
    """MaPLe and VPT: prompts [n, D] at the end of the sequence, in later layers over what was there."""
    visual, length = backbone.clip.visual, len(prompts[0])
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
    x = x + visual.positional_embedding
    first = prompts[0].expand(len(x), -1, -1)
    x = visual.ln_pre(torch.cat([x, first], 1)) if before_ln_pre else torch.cat([visual.ln_pre(x), first], 1)
    for layer, block in enumerate(visual.transformer.resblocks):
        if 0 < layer < len(prompts):
            x = overwritten(x, slice(x.shape[1] - length, x.shape[1]), prompts[layer])
        x = block(x)
    return F.normalize(visual.ln_post(x[:, 0]) @ visual.proj, dim=-1)


def plain_images(backbone: Backbone, pixels: Tensor) -> Tensor:
    return F.normalize(backbone.clip.encode_image(pixels), dim=-1)


def plain_texts(backbone: Backbone, names: Sequence[str]) -> Tensor:
    return F.normalize(backbone.clip.encode_text(backbone.tokenize(texts_of(names))), dim=-1)


def assert_equal(
    model: TunedModel,
    backbone: Backbone,
    classes: Sequence[Sequence[str]],
    features: Callable[[int, int, Tensor, Sequence[str]], tuple[Tensor, Tensor]],
    scale: Callable[[int, int], Tensor] | None = None,
) -> None:
    """``features`` gives image and class features of replicate, task, pixels and class names."""
    pixels = torch.randn(
        (len(SEEDS), len(classes), 2, 3, 16, 16),
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
    )
    logits = model.logits(pixels)
    ours, theirs = [], []
    for replicate in range(len(SEEDS)):
        for task, names in enumerate(classes):
            images, texts = features(replicate, task, pixels[replicate, task], names)
            factor = scale(replicate, task) if scale else backbone.clip.logit_scale
            expected = factor.exp() * images @ texts.T
            actual = logits[replicate, task, :, : len(names)]
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)
            for loss, scores in ((ours, actual), (theirs, expected)):
                loss.append((1 + replicate + task) * -scores.log_softmax(-1)[:, -1].mean())
    parameters = dict(model.named_parameters())
    gradients = [
        torch.autograd.grad(sum(losses), list(parameters.values()))
        for losses in (ours, theirs)  # type: ignore[arg-type]
    ]
    for name, actual, expected in zip(parameters, *gradients, strict=True):
        assert expected.abs().max() > 0, name
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9 * expected.abs().max().item())


def copy_of(regime: str, task: int) -> int:
    return task if regime == "single" else 0


@pytest.mark.parametrize("regime", ["single", "multi"])
@pytest.mark.parametrize(("layers", "length", "template"), [(1, 4, "{}."), (3, 1, "{}"), (3, 5, "{} here.")])
def test_coop(
    unequal_classes: tuple[tuple[str, ...], ...], regime: str, layers: int, length: int, template: str
) -> None:
    backbone = random_backbone(dtype=torch.float64, seed=layers, layers=layers)
    options = {"prompt_length": length, "template": template, "regime": regime}
    model = build("coop", backbone, unequal_classes, options)
    context = model.get_parameter("context")

    def features(r: int, t: int, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        prompts = [context[r, copy_of(regime, t)]]
        return plain_images(backbone, pixels), published_texts(backbone, names, prompts, template)

    assert_equal(model, backbone, unequal_classes, features)


@pytest.mark.parametrize("regime", ["single", "multi"])
@pytest.mark.parametrize("before_ln_pre", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3, None])
def test_vpt(
    tiny_backbone_fp64: Backbone,
    unequal_classes: tuple[tuple[str, ...], ...],
    depth: int | None,
    before_ln_pre: bool,
    regime: str,
) -> None:
    options = {"prompt_length": 4, "depth": depth, "before_ln_pre": before_ln_pre, "regime": regime}
    model = build("vpt", tiny_backbone_fp64, unequal_classes, options)
    prompts = model.get_parameter("prompts")

    def features(r: int, t: int, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        images = published_images(tiny_backbone_fp64, pixels, prompts[r, copy_of(regime, t)], before_ln_pre)  # type: ignore[arg-type]
        return images, plain_texts(tiny_backbone_fp64, names)

    assert_equal(model, tiny_backbone_fp64, unequal_classes, features)
    assert not model.class_features().requires_grad


@pytest.mark.parametrize("regime", ["single", "multi"])
@pytest.mark.parametrize("before_ln_pre", [False, True])
@pytest.mark.parametrize(
    ("layers", "text_layers", "depth"), [(3, 3, 1), (3, 3, 2), (3, 3, None), (3, 2, 2), (2, 4, None)]
)
def test_maple(
    unequal_classes: tuple[tuple[str, ...], ...],
    layers: int,
    text_layers: int,
    depth: int | None,
    before_ln_pre: bool,
    regime: str,
) -> None:
    backbone = random_backbone(dtype=torch.float64, seed=layers, layers=layers, text_layers=text_layers)
    options = {"prompt_length": 3, "depth": depth, "before_ln_pre": before_ln_pre, "regime": regime}
    model = build("maple", backbone, unequal_classes, options)
    prompts, weight, bias = (model.get_parameter(name) for name in ("prompts", "weight", "bias"))
    assert prompts.shape[2] == (depth or min(layers, text_layers))

    def features(r: int, t: int, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        own = (r, copy_of(regime, t))
        image_prompts = [F.linear(*parts) for parts in zip(prompts[own], weight[own], bias[own], strict=True)]
        images = published_images(backbone, pixels, image_prompts, before_ln_pre)
        return images, published_texts(backbone, names, prompts[own].unbind(0))

    assert_equal(model, backbone, unequal_classes, features)


def test_the_deep_linears_of_maple_start_as_clones_of_one(tiny_backbone_fp64: Backbone) -> None:
    model = build("maple", tiny_backbone_fp64, [["dog", "cat"]] * 2, {"regime": "single"})
    for name in ("weight", "bias"):
        tensor = model.get_parameter(name)
        assert torch.equal(tensor[:, :, 1], tensor[:, :, 2])
        assert not torch.equal(tensor[:, :, 0], tensor[:, :, 1])
        assert tensor.abs().max() <= 32**-0.5 < 1.1 * tensor.abs().max()
        assert torch.equal(tensor[:, 0], tensor[:, 1]), "copies of one seed start equal"


@pytest.mark.parametrize("options", [{}, {"shared": True}, {"biases": False, "ratio": 1.0, "reduction": 2}])
def test_clip_adapter(
    tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...], options: dict[str, Any]
) -> None:
    backbone = tiny_backbone_fp64
    model = build("clip_adapter", backbone, unequal_classes, options)
    tensors = dict(model.named_parameters())
    ratio = options.get("ratio", 0.2)

    def features(r: int, t: int, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        own = {name: tensor[r, 0 if options.get("shared") else t] for name, tensor in tensors.items()}
        image = backbone.clip.encode_image(pixels)
        hidden = F.linear(image, own["down_weight"], own.get("down_bias")).relu()
        adapted = F.linear(hidden, own["up_weight"], own.get("up_bias")).relu()
        mixed = ratio * adapted + (1 - ratio) * image
        return F.normalize(mixed, dim=-1), plain_texts(backbone, names)

    assert_equal(model, backbone, unequal_classes, features)
    assert not model.class_features().requires_grad


@pytest.mark.parametrize("modules", ["both", "group", "task"])
@pytest.mark.parametrize(("name", "positions"), [("joint", "original"), ("mlp", "assembled")])
@pytest.mark.parametrize(("layers", "text_layers"), [(3, 3), (2, 3)])
def test_joint_and_mlp_prompts(
    reference_features: Any,
    unequal_classes: tuple[tuple[str, ...], ...],
    name: str,
    positions: str,
    modules: str,
    layers: int,
    text_layers: int,
) -> None:
    backbone = random_backbone(dtype=torch.float64, seed=7, layers=layers, text_layers=text_layers)
    model = build(
        name, backbone, unequal_classes, {"prompt_length": 2, "positions": positions, "modules": modules}
    )
    tensors = dict(model.named_parameters())

    def prompts(r: int, t: int, tower: str) -> list[Tensor]:
        group = next(g for g, members in enumerate(PARTITIONS[r]) if t in members)
        first_task = 0 if modules == "task" else 2
        places = {"both": [group, first_task + t], "group": [group], "task": [t]}[modules]
        if name == "joint":
            return [torch.cat([layer[m] for m in places]) for layer in tensors[tower][r].transpose(0, 1)]
        source = torch.cat([tensors["source"][r, m] for m in places])
        linears = zip(tensors[f"{tower}_weight"][r], tensors[f"{tower}_bias"][r], strict=True)
        return [F.linear(source, weight, bias) for weight, bias in linears]

    def features(r: int, t: int, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = reference_features(
            backbone,
            pixels,
            texts_of(names),
            prompts(r, t, "text"),
            prompts(r, t, "image"),
            positions == "assembled",
        )
        return found

    assert_equal(model, backbone, unequal_classes, features)


@pytest.mark.parametrize(
    ("name", "options"), [("bitfit", {}), ("full_ft", {}), ("full_ft", {"regime": "single"})]
)
def test_tuned_backbones(
    tiny_backbone_fp64: Backbone,
    unequal_classes: tuple[tuple[str, ...], ...],
    name: str,
    options: dict[str, Any],
) -> None:
    classes = [*unequal_classes[:2], unequal_classes[0]]
    model = build(name, tiny_backbone_fp64, classes, options)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise, alpha=0.02)
    own = dict(model.named_parameters())
    regime = options.get("regime", "multi")

    def tuned(r: int, t: int) -> Any:
        clip = copy.deepcopy(tiny_backbone_fp64.clip)
        for key, tensor in own.items():
            path, _, leaf = key.removeprefix("clip/").replace("/", ".").rpartition(".")
            module = clip.get_submodule(path)
            delattr(module, leaf)
            setattr(module, leaf, tensor[r, copy_of(regime, t)])
        return clip

    def features(r: int, t: int, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        clip = tuned(r, t)
        texts = clip.encode_text(tiny_backbone_fp64.tokenize(texts_of(names)))
        return F.normalize(clip.encode_image(pixels), dim=-1), F.normalize(texts, dim=-1)

    assert_equal(model, tiny_backbone_fp64, classes, features, lambda r, t: tuned(r, t).logit_scale)


def test_equal_class_lists_are_encoded_once_where_tasks_share_the_prompts(tiny_backbone: Backbone) -> None:
    classes = [["dog", "cat"], ["dog", "cat"], ["bird"]]
    encoded = {
        (name, regime): build(name, tiny_backbone, classes, {"prompt_length": 2, "regime": regime}).text_sets  # type: ignore[attr-defined]
        for name in ("coop", "maple", "vpt")
        for regime in ("single", "multi")
    }
    for name in ("coop", "maple"):
        assert encoded[name, "single"] == (2, 3)
        assert encoded[name, "multi"] == (2, 2)
    assert encoded["vpt", "single"] == encoded["vpt", "multi"] == (1, 2)
