"""The class prompts of several tasks as the text tower takes them: ``[SOS, prompts, common words, rows]``.

SOS never sees a prompt: its keys and values are constants of the backbone. The words before the class name
    are
the same for all classes of a task and see only what precedes them: computed once per prompt set. The rest
    of each
class sees SOS, prompts, common words and its own earlier tokens; classes are packed into rows
(``tokens.py``).

Legend: R replicates, T tasks, S = R·T prompt sets, C classes (most of any task), P prompt tokens, M common
words, W rows of Q tokens, Z ends of text in a row (at most), X = P + 1 + M context keys, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.errors import BackboneError
from mmap_model.forward.block import KEYS, finish, normalise, project
from mmap_model.forward.tokens import pack

Positions = Literal["original", "assembled"]


class ClassPrompts(nn.Module):
    """Constants of the text tower for the class lists of T tasks, repeated for R replicates.

    Attributes:
        prompt_length: P.
        common: M.
        class_mask: bool [T, C], False where a task has fewer classes.
        words: embedded common words and rows, [S, M + W·Q, D].
        start: keys and values of SOS in every layer, [layers, 2·D].
        prompt_positions: positional embedding of the first layer's prompts [P, D]; zero for ``original``.
        common_mask: additive, what the common words see of the context, [M, X].
        row_mask: additive, what a row sees of the context and itself, [S·W, 1, Q, X + Q].
        end_mask: the same for the ends of text only, [S·W, 1, Z, X + Q].
        ends: places of the ends of text within their rows, [S·W, Z].
        classes: place of each class among the ends, [S, C].
    """

    class_mask: Tensor
    words: Tensor
    start: Tensor
    prompt_positions: Tensor
    common_mask: Tensor
    row_mask: Tensor
    end_mask: Tensor
    ends: Tensor
    classes: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        classes: Sequence[Sequence[str]],
        template: str,
        replicates: int = 1,
        prompt_length: int = 0,
        positions: Positions = "original",
    ) -> None:
        """Tokenise, pack and embed.

        Args:
            classes: class names of each task; underscores are read as spaces.
            template: ``{}`` stands for the class name.
            prompt_length: P, prompt tokens between SOS and the words.
            positions: ``original`` leaves the words where they are without prompts and gives prompts no
                position; ``assembled`` numbers the assembled text.

        Raises:
            BackboneError: a text is longer than the context.
        """
        super().__init__()
        shift = prompt_length if positions == "assembled" else 0
        texts = [
            _tokens(backbone, [class_text(template, name) for name in names], shift) for names in classes
        ]
        packing = pack(texts, width=backbone.architecture.text.width, context=1 + prompt_length)
        self.prompt_length, self.common = prompt_length, packing.common.shape[1]
        context = prompt_length + 1 + self.common
        row_mask = _additive(F.pad(packing.same_class, (context, 0), value=True), backbone.dtype)
        end_mask = row_mask.take_along_dim(packing.ends[..., None], dim=2)
        earlier = torch.ones(self.common, self.common, dtype=torch.bool).tril()
        constants = {
            "class_mask": packing.class_mask,
            "words": _repeat(
                _embed(backbone, packing.common, packing.rows, packing.positions, shift), replicates
            ),
            "start": start_of_text(backbone),
            "prompt_positions": _positions(backbone, prompt_length, shift),
            "common_mask": _additive(F.pad(earlier, (prompt_length + 1, 0), value=True), backbone.dtype),
            "row_mask": _repeat(row_mask, replicates).flatten(0, 1).unsqueeze(1),
            "end_mask": _repeat(end_mask, replicates).flatten(0, 1).unsqueeze(1),
            "ends": _repeat(packing.ends, replicates).flatten(0, 1),
            "classes": _repeat(packing.classes, replicates),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.to(backbone.device).contiguous(), persistent=False)


def class_text(template: str, name: str) -> str:
    """The text of a class."""
    return template.replace("{}", name.replace("_", " "))


@torch.no_grad()
def start_of_text(backbone: Backbone) -> Tensor:
    """Keys and values of the SOS token in every layer, [layers, 2·D]: it sees only itself."""
    clip = backbone.clip
    start = backbone.tokenize([""])[:1, :1].to(backbone.device)
    x = clip.token_embedding(start) + clip.positional_embedding[:1]
    result = []
    for block in clip.transformer.resblocks:
        keys_values = project(block, normalise(block, x), KEYS)
        result.append(keys_values.flatten())
        x = finish(block, x, keys_values[..., x.shape[-1] :])
    return torch.stack(result)


def _tokens(backbone: Backbone, texts: Sequence[str], shift: int) -> list[list[int]]:
    """Token ids of each text without padding. Raises BackboneError where ``shift`` prompts leave no room."""
    ids = backbone.tokenize(texts)
    lengths = (ids.argmax(dim=1) + 1).tolist()  # the end of text has the largest id
    limit = backbone.architecture.context_length
    for text, length in zip(texts, lengths, strict=True):
        if length + shift > limit:
            raise BackboneError(
                f"{text!r} has {length} tokens besides {shift} prompt tokens; the text tower takes {limit}",
                where="positions",
                fix="use shorter prompts, a shorter template, or positions: original",
            )
    return [row[:length] for row, length in zip(ids.tolist(), lengths, strict=True)]


@torch.no_grad()
def _embed(backbone: Backbone, common: Tensor, rows: Tensor, positions: Tensor, shift: int) -> Tensor:
    """Token and positional embeddings of common words and rows, [T, M + W·Q, D]."""
    clip = backbone.clip
    ids = torch.cat([common, rows.flatten(1)], dim=1).to(backbone.device)
    first = torch.arange(1, 1 + common.shape[1]).expand(len(common), -1)
    places = torch.cat([first, positions.flatten(1)], dim=1) + shift
    words: Tensor = clip.token_embedding(ids) + clip.positional_embedding[places.to(backbone.device)]
    return words


def _positions(backbone: Backbone, prompt_length: int, shift: int) -> Tensor:
    if shift == 0:
        return torch.zeros(prompt_length, backbone.architecture.text.width, dtype=backbone.dtype)
    return backbone.clip.positional_embedding[1 : 1 + prompt_length].detach()  # type: ignore[no-any-return]


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -torch.inf)


def _repeat(per_task: Tensor, replicates: int) -> Tensor:
    """[T, …] → [R·T, …], set r·T + t being task t."""
    return per_task.expand(replicates, *per_task.shape).flatten(0, 1)
