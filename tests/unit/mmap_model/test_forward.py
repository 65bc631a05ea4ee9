"""The prompted forward equals plain concatenation through whole open_clip blocks, values and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.errors import BackboneError
from mmap_model.forward import ClassPrompts, encode_classes, encode_images
from mmap_model.forward.tokens import pack

TEMPLATE = "a photo of a {}."


def relative(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest entry."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def prompts_of(layers: int, sets: int, length: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (layers, sets, length, width)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def texts_of(names: Sequence[str], template: str = TEMPLATE) -> list[str]:
    return [template.replace("{}", name.replace("_", " ")) for name in names]


@pytest.mark.parametrize("options", [{}, {"text_layers": 2}, {"layers": 1}, {"quick_gelu": True}])
def test_without_prompts_it_is_open_clip(
    unequal_classes: tuple[tuple[str, ...], ...], options: dict[str, Any]
) -> None:
    backbone = random_backbone(dtype=torch.float64, seed=5, **options)
    pixels = torch.randn(2, 3, 3, 16, 16, dtype=torch.float64)
    images = encode_images(backbone.clip, pixels, ())
    assert relative(images.flatten(0, 1), backbone.clip.encode_image(pixels.flatten(0, 1))) < 1e-10
    classes = ClassPrompts(backbone, classes=unequal_classes, template=TEMPLATE, replicates=2)
    features = encode_classes(backbone.clip, classes, ()).unflatten(0, (2, 3))
    for task, names in enumerate(unequal_classes):
        expected = backbone.clip.encode_text(backbone.tokenize(texts_of(names)))
        for replicate in range(2):
            assert relative(features[replicate, task, : len(names)], expected) < 1e-10


@pytest.mark.parametrize("positions", ["original", "assembled"])
@pytest.mark.parametrize(
    ("layers", "text_layers", "depth", "length"), [(3, 3, 3, 5), (3, 2, 2, 1), (2, 4, 2, 3), (1, 1, 1, 2)]
)
def test_loss_and_gradients_equal_concatenation_through_whole_blocks(
    reference_logits: Any,
    unequal_classes: tuple[tuple[str, ...], ...],
    positions: Any,
    layers: int,
    text_layers: int,
    depth: int,
    length: int,
) -> None:
    backbone = random_backbone(dtype=torch.float64, seed=layers, layers=layers, text_layers=text_layers)
    sets = len(unequal_classes)
    text, image = prompts_of(depth, sets, length, 32), prompts_of(depth, sets, length, 48, seed=1)
    pixels = torch.randn(sets, 4, 3, 16, 16, dtype=torch.float64)
    constants = ClassPrompts(
        backbone, classes=unequal_classes, template=TEMPLATE, prompt_length=length, positions=positions
    )
    scale = backbone.clip.logit_scale.exp()
    classes = torch.nn.functional.normalize(encode_classes(backbone.clip, constants, text.unbind(0)), dim=-1)
    images = torch.nn.functional.normalize(encode_images(backbone.clip, pixels, image.unbind(0)), dim=-1)
    ours, theirs = [], []
    for task, names in enumerate(unequal_classes):
        ours.append(scale * images[task] @ classes[task, : len(names)].T)
        theirs.append(
            reference_logits(
                backbone,
                pixels[task],
                texts_of(names),
                text[:, task].unbind(0),
                image[:, task].unbind(0),
                positions == "assembled",
            )
        )
        assert relative(ours[-1], theirs[-1]) < 1e-9
    losses = [sum(-x.log_softmax(-1)[:, 0].mean() for x in logits) for logits in (ours, theirs)]
    assert relative(*losses) < 1e-9
    gradients = [torch.autograd.grad(loss, (text, image)) for loss in losses]
    for actual, expected in zip(*gradients, strict=True):
        assert expected.abs().max() > 0
        assert relative(actual, expected) < 1e-9


def test_prompts_in_one_tower_only_leave_the_other_constant(
    tiny_backbone_fp64: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
) -> None:
    backbone = tiny_backbone_fp64
    pixels = torch.randn(1, 2, 3, 16, 16, dtype=torch.float64)
    image = encode_images(backbone.clip, pixels, prompts_of(3, 1, 2, 48).unbind(0))
    assert image.requires_grad
    constants = ClassPrompts(backbone, classes=unequal_classes, template=TEMPLATE)
    assert not encode_classes(backbone.clip, constants, ()).requires_grad


def test_the_words_that_all_classes_share_are_computed_once(tiny_backbone_fp64: Backbone) -> None:
    constants = ClassPrompts(tiny_backbone_fp64, classes=[["dog", "cat"], ["bird", "cow"]], template=TEMPLATE)
    assert constants.common == 4
    alone = ClassPrompts(tiny_backbone_fp64, classes=[["dog"]], template=TEMPLATE)
    assert alone.common == 6  # all words but the end of text


@pytest.mark.parametrize("template", ["{}.", "{} in a picture", "a sketch of the {}, black and white"])
def test_any_template_reproduces_open_clip(tiny_backbone_fp64: Backbone, template: str) -> None:
    names = ["dog", "hot dog", "dogma", "dog house"]
    constants = ClassPrompts(tiny_backbone_fp64, classes=[names], template=template)
    features = encode_classes(tiny_backbone_fp64.clip, constants, ())[0]
    expected = tiny_backbone_fp64.clip.encode_text(tiny_backbone_fp64.tokenize(texts_of(names, template)))
    assert relative(features, expected) < 1e-10


def test_assembled_positions_must_fit_the_context(tiny_backbone: Backbone) -> None:
    ClassPrompts(tiny_backbone, classes=[["dog"]], template=TEMPLATE, prompt_length=69, positions="assembled")
    with pytest.raises(BackboneError, match="positions: original"):
        ClassPrompts(
            tiny_backbone, classes=[["dog"]], template=TEMPLATE, prompt_length=70, positions="assembled"
        )
    ClassPrompts(tiny_backbone, classes=[["dog"]], template=TEMPLATE, prompt_length=200)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(
            st.lists(st.integers(1, 4), min_size=0, max_size=9), min_size=1, max_size=12, unique_by=tuple
        ),
        min_size=1,
        max_size=3,
    )
)
def test_packing_keeps_every_token_of_every_class(words: list[list[list[int]]]) -> None:
    start, end = 98, 99
    texts = [[[start, *text, end] for text in task] for task in words]
    packing = pack(texts, width=16, context=3)
    common = packing.common.shape[1]
    row_tokens = packing.rows.shape[2]
    for t, task in enumerate(texts):
        assert packing.class_mask[t].sum() == len(task)
        for c, text in enumerate(task):
            row, place = divmod(int(packing.classes[t, c]), packing.ends.shape[2])
            last = int(packing.ends[t, row, place])
            seen = packing.same_class[t, row, last].nonzero().flatten()
            assert packing.common[t].tolist() == text[1 : 1 + common]
            assert packing.rows[t, row, seen].tolist() == text[1 + common :]
            assert packing.positions[t, row, seen].tolist() == list(range(1 + common, len(text)))
            assert seen.tolist() == list(range(last - len(seen) + 1, last + 1))
    lower = torch.ones(row_tokens, row_tokens).tril().bool()
    assert not (packing.same_class & ~lower).any()
    assert packing.same_class.diagonal(dim1=2, dim2=3).all()


def test_bf16_autocast_returns_full_precision(tiny_backbone: Backbone) -> None:
    constants = ClassPrompts(tiny_backbone, classes=[["dog", "cat"]], template=TEMPLATE, prompt_length=2)
    text, image = prompts_of(3, 1, 2, 32).float(), prompts_of(3, 1, 2, 48).float()
    pixels = torch.randn(1, 2, 3, 16, 16)
    full = [
        encode_classes(tiny_backbone.clip, constants, text.unbind(0)),
        encode_images(tiny_backbone.clip, pixels, image.unbind(0)),
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = [
            encode_classes(tiny_backbone.clip, constants, text.unbind(0)),
            encode_images(tiny_backbone.clip, pixels, image.unbind(0)),
        ]
    for actual, expected in zip(mixed, full, strict=True):
        assert actual.dtype == torch.float32
        assert 0 < relative(actual, expected) < 0.05
