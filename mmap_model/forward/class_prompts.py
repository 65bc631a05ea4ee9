"""The class prompts of several tasks as the text tower takes them: ``[SOS, prompts, common words, rows]``.

SOS never sees a prompt: its keys and values are constants of the backbone. The words before the class name
are the same for all classes of a task and see only what precedes them: computed once per prompt set. The
rest of each class sees SOS, prompts, common words and its own earlier tokens; classes are packed into rows
(``tokens.py``).

Legend: R replicates, T tasks, S = R·T prompt sets, C classes (most of any task), P prompt tokens, M common
words, W rows of Q tokens, Z ends of text in a row (at most), X = P + 1 + M context keys, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.class_texts import class_text
from mmap_model.errors import BackboneError
from mmap_model.forward.block import KEYS, finish, normalise, project
from mmap_model.forward.tokens import pack

if TYPE_CHECKING:
    from open_clip import CLIP

Positions = Literal["original", "assembled"]


class Embedded(NamedTuple):
    """Words as one CLIP embeds them.

    Attributes:
        words: common words and rows, [S, M + W·Q, D].
        start: keys and values of SOS in every layer, [layers, 2·D].
    """

    words: Tensor
    start: Tensor


class ClassPrompts(nn.Module):
    """Constants of the text tower for the class lists of T tasks, repeated for R replicates.

    Attributes:
        prompt_length: P.
        common: M.
        class_mask: bool [T, C], False where a task has fewer classes.
        words, start: of ``Embedded``, by the frozen backbone.
        ids: tokens of common words and rows, [S, M + W·Q]; SOS is ``start_id`` [1, 1].
        places: of ``ids`` in their own text, SOS being at 0.
        prompt_positions: positional embedding of the first layer's prompts [P, D]; zero for ``original``.
        common_mask: additive, what the common words see of the context, [M, X].
        leading_mask: the same for evolving prompts and common words, [P + M, X].
        row_mask: additive, what a row sees of the context and itself, [S·W, 1, Q, X + Q].
        end_mask: the same for the ends of text only, [S·W, 1, Z, X + Q].
        ends: place of each class's end of text among the tokens of all rows, [S, C].
        end_classes: class of each of the W·Z ends, [S, W·Z]; zero where a row has fewer.
        classes: place of each class among these, [S, C].
    """

    class_mask: Tensor
    words: Tensor
    start: Tensor
    ids: Tensor
    start_id: Tensor
    places: Tensor
    prompt_positions: Tensor
    common_mask: Tensor
    leading_mask: Tensor
    row_mask: Tensor
    end_mask: Tensor
    ends: Tensor
    end_classes: Tensor
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
        first = torch.arange(1, 1 + self.common).expand(len(texts), -1)
        constants = {
            "class_mask": packing.class_mask,
            "ids": _repeat(torch.cat([packing.common, packing.rows.flatten(1)], dim=1), replicates),
            "start_id": backbone.tokenize([""])[:1, :1],
            "places": _repeat(torch.cat([first, packing.positions.flatten(1)], dim=1) + shift, replicates),
            "prompt_positions": _positions(backbone, prompt_length, shift),
            "common_mask": _additive(F.pad(earlier, (prompt_length + 1, 0), value=True), backbone.dtype),
            "leading_mask": _additive(_leading(prompt_length, self.common), backbone.dtype),
            "row_mask": _repeat(row_mask, replicates).flatten(0, 1).unsqueeze(1),
            "end_mask": _repeat(end_mask, replicates).flatten(0, 1).unsqueeze(1),
            "ends": _repeat(packing.ends_among_rows, replicates),
            "end_classes": _repeat(packing.end_classes, replicates),
            "classes": _repeat(packing.classes, replicates),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.to(backbone.device).contiguous(), persistent=False)
        with torch.no_grad():
            for name, value in self.embed(backbone.clip)._asdict().items():
                self.register_buffer(name, value.contiguous(), persistent=False)

    def embed(self, clip: CLIP) -> Embedded:
        """The words by the weights that ``clip`` has now, with gradients where these have any."""
        words = clip.token_embedding(self.ids) + clip.positional_embedding[self.places]
        return Embedded(words, start_of_text(clip, self.start_id))


def start_of_text(clip: CLIP, start_id: Tensor) -> Tensor:
    """Keys and values of SOS, ``start_id`` [1, 1], in every layer, [layers, 2·D]: it sees only itself."""
    x = clip.token_embedding(start_id) + clip.positional_embedding[:1]
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


def _positions(backbone: Backbone, prompt_length: int, shift: int) -> Tensor:
    if shift == 0:
        return torch.zeros(prompt_length, backbone.architecture.text.width, dtype=backbone.dtype)
    return backbone.clip.positional_embedding[1 : 1 + prompt_length].detach()  # type: ignore[no-any-return]


def _leading(prompts: int, common: int) -> Tensor:
    """What prompts and common words see of the context [prompts, SOS, common words], bool [P + M, X]."""
    places = torch.arange(1 + prompts + common)
    context = torch.cat([places[1 : 1 + prompts], places[:1], places[1 + prompts :]])
    return places[1:, None] >= context


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -torch.inf)


def _repeat(per_task: Tensor, replicates: int) -> Tensor:
    """[T, …] → [R·T, …], set r·T + t being task t."""
    return per_task.expand(replicates, *per_task.shape).flatten(0, 1)
