"""Base of the methods that train one copy of their tensors for all tasks, one per task, or both per group.

Legend: R replicates, T tasks, N copies, J copies that act on a task (2 in the ``grouped`` regime, else 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.class_prompts import Positions
from mmap_model.methods.base import GroupedRegime
from mmap_model.methods.layout import ModuleLayout
from mmap_model.methods.problem import Problem
from mmap_model.methods.prompted import PromptedModel
from mmap_model.methods.words import word_embeddings


class CopiedModel(PromptedModel):
    """Every trained tensor is [R, N, …]: N is 1 (``multi``), T (``single``), or G + T (``grouped``).

    The copies of a replicate start equal, as trainings of one task each with the same seed do; those of
    groups and tasks that act together start from streams of their own.

    Attributes:
        copies: N; copy t belongs to task t where there is one per task.
        of_task: copies that act on each task, J: that of its group, then its own.
    """

    _members: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        *,
        name: str,
        per_task: bool = False,
        regime: GroupedRegime | None = None,
        text_prompt_length: int = 0,
        positions: Positions = "original",
    ) -> None:
        """Without text prompts the class features are constant.

        Args:
            name: of the method, in the names of its random streams.
            per_task: one copy per task instead of one for all: ``single`` instead of ``multi``.
            regime: in place of ``per_task``.
            text_prompt_length: tokens inserted into each class prompt, by all of its prompts together.
            positions: of the class prompts, see ``ClassPrompts``.
        """
        self.regime: GroupedRegime = regime or ("single" if per_task else "multi")
        by_copy = "replicate" if self.regime == "multi" else "task"
        super().__init__(
            backbone,
            problem,
            prompt_length=text_prompt_length,
            positions=positions,
            text_prompts_by=by_copy if text_prompt_length else "none",  # type: ignore[arg-type]
        )
        self.layout = ModuleLayout.of(problem.groups, problem.tasks) if self.regime == "grouped" else None
        self.copies = self.tasks if self.regime == "single" else 1
        self.of_task, members = 1, None
        if self.layout is not None:
            self.copies, self.of_task = len(self.layout.names), 2
            members = torch.tensor(self.layout.members, device=backbone.device)
        self.register_buffer("_members", members, persistent=False)
        self._streams, self._copied = problem.streams(name), set[str]()

    def register_copies(self, name: str, initial: Callable[[str], Tensor]) -> None:
        """Add the trained tensor ``name`` of ``initial(stream)``, the start of all copies of a replicate."""
        if self.layout is not None:
            own = [
                torch.stack([initial(f"{stream}/{module}/{name}") for module in self.layout.names])
                for stream in self._streams
            ]
            copied = torch.stack(own)
        else:
            drawn = torch.stack([initial(f"{stream}/{name}") for stream in self._streams])
            copied = drawn.unsqueeze(1).repeat_interleave(self.copies, dim=1)
        self.register_parameter(name, nn.Parameter(copied.to(self.backbone.device, self.backbone.dtype)))
        self._copied.add(name)

    @torch.no_grad()
    def start_at_words(self, name: str, words: str, *, layered: bool = False) -> None:
        """Let the text prompts ``name`` [R, N, n, D] start at embeddings of words, if there are any.

        Args:
            name: of a tensor of ``register_copies``; [R, N, J, n, D] with ``layered``, of which the first
                layer is meant.
            words: of n tokens or more; the first n count.
            layered: there are prompts of several layers.

        In the ``grouped`` regime it is the tasks' own prompts, next to the words of the class, that do.
        """
        if not words:
            return
        tensor = self.get_parameter(name)
        first = tensor[:, :, 0] if layered else tensor
        own = slice(None) if self.layout is None else slice(max(self.layout.groups), None)
        first[:, own] = word_embeddings(self.backbone, words, first.shape[2]).to(first)

    def of_tasks(self, tensor: Tensor) -> Tensor:
        """[R, N, …] → [R, T, J, …]: the copies that act on each task."""
        if self._members is None:
            return tensor.expand(-1, self.tasks, *[-1] * (tensor.ndim - 2)).unsqueeze(2)
        chosen: Tensor = tensor.flatten(0, 1)[self._members].unflatten(0, (self.replicates, self.tasks))
        return chosen

    def for_texts(self, prompts: Tensor) -> Sequence[Tensor]:
        """[R, N, layers, P, D] → by layer [sets, J·P, D] for ``text_sets``."""
        return self._by_layer(prompts, self.text_sets[1])

    def for_images(self, prompts: Tensor) -> Sequence[Tensor]:
        """[R, N, layers, P, D] → by layer [R·T, J·P, D]."""
        return self._by_layer(prompts, self.tasks)

    def state_rows(self, name: str, replicate: int) -> list[int] | slice:
        if self.layout is None or name not in self._copied:
            return slice(None)
        return self.layout.used(replicate)

    def _by_layer(self, prompts: Tensor, sets: int) -> Sequence[Tensor]:
        if self._members is None:
            return prompts.expand(-1, sets, -1, -1, -1).flatten(0, 1).unbind(1)
        return self.of_tasks(prompts).transpose(2, 3).flatten(3, 4).flatten(0, 1).unbind(1)
