"""The trainable bottleneck of CLIP-Adapter.

Legend: R replicates, T tasks, N copies (1 or T), B images, E embedding, H hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.precision import full_precision
from mmap_model.methods.clip_adapter import ClipAdapterSettings
from mmap_model.methods.copies import CopiedModel
from mmap_model.methods.initial import linear
from mmap_model.methods.problem import Problem


class ClipAdapterModel(CopiedModel):
    """ratio·ReLU(W₂·ReLU(W₁·f)) + (1 - ratio)·f of the image embedding f before it is normalised.

    Nothing of the backbone needs a gradient: both towers run without.

    Attributes:
        down_weight: W₁, [R, N, H, E], with ``down_bias`` [R, N, H].
        up_weight: W₂, [R, N, E, H], with ``up_bias`` [R, N, E].
    """

    constant_images = True
    down_weight: nn.Parameter
    up_weight: nn.Parameter
    down_bias: nn.Parameter | None
    up_bias: nn.Parameter | None

    def __init__(self, settings: ClipAdapterSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(
            backbone,
            problem,
            name="clip_adapter",
            per_task=not settings.shared,
        )
        width = backbone.architecture.embed_dim
        hidden = width // settings.reduction
        for name, outputs, inputs in (("down", hidden, width), ("up", width, hidden)):
            shapes: dict[str, tuple[int, ...]] = {"weight": (outputs, inputs), "bias": (outputs,)}
            for part, shape in shapes.items():
                if part == "bias" and not settings.biases:
                    self.register_parameter(f"{name}_bias", None)
                else:
                    self.register_copies(f"{name}_{part}", partial(linear, shape=shape, inputs=inputs))
        self._ratio = settings.ratio

    def image_prompts(self) -> Sequence[Tensor]:
        return ()

    def finish_images(self, embeddings: Tensor) -> Tensor:
        with full_precision(embeddings):
            hidden = _linear(embeddings, self.down_weight, self.down_bias).relu()
            adapted = _linear(hidden, self.up_weight, self.up_bias).relu()
            return F.normalize(self._ratio * adapted + (1 - self._ratio) * embeddings, dim=-1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[R, T, B, inputs] by the copies' own weights [R, N, outputs, inputs]."""
    product = x @ weight.transpose(-1, -2)
    return product if bias is None else product + bias.unsqueeze(-2)
