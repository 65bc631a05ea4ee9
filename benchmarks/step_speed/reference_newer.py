"""Steps of newer methods the plain way: 77 text tokens for each class, whole blocks, tasks one by one.

The trained numbers are those of the model that is compared, so both reach the same loss and gradients; masks
of dropout are drawn by torch, as the authors' code draws them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from reference import Reference
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.class_texts import class_text
from mmap_model.methods.clip_lora.module import ClipLoraModel
from mmap_model.methods.promptsrc.module import PromptsrcModel


class PlainLora:
    """Losses of CLIP-LoRA: W·x + b + γ·B·A·drop(x) for queries, keys and values, each with its own mask.

    Args:
        model: one replicate of T tasks that share one change, of ``backbone``.
        classes: class names of each task.
        template: of the class prompts.
        gain, dropout: γ, and the share of the branch's input that is dropped.
    """

    def __init__(
        self,
        model: ClipLoraModel,
        backbone: Backbone,
        classes: Sequence[Sequence[str]],
        template: str,
        *,
        gain: float,
        dropout: float,
    ) -> None:
        self._model, self._gain, self._dropout = model, gain, dropout
        self._clip = backbone.clip
        texts = [[class_text(template, name) for name in names] for names in classes]
        self._ids = [backbone.tokenize(own).to(backbone.device) for own in texts]

    def task_loss(self, pixels: Tensor, labels: Tensor, task: int) -> Tensor:
        """Mean cross-entropy of one task of pixels [1, T, B, 3, H, W] and labels [1, T, B]."""
        images = F.normalize(self.images(pixels[0, task]).float(), dim=-1)
        texts = F.normalize(self.texts(self._ids[task]).float(), dim=-1)
        return F.cross_entropy(self._clip.logit_scale.exp() * images @ texts.T, labels[0, task])

    def images(self, pixels: Tensor) -> Tensor:
        """Embeddings [B, E]."""
        visual = self._clip.visual
        x = visual._embeds(pixels)
        down, up = (self._model.get_parameter(name)[0, 0] for name in ("image_down", "image_up"))
        for layer, block in enumerate(visual.transformer.resblocks):
            x = self._block(block, x, down[layer], up[layer], None)
        pooled, _ = visual._pool(x)
        return pooled @ visual.proj  # type: ignore[no-any-return]

    def texts(self, ids: Tensor) -> Tensor:
        """Embeddings [C, E] of token ids [C, 77]."""
        clip, length = self._clip, ids.shape[1]
        x = clip.token_embedding(ids) + clip.positional_embedding[:length]
        mask = torch.full((length, length), -torch.inf, device=x.device, dtype=x.dtype).triu_(1)
        down, up = (self._model.get_parameter(name)[0, 0] for name in ("text_down", "text_up"))
        for layer, block in enumerate(clip.transformer.resblocks):
            x = self._block(block, x, down[layer], up[layer], mask)
        x = clip.ln_final(x)[torch.arange(len(x), device=x.device), ids.argmax(dim=1)]
        return x @ clip.text_projection  # type: ignore[no-any-return]

    def _block(self, block: nn.Module, x: Tensor, down: Tensor, up: Tensor, mask: Tensor | None) -> Tensor:
        attention = block.get_submodule("attn")
        assert isinstance(attention, nn.MultiheadAttention) and attention.in_proj_weight is not None
        tokens = block.get_submodule("ln_1")(x)
        parts = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        changed = [
            part + self._gain * F.dropout(tokens, self._dropout) @ a.T @ b.T
            for part, a, b in zip(parts, down, up, strict=True)
        ]
        heads = [part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in changed]
        found = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        x = x + attention.out_proj(found.transpose(1, 2).flatten(2))
        return x + block.get_submodule("mlp")(block.get_submodule("ln_2")(x))  # type: ignore[no-any-return]


class PlainPromptsrc:
    """Losses of PromptSRC: prompts in the first layers, those of the last of them run on; three distances.

    Args:
        model: one replicate of T tasks that share their prompts.
        classes: class names of each task.
        template: what follows the text prompts.
        weights: of the distances of texts and of images to the frozen features, and of the divergence.
    """

    def __init__(
        self,
        model: PromptsrcModel,
        classes: Sequence[Sequence[str]],
        template: str,
        *,
        weights: tuple[float, float, float],
    ) -> None:
        self._model, self._weights = model, weights
        self._plain = Reference(model, classes, template, assembled=True)
        self._clip = model.backbone.clip

    def task_loss(self, pixels: Tensor, labels: Tensor, task: int) -> Tensor:
        """As `PlainLora.task_loss`, with the distances to the frozen CLIP."""
        of_text, of_image, divergence = self._weights
        text, image = self._model.text_prompts(), self._model.image_prompts()
        images = self._plain.images(pixels[0, task], [own[task % len(own)] for own in image])
        texts = self._plain.texts(self._plain.ids[task], [own[task % len(own)] for own in text])
        images, texts = (F.normalize(found.float(), dim=-1) for found in (images, texts))
        with torch.no_grad():
            frozen = F.normalize(self._clip.encode_image(pixels[0, task]).float(), dim=-1)
        anchors, scale = self._model.anchors[task].float(), self._clip.logit_scale.exp()
        logits, wanted = scale * images @ texts.T, (scale * frozen @ anchors.T).log_softmax(-1)
        apart = F.kl_div(logits.log_softmax(-1), wanted, log_target=True, reduction="batchmean") / len(
            anchors
        )
        loss = F.cross_entropy(logits, labels[0, task]) + divergence * apart
        return loss + of_text * (texts - anchors).abs().mean() + of_image * (images - frozen).abs().mean()
