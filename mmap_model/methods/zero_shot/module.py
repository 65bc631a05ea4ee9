"""Zero-shot CLIP as a model of R equal replicates."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.methods.problem import Problem
from mmap_model.methods.prompted import PromptedModel


class ZeroShotModel(PromptedModel):
    """No prompts, nothing trained; class features are computed once (paper, eq. 5)."""

    constant_images = True

    def __init__(self, backbone: Backbone, problem: Problem) -> None:
        super().__init__(backbone, problem, text_prompts_by="none")

    def tuned_clips(self, tasks: Sequence[int]) -> list[dict[str, Tensor]] | None:
        return [{name: p.detach() for name, p in self.backbone.clip.state_dict().items()}]

    def image_prompts(self) -> Sequence[Tensor]:
        return ()
