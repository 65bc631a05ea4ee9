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
    activation, weights = _activation(block.mlp.gelu), _mlp_weights(block)
    compiling = torch.compiler.is_compiling()
    if activation is None or compiling or any(p.requires_grad for p in weights):
        return x + block.mlp(block.ln_2(x))  # type: ignore[no-any-return]
    device = x.device.type
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        return _FrozenMlp.apply(x, *weights, block.ln_2.eps, activation, low)  # type: ignore[no-untyped-call,no-any-return]


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

    Under autocast, products are taken and the hidden activation is kept in its precision ``low``, LayerNorm
    in that of its weights.
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
        low: torch.dtype,
    ) -> Tensor:
        quick = QUICK if activation == "quick" else 1.0
        full = x.to(gain.dtype)
        normal, mean, rstd = torch.native_layer_norm(full, gain.shape, gain * quick, shift * quick, eps)
        up, down = up.to(low), down.to(low)
        hidden = _product(normal.to(low), up, (up_bias * quick).to(low))
        del full, normal
        needed = ctx.needs_input_grad[0]
        if activation == "quick":
            active = F.silu(hidden) if needed else F.silu(hidden, inplace=True)
        else:
            active = F.gelu(hidden, approximate=activation)
        out = _product(active, down, (down_bias * quick).to(low))
        if needed:
            ctx.save_for_backward(x, mean, rstd, hidden, gain, shift, up, down)
            ctx.activation = activation
        if out.dtype != x.dtype:
            return torch.add(x, out, alpha=1 / quick)
        return torch.add(x, out, alpha=1 / quick, out=out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False):
            return _FrozenMlp._backward(ctx, gradient), *[None] * 9

    @staticmethod
    def _backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, mean, rstd, hidden, gain, shift, up, down = ctx.saved_tensors
        inner = _product(gradient.to(hidden.dtype), down.t())
        if ctx.activation == "quick":
            torch.ops.aten.silu_backward.grad_input(inner, hidden, grad_input=inner)
        else:
            torch.ops.aten.gelu_backward.grad_input(
                inner, hidden, approximate=ctx.activation, grad_input=inner
            )
        inner = _product(inner, up.t()).to(gain.dtype)
        inner = torch.ops.aten.native_layer_norm_backward(
            inner, x.to(gain.dtype), gain.shape, mean, rstd, gain, shift, [True, False, False]
        )[0]
        total: Tensor = inner.to(gradient.dtype).add_(gradient)
        return total


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
