"""Where mixed precision ends: features, logits and losses are computed in the precision of the weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """A context without autocast on the device of ``like``: bf16 logits near 25 are 0.125 apart, they tie."""
    if torch.compiler.is_exporting():  # nothing is cast there, and the context would become part of the graph
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)


def exact_products() -> None:
    """Let this process round no factor of a single-precision product: TF32 has 10 bits of mantissa.

    torch leaves products exact, but lets convolutions round, and an environment may say otherwise
    (``TORCH_ALLOW_TF32_CUBLAS_OVERRIDE`` in the vendor's images). Cells of ``fp32`` are compared across
    machines, so it must not decide.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
