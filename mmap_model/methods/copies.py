"""Base of the methods that train one copy of their tensors for all tasks, or one per task.

Legend: R replicates, T tasks, N copies (1 or T).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.class_prompts import Positions
from mmap_model.methods.problem import Problem
from mmap_model.methods.prompted import PromptedModel


class CopiedModel(PromptedModel):
    """Every trained tensor is [R, N, …].

    The copies of a replicate start equal, as trainings of one task each with the same seed do.

    Attributes:
        copies: N; copy t belongs to task t where there is one per task.
    """

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        *,
        name: str,
        per_task: bool,
        text_prompt_length: int = 0,
        positions: Positions = "original",
    ) -> None:
        """Without text prompts the class features are constant.

        Args:
            name: of the method, in the names of its random streams.
            per_task: one copy per task instead of one for all.
            text_prompt_length: tokens inserted into each class prompt.
            positions: of the class prompts, see ``ClassPrompts``.
        """
        by_copy = "task" if per_task else "replicate"
        super().__init__(
            backbone,
            problem,
            prompt_length=text_prompt_length,
            positions=positions,
            text_prompts_by=by_copy if text_prompt_length else "none",  # type: ignore[arg-type]
        )
        self.copies = self.tasks if per_task else 1
        self._streams = problem.streams(name)

    def register_copies(self, name: str, initial: Callable[[str], Tensor]) -> None:
        """Add the trained tensor ``name`` of ``initial(stream)``, the start of all copies of a replicate."""
        drawn = torch.stack([initial(f"{stream}/{name}") for stream in self._streams])
        copied = drawn.unsqueeze(1).repeat_interleave(self.copies, dim=1)
        self.register_parameter(name, nn.Parameter(copied.to(self.backbone.device, self.backbone.dtype)))

    def for_texts(self, prompts: Tensor) -> Sequence[Tensor]:
        """[R, N, layers, P, D] → by layer [sets, P, D] for ``text_sets``."""
        return _by_layer(prompts, self.text_sets[1])

    def for_images(self, prompts: Tensor) -> Sequence[Tensor]:
        """[R, N, layers, P, D] → by layer [R·T, P, D]."""
        return _by_layer(prompts, self.tasks)


def _by_layer(prompts: Tensor, sets: int) -> Sequence[Tensor]:
    return prompts.expand(-1, sets, -1, -1, -1).flatten(0, 1).unbind(1)
