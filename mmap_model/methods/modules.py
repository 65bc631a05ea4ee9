"""Base of the methods with group-shared and task-specific prompts.

Legend: R replicates, T tasks, S = R·T prompt sets, M modules (groups first, then tasks), K prompted layers,
b prompt length, D width of a tower, J modules of a set (1 or 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.configuration import Partition
from mmap_model.forward.class_prompts import Positions
from mmap_model.methods.base import prompt_tokens
from mmap_model.methods.initial import normal
from mmap_model.methods.problem import Problem
from mmap_model.methods.prompted import PromptedModel

Modules = Literal["both", "group", "task"]


class ModularPrompts(PromptedModel):
    """Prompts of a task's group before those of the task itself, in the first K layers of both towers.

    Paper, eq. 9-10: at every layer the text input is ``[SOS, P_group, P_task, words]`` and the image input
    ``[class, P_group, P_task, patches]``.

    Replicates may differ in their number of groups. M counts the most of any; a module that a replicate
    does not use gets zero gradient and is neither counted nor saved.

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
        partitions, tasks = problem.groups, problem.tasks
        super().__init__(
            backbone,
            problem,
            prompt_length=prompt_tokens(prompt_length, modules),
            positions=positions,
        )
        self.groups = [len(p) if modules != "task" else 0 for p in partitions]
        most = max(self.groups)
        self.module_names = [f"group {g}" for g in range(most)]
        self.module_names += [f"task {t}" for t in range(tasks) if modules != "group"]
        self._streams, self._modular = problem.streams(name), set[str]()
        members = [
            [r * len(self.module_names) + place for place in _places(groups, task, most, modules)]
            for r, groups in enumerate(partitions)
            for task in range(tasks)
        ]
        self.register_buffer("members", torch.tensor(members, device=backbone.device), persistent=False)

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

    def replicate_state(self, replicate: int) -> dict[str, Tensor]:
        return {
            name: parameter.detach()[self._slice(name, replicate)].clone()
            for name, parameter in self.named_parameters()
        }

    @torch.no_grad()
    def load_replicate_state(self, replicate: int, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.named_parameters():
            parameter[self._slice(name, replicate)] = tensors[name].to(parameter)

    def _slice(self, name: str, replicate: int) -> tuple[int, list[int] | slice]:
        """Of a tensor of modules those that this replicate uses: its groups, then all tasks."""
        if name not in self._modular:
            return replicate, slice(None)
        most, modules = max(self.groups), len(self.module_names)
        return replicate, [*range(self.groups[replicate]), *range(most, modules)]


def _places(groups: Partition, task: int, most: int, modules: Modules) -> list[int]:
    """The modules of a task among those of one replicate: its group's, then its own."""
    group = next(g for g, members in enumerate(groups) if task in members)
    return {"both": [group, most + task], "group": [group], "task": [task]}[modules]
