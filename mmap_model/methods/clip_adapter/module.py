"""The trainable bottleneck of CLIP-Adapter.

Legend: R replicates, T tasks, N copies (1 or T), B images, E embedding, H hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    Where a group's adapter and a task's own act, the mean of both stands in place of one.

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
            regime=settings.regime or ("multi" if settings.shared else "single"),
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
            if self.layout is None:
                adapted = self._adapted(embeddings, lambda tensor: tensor)
            else:
                adapted = self._adapted(embeddings.unsqueeze(2), self.of_tasks).mean(2)
            return F.normalize(self._ratio * adapted + (1 - self._ratio) * embeddings, dim=-1)

    def _adapted(self, x: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
        """ReLU(W₂·ReLU(W₁·x)) of x [..., B, E] by the copies ``of`` gives, [..., outputs, inputs]."""
        for weight, bias in ((self.down_weight, self.down_bias), (self.up_weight, self.up_bias)):
            x = x @ of(weight).transpose(-1, -2)
            x = (x if bias is None else x + of(bias).unsqueeze(-2)).relu()
        return x
