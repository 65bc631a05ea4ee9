"""Multiply-adds that one exact training step of discarded prompts needs, and no more.

Counted are linear layers and attention; not counted are norms, activations, softmax, logits and the prompts'
own generation. Legend: N images, L = 1 + patches, P prompts, D width, H hidden width, E embedding, C classes.

**Forward.** A linear layer from a to b numbers costs a·b for each token that goes through it. One query costs
2·D for each key it sees: D for the score, D for the weighted value.

- Image, all layers but the last: each of the N·L tokens 4·D² + 2·D·H (queries, keys, values, output
  projection, MLP), and (L + P)·2·D attention. Prompts only 2·D² (keys and values), once for all images.
- Image, last layer: keys and values for all tokens, everything else for the class token alone.
- Text: SOS sees itself only, so it is a constant. The M words before the class names are the same for all
  classes and see SOS, P prompts and their own earlier ones: once for all classes. The rest of a class sees
  these and its own earlier tokens. Last layer: keys and values for all, everything else for the C ends of
  text. Nothing after an end of text, no padding.

**Backward.** The weights are frozen, so every product costs the same once more for each of its inputs that
lies on a path to a prompt: once for a linear layer (its weight is none), twice for each product of attention.

- First layer: words, patches and class token are constants before attention. Its queries, keys and values of
  them cost nothing. The prompts' keys and values get the gradient of the scores (D), of the values (D), and
  the probabilities' (D, for the prompts' columns only: the softmax needs of the others the sum of products of
  output and its gradient). Output projection and MLP cost once more, as anywhere.
- SOS is a constant in all layers: D less for its key, D less for its value.
- Patch embedding and whatever else lies before the first prompt: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mmap_model.architecture import Architecture
from mmap_model.towers import Tower


class Passes(NamedTuple):
    """Multiply-adds of one tower, by kind and direction."""

    linear: int
    attention: int
    linear_backward: int
    attention_backward: int

    @property
    def forward(self) -> int:
        return self.linear + self.attention

    @property
    def total(self) -> int:
        return sum(self)


@dataclass(frozen=True)
class Keys:
    """Tokens of a tower that ask, and how many keys they see together.

    Attributes:
        tokens: that go through the blocks, without prompts and SOS.
        last: of them, that the last layer is computed for.
        keys: seen by all tokens, summed; prompts are not among them.
        keys_last: the same for ``last``.
        constant: keys that each token sees and that are constants (SOS).
    """

    tokens: int
    last: int
    keys: int
    keys_last: int
    constant: int


def image_passes(shape: Architecture, *, images: int, prompts: int, sets: int = 1) -> Passes:
    """Of ``images`` images of each of ``sets`` prompt sets, ``prompts`` in every layer."""
    length, width = 1 + shape.patches, shape.image.width
    keys = Keys(images * length, images, images * length**2, images * length, 0)
    entering = images * shape.patches * 3 * shape.patch_size**2 * width
    leaving = images * width * shape.embed_dim
    return _times(sets, _passes(shape.image, keys, prompts, entering, leaving))


def text_passes(
    shape: Architecture, *, common: int, rest: Sequence[int], prompts: int, sets: int = 1
) -> Passes:
    """Of one class list for each of ``sets`` prompt sets.

    Args:
        common: M, words that all classes begin with, SOS not counted.
        rest: tokens of each class after them, end of text included.
    """
    before = 1 + common
    keys = Keys(
        tokens=common + sum(rest),
        last=len(rest),
        keys=sum(1 + j for j in range(1, 1 + common))
        + sum(before + i for n in rest for i in range(1, 1 + n)),
        keys_last=sum(before + n for n in rest),
        constant=1,
    )
    return _times(sets, _passes(shape.text, keys, prompts, 0, len(rest) * shape.text.width * shape.embed_dim))


def _passes(tower: Tower, keys: Keys, prompts: int, entering: int, leaving: int) -> Passes:
    d, projections, mlp = tower.width, 4 * tower.width**2, 2 * tower.width * tower.hidden
    seen = keys.keys + keys.tokens * prompts
    seen_last = keys.keys_last + keys.last * prompts
    linear, attention, linear_backward, attention_backward = entering + leaving, 0, leaving, 0
    for layer in range(tower.layers):
        if layer < tower.layers - 1:
            asking, asked = keys.tokens, seen
            tokens = keys.tokens * (projections + mlp)
        else:
            asking, asked = keys.last, seen_last
            tokens = keys.tokens * 2 * d * d + keys.last * (2 * d * d + mlp)
        linear += tokens + prompts * 2 * d * d
        attention += 2 * d * asked
        linear_backward += prompts * 2 * d * d
        if layer == 0:
            linear_backward += asking * (d * d + mlp)
            attention_backward += 3 * d * asking * prompts
        else:
            linear_backward += tokens
            attention_backward += 4 * d * asked - 2 * d * asking * keys.constant
    return Passes(linear, attention, linear_backward, attention_backward)


def _times(sets: int, passes: Passes) -> Passes:
    return Passes(*(sets * count for count in passes))
