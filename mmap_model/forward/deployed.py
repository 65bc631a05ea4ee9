"""The image tower as it is used once nothing is trained any more: prompts are kept as keys and values.

Legend: B images, T tasks, P prompt tokens, D width, E embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmap_model.forward.image import embed, has_blocks, keys_of_prompt, plain_features, pool, run_block

if TYPE_CHECKING:
    from open_clip.transformer import VisionTransformer

NONE: Mapping[str, Tensor] = MappingProxyType({})
"""No prompts."""


class DeployedTower(nn.Module):
    """``encode_images`` with every image's prompts chosen by its task, so that a batch may mix tasks.

    Normalising and projecting a prompt that is discarded after its layer depends on nothing but the prompt:
    it is done here, once, and a forward only reads keys and values.

    Attributes:
        visual: open_clip's image tower.
        keys_values_N: of the prompts that layer N discards, [T, P, 2·D].
        entering_N: prompts that enter before layer N and evolve through it and later ones, [T, P, D].
    """

    visual: VisionTransformer

    def __init__(self, visual: VisionTransformer, prompts: Mapping[str, Tensor] = NONE) -> None:
        """The tower with its weights, which are shared, not copied, and prompts by the attributes' names."""
        super().__init__()
        self.visual = visual
        for name, kept in prompts.items():
            self.register_buffer(name, kept.contiguous())

    @classmethod
    @torch.no_grad()
    def of(cls, visual: VisionTransformer, prompts: Sequence[Tensor], *, evolve: bool) -> DeployedTower:
        """With prompts as ``encode_images`` takes them, one [T, P, D] per layer."""
        if not has_blocks(visual):
            return cls(visual)
        blocks = visual.transformer.resblocks
        stays = len(prompts) - 1 if evolve and len(prompts) < len(blocks) else None
        kept = {}
        for layer, (block, prompt) in enumerate(zip(blocks, prompts, strict=False)):
            if layer == stays:
                kept[f"entering_{layer}"] = prompt.detach()
            else:
                kept[f"keys_values_{layer}"] = keys_of_prompt(block, prompt.detach())
        return cls(visual, kept)

    def forward(self, pixels: Tensor, task: Tensor) -> Tensor:
        """Embeddings before normalisation [B, E] of normalised pixels [B, 3, H, W] and tasks [B]."""
        if not has_blocks(self.visual):
            return plain_features(self.visual, pixels)
        x = embed(self, pixels)
        blocks = self.visual.transformer.resblocks
        for layer, block in enumerate(blocks):
            entering, shared = (self._of(name, layer, task) for name in ("entering", "keys_values"))
            if entering is not None:
                x = torch.cat([x, entering.to(x.dtype)], dim=1)
            x = run_block(block, x, shared, 1, layer == len(blocks) - 1)
        return pool(self, x)

    def _of(self, name: str, layer: int, task: Tensor) -> Tensor | None:
        """What each image's task has of a layer's prompts, [B, P, …]."""
        kept: Tensor | None = getattr(self, f"{name}_{layer}", None)
        return None if kept is None else kept[task]
