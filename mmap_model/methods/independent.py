"""Base of the methods with free prompts in both towers, for all tasks, for each, or for groups and tasks.

Legend: R replicates, T tasks, N copies, J prompted layers of a tower, n tokens, d_l text width, d_v image
width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.image import normalise_entering
from mmap_model.methods.base import GroupedRegime
from mmap_model.methods.copies import CopiedModel
from mmap_model.methods.initial import normal
from mmap_model.methods.problem import Problem


class IndependentPrompts(CopiedModel):
    """Text and image prompts, discarded after their layer; those of a tower's last prompted layer run on.

    Attributes:
        text: [R, N, J, n, d_l]; before the words, numbered with them.
        image: [R, N, J, n, d_v]; beside the patches, the first layer's before ``ln_pre``.
    """

    evolve = True
    text: nn.Parameter
    image: nn.Parameter

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        *,
        name: str,
        regime: GroupedRegime,
        lengths: tuple[int, int],
        depths: tuple[int, int],
        std: float,
        words: str,
    ) -> None:
        """See ``Method.build``.

        Args:
            name: of the method, in the names of its random streams.
            regime: of the copies.
            lengths, depths: n and J of text and image tower.
            std: of prompts at the start.
            words: whose embeddings the first layer's text prompts start at; empty: noise as well. Where a
                task has two prompts it is its own, next to the words of the class.
        """
        length = lengths[0] * (2 if regime == "grouped" else 1)
        super().__init__(
            backbone, problem, name=name, regime=regime, text_prompt_length=length, positions="assembled"
        )
        shape = backbone.architecture
        sizes = zip(("text", "image"), depths, lengths, (shape.text.width, shape.image.width), strict=True)
        for tower, *size in sizes:
            self.register_copies(tower, lambda stream, size=tuple(size): normal(stream, size, std))  # type: ignore[misc]
        self.start_at_words("text", words, layered=True)

    def text_prompts(self) -> Sequence[Tensor]:
        return self.for_texts(self.text)

    def image_prompts(self) -> Sequence[Tensor]:
        return normalise_entering(self.backbone.clip, self.for_images(self.image))
