"""Base of the methods with group-shared and task-specific prompts.

Legend: R replicates, T tasks, S = R·T prompt sets, M modules (groups first, then tasks), K prompted layers,
b prompt length, D width of a tower, J modules of a set (1 or 2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.class_prompts import Positions
from mmap_model.methods.base import prompt_tokens
from mmap_model.methods.initial import normal
from mmap_model.methods.layout import ModuleLayout, Modules
from mmap_model.methods.problem import Problem
from mmap_model.methods.prompted import PromptedModel


class ModularPrompts(PromptedModel):
    """Prompts of a task's group before those of the task itself, in the first K layers of both towers.

    Paper, eq. 9-10: at every layer the text input is ``[SOS, P_group, P_task, words]`` and the image input
    ``[class, P_group, P_task, patches]``.

    Replicates may differ in their number of groups (see ``ModuleLayout``).

    Attributes:
        module_names: of the M modules of a replicate.
        groups: their number in each replicate.
        members: the modules of each set, [S, J], as indices into the R·M modules of all replicates.
    """

    members: Tensor

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        *,
        prompt_length: int,
        positions: Positions,
        modules: Modules,
        name: str,
    ) -> None:
        """Lay out the modules.

        Args:
            prompt_length: b, of one module.
            modules: all, the groups' only or the tasks' only.
            name: of the method, in the names of its random streams.
        """
        super().__init__(
            backbone,
            problem,
            prompt_length=prompt_tokens(prompt_length, modules),
            positions=positions,
        )
        self.layout = ModuleLayout.of(problem.groups, problem.tasks, modules)
        self.groups, self.module_names = list(self.layout.groups), list(self.layout.names)
        self._streams, self._modular = problem.streams(name), set[str]()
        members = torch.tensor(self.layout.members, device=backbone.device)
        self.register_buffer("members", members, persistent=False)

    def register_modules(self, name: str, shape: tuple[int, ...], std: float | None) -> None:
        """Add the trained tensor ``name`` [R, M, *shape], N(0, std²), or ones if ``std`` is None."""
        drawn = [
            torch.ones(shape) if std is None else normal(f"{stream}/{module}/{name}", shape, std)
            for stream in self._streams
            for module in self.module_names
        ]
        value = torch.stack(drawn).view(self.replicates, -1, *shape)
        self.register_parameter(name, nn.Parameter(value.to(self.backbone.device, self.backbone.dtype)))
        self._modular.add(name)

    def of_sets(self, prompts: Tensor) -> Tensor:
        """[K, R·M, b, D] → [K, S, J·b, D]."""
        return prompts[:, self.members].flatten(2, 3)

    def state_rows(self, name: str, replicate: int) -> list[int] | slice:
        return self.layout.used(replicate) if name in self._modular else slice(None)
