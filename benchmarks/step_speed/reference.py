"""A plain prompted CLIP: prompts concatenated before every layer, dropped after it, whole open_clip blocks.

Where fewer layers have prompts than there are, those of the last one run on.

77 text tokens for every class, one text pass per prompt set, autograd through everything. The prompts are
those of the model that is compared, so both must reach the same loss and the same gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmap_model.class_texts import class_text
from mmap_model.methods.prompted import PromptedModel


class Reference:
    """Losses of ``model`` the plain way.

    Args:
        model: R replicates of T tasks.
        classes: class names of each task.
        template: of the class prompts.
        assembled: positions are those of the assembled text (MaPLe) rather than the words' own (MmAP).
        text_chunk: classes encoded at a time, and again for the backward pass; None: all at once.

    Attributes:
        ids: token ids [C, 77] of each task.
    """

    def __init__(
        self,
        model: PromptedModel,
        classes: Sequence[Sequence[str]],
        template: str,
        *,
        assembled: bool,
        text_chunk: int | None = None,
    ) -> None:
        self._model, self._clip = model, model.backbone.clip
        self._assembled, self._chunk = assembled, text_chunk
        texts = [[class_text(template, name) for name in names] for names in classes]
        self.ids = [model.backbone.tokenize(own).to(model.backbone.device) for own in texts]

    def losses(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy [R, T] of pixels [R, T, B, 3, H, W] and labels [R, T, B]."""
        found = []
        text, image = self._model.text_prompts(), self._model.image_prompts()
        for r in range(self._model.replicates):
            for t in range(self._model.tasks):
                of_text = [p[r * self._model.text_sets[1] + t % self._model.text_sets[1]] for p in text]
                of_image = [p[r * self._model.tasks + t] for p in image]
                images = F.normalize(self.images(pixels[r, t], of_image).float(), dim=-1)
                texts = F.normalize(self.texts(self.ids[t], of_text).float(), dim=-1)
                logits = self._clip.logit_scale.exp() * images @ texts.T
                found.append(F.cross_entropy(logits, labels[r, t]))
        return torch.stack(found).view(self._model.replicates, -1)

    def images(self, pixels: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        """Embeddings [B, E] with prompts [P, D] in every layer."""
        visual = self._clip.visual
        x = visual._embeds(pixels)
        x = _through(visual.transformer.resblocks, x, prompts, None)
        pooled, _ = visual._pool(x)
        return pooled @ visual.proj  # type: ignore[no-any-return]

    def texts(self, ids: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        """Embeddings [C, E] of token ids [C, 77] with prompts [P, D] in every layer."""
        if self._chunk is None:
            return self._texts(ids, *prompts)
        parts = ids.split(self._chunk)
        return torch.cat([checkpoint(self._texts, part, *prompts, use_reentrant=False) for part in parts])

    def _texts(self, ids: Tensor, *prompts: Tensor) -> Tensor:
        clip, length = self._clip, len(prompts[0])
        if self._assembled:
            ids = ids[:, : ids.shape[1] - length]
            table = clip.positional_embedding
            positions = torch.cat([table[:1], table[1 + length :]])
            first = prompts[0] + table[1 : 1 + length]
        else:
            positions, first = clip.positional_embedding, prompts[0]
        x = clip.token_embedding(ids) + positions
        total = ids.shape[1] + length
        mask = torch.full((total, total), -torch.inf, device=x.device).triu_(1)
        x = _through(clip.transformer.resblocks, x, (first, *prompts[1:]), mask)
        x = clip.ln_final(x)[torch.arange(len(x), device=x.device), ids.argmax(dim=1)]
        return x @ clip.text_projection  # type: ignore[no-any-return]


def _through(
    blocks: Iterable[nn.Module], x: Tensor, prompts: Sequence[Tensor], mask: Tensor | None
) -> Tensor:
    """Tokens behind all blocks, without prompts: a layer's own take the place of those before it."""
    length, given = len(prompts[0]), {} if mask is None else {"attn_mask": mask}
    for layer, block in enumerate(blocks):
        if layer < len(prompts):
            own = prompts[layer].to(x.dtype).expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], own, x[:, 1 + length * (layer > 0) :]], dim=1)
        x = block(x, **given)
    return torch.cat([x[:, :1], x[:, 1 + length :]], dim=1)
