"""The faster kernels of frozen blocks give what open_clip's own modules give, values and gradients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.forward import kernels
from mmap_model.forward.kernels import linear, residual_mlp
from mmap_model.methods import Problem, get_method

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}


@pytest.fixture(params=[True, False], ids=["onednn", "mkl"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(kernels, "_has_onednn", lambda: request.param)
    yield


def relative(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def value_and_gradient(function, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    x = x.clone().requires_grad_()
    out = function(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    return out.detach(), gradient


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mlp_of_a_block(quick_gelu: bool, dtype: torch.dtype) -> None:
    block = random_backbone(dtype=dtype, quick_gelu=quick_gelu).clip.visual.transformer.resblocks[1]
    x = torch.randn(2, 7, 48, dtype=dtype) * 3
    ours = value_and_gradient(lambda x: residual_mlp(block, x), x)
    theirs = value_and_gradient(lambda x: x + block.mlp(block.ln_2(x)), x)
    for actual, expected in zip(ours, theirs, strict=True):
        assert relative(actual, expected) < TOLERANCE[dtype]
    with torch.no_grad():
        assert relative(residual_mlp(block, x), theirs[0]) < TOLERANCE[dtype]


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_layer(biased: bool, dtype: torch.dtype) -> None:
    weight = torch.randn(96, 48, dtype=dtype)[24:72]
    bias = torch.randn(48, dtype=dtype) if biased else None
    x = torch.randn(48, 3, 5, dtype=dtype).transpose(0, 2)
    ours = value_and_gradient(lambda x: linear(x, weight, bias), x)
    theirs = value_and_gradient(lambda x: F.linear(x, weight, bias), x)
    for actual, expected in zip(ours, theirs, strict=True):
        assert relative(actual, expected) < TOLERANCE[dtype]


@pytest.mark.usefixtures("products")
def test_weights_in_training_get_their_gradients(tiny_backbone: Backbone) -> None:
    block = tiny_backbone.clip.visual.transformer.resblocks[0]
    x = torch.randn(2, 5, 48)
    weight, bias = (p.detach().clone().requires_grad_() for p in (block.mlp.c_fc.weight, block.mlp.c_fc.bias))
    linear(x, block.mlp.c_fc.weight, bias).sum().backward()
    linear(x, weight, block.mlp.c_fc.bias).sum().backward()
    assert bias.grad is not None and weight.grad is not None
    block.ln_2.bias.requires_grad_(True)
    try:
        residual_mlp(block, x).sum().backward()
        assert block.ln_2.bias.grad is not None
    finally:
        block.ln_2.bias.grad = None
        block.ln_2.bias.requires_grad_(False)


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mlp_of_a_block_in_mixed_precision(quick_gelu: bool, dtype: torch.dtype) -> None:
    backbone = random_backbone(quick_gelu=quick_gelu)
    block, lowered = (c.visual.transformer.resblocks[1] for c in (backbone.clip, backbone.in_bf16))
    x = (torch.randn(2, 7, 48) * 3).to(dtype)
    exact = value_and_gradient(lambda x: x + block.mlp(block.ln_2(x)), x.float())
    with torch.autocast("cpu", torch.bfloat16):
        ours = value_and_gradient(lambda x: residual_mlp(block, x), x)
        again = value_and_gradient(lambda x: residual_mlp(lowered, x), x)
    for actual, same, expected in zip(ours, again, exact, strict=True):
        assert actual.dtype == dtype
        assert torch.equal(actual, same)
        assert 0 < relative(actual.float(), expected) < 0.02


def test_lowered_matrices_give_the_bits_of_autocast(
    tiny_backbone: Backbone, unequal_classes: tuple[tuple[str, ...], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = get_method("mmap")
    model = method.build(
        method.Settings(prompt_length=4, source_rows=2, source_cols=8),
        tiny_backbone,
        Problem(
            classes=unequal_classes, template="a photo of a {}.", partitions=[((0, 1), (2,))], train_seeds=[1]
        ),
    )
    pixels = torch.randn(1, 3, 2, 3, 16, 16)
    found = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.logits(pixels)
        losses = -logits.log_softmax(-1)[..., 0].sum()
        found.append([logits, *torch.autograd.grad(losses, list(model.parameters()))])
        monkeypatch.setattr(type(tiny_backbone), "in_bf16", tiny_backbone.clip)
    for actual, expected in zip(*found, strict=True):
        assert torch.equal(actual, expected)
    weights = tiny_backbone.clip.visual.transformer.resblocks[0].mlp.c_fc.weight
    assert weights.dtype == torch.float32


def test_mixed_precision_is_left_to_autocast(tiny_backbone: Backbone) -> None:
    block = tiny_backbone.clip.visual.transformer.resblocks[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(4, 48), block.mlp.c_fc.weight, None).dtype == torch.bfloat16
