"""Faster arithmetic for frozen blocks: the same sums, fewer passes over memory.

What a plain chain of torch operations costs besides its multiplications: QuickGELU is three kernels that
keep two hidden activations for the backward pass, and single-precision products go to MKL, which on AMD
processors leaves half of AVX-512 unused (oneDNN reaches twice the rate; ``benchmarks/step_speed``).

Legend: N tokens of any leading shape, D width, H hidden width of the MLP.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from open_clip.transformer import ResidualAttentionBlock

QUICK = 1.702
"""QuickGELU(x) = x·sigmoid(1.702·x) = SiLU(1.702·x) / 1.702."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias`` of x [N, in] and weight [out, in]."""
    if _by_onednn(x) and not weight.requires_grad and not (bias is not None and bias.requires_grad):
        return _FrozenLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call,no-any-return]
    return F.linear(x, weight, bias)


def residual_mlp(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """``x + mlp(ln_2(x))`` of a block, for x [N, D]."""
    activation = _activation(block.mlp.gelu)
    if activation is None or not _is_plain(x) or any(p.requires_grad for p in _mlp_weights(block)):
        return x + block.mlp(block.ln_2(x))  # type: ignore[no-any-return]
    return _FrozenMlp.apply(x, *_mlp_weights(block), block.ln_2.eps, activation)  # type: ignore[no-untyped-call,no-any-return]


class _FrozenLinear(torch.autograd.Function):
    """By oneDNN in both directions; saves nothing but the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return _product(gradient, weight.t()), None, None


class _FrozenMlp(torch.autograd.Function):
    """LayerNorm, MLP and residual connection; saves the input and one hidden activation.

    For QuickGELU the hidden activation is s = 1.702·h, which costs nothing: LayerNorm's affine part and the
    bias carry the factor. Its inverse cancels in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor,
        shift: Tensor,
        up: Tensor,
        up_bias: Tensor,
        down: Tensor,
        down_bias: Tensor,
        eps: float,
        activation: str,
    ) -> Tensor:
        quick = QUICK if activation == "quick" else 1.0
        normal, mean, rstd = torch.native_layer_norm(x, gain.shape, gain * quick, shift * quick, eps)
        hidden = _product(normal, up, up_bias * quick)
        del normal
        needed = ctx.needs_input_grad[0]
        if activation == "quick":
            active = F.silu(hidden) if needed else F.silu(hidden, inplace=True)
        else:
            active = F.gelu(hidden, approximate=activation)
        out = _product(active, down, down_bias * quick)
        if needed:
            ctx.save_for_backward(x, mean, rstd, hidden, gain, shift, up, down)
            ctx.activation = activation
        return torch.add(x, out, alpha=1 / quick, out=out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, hidden, gain, shift, up, down = ctx.saved_tensors
        inner = _product(gradient, down.t())
        if ctx.activation == "quick":
            torch.ops.aten.silu_backward.grad_input(inner, hidden, grad_input=inner)
        else:
            torch.ops.aten.gelu_backward.grad_input(
                inner, hidden, approximate=ctx.activation, grad_input=inner
            )
        inner = _product(inner, up.t())
        inner = torch.ops.aten.native_layer_norm_backward(
            inner, x, gain.shape, mean, rstd, gain, shift, [True, False, False]
        )[0]
        return inner.add_(gradient), *[None] * 8


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if _by_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    return F.linear(x, weight, bias)


def _by_onednn(x: Tensor) -> bool:
    return x.dtype == torch.float32 and _is_plain(x) and x.device.type == "cpu" and _has_onednn()


def _is_plain(x: Tensor) -> bool:
    """Neither mixed precision nor a compiler decides what runs."""
    return not torch.is_autocast_enabled(x.device.type) and not torch.compiler.is_compiling()


@cache
def _has_onednn() -> bool:
    """By the machine alone, so that equal machines give equal bits."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _activation(module: nn.Module) -> str | None:
    """``quick``, or what ``F.gelu`` calls it; None for any other."""
    if isinstance(module, nn.GELU):
        return module.approximate
    return "quick" if type(module).__name__ == "QuickGELU" else None


def _mlp_weights(block: ResidualAttentionBlock) -> tuple[Tensor, ...]:
    up, down = block.mlp.c_fc, block.mlp.c_proj
    return (block.ln_2.weight, block.ln_2.bias, up.weight, up.bias, down.weight, down.bias)
