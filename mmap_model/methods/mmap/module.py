"""The trainable MmAP: sources and scaling matrices, and the prompts that their Kronecker products generate.

Legend: R replicates, T tasks, S = R·T prompt sets, M modules (groups first, then tasks), K prompted layers,
b prompt length, m × n source, D width of a tower (d_l text, d_v image), J modules of a set (1 or 2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.configuration import Partition
from mmap_model.methods.mmap import MmapSettings
from mmap_model.methods.prompted import PromptedModel


class MmapModel(PromptedModel):
    """Group-shared and task-specific multi-modal alignment prompts in the first K layers of both towers.

    Paper, eq. 6-7 (generation) and 9-10 (placement): at every layer the text input is
    ``[SOS, P_group, P_task, words]`` and the image input ``[class, P_group, P_task, patches]``.

    Replicates may differ in their number of groups. M counts the most of any; a module that a replicate
    does not use gets zero gradient and is neither counted nor saved.

    Attributes:
        source: P_s, [R, M, K, m, n].
        text_scale: M_l, [R, M, K, b/m, d_l/n].
        image_scale: M_v, [R, M, K, b/m, d_v/n].
        members: the modules of each set, [S, J], as indices into the R·M modules of all replicates.
    """

    source: nn.Parameter
    text_scale: nn.Parameter
    image_scale: nn.Parameter
    members: Tensor

    def __init__(
        self,
        settings: MmapSettings,
        backbone: Backbone,
        *,
        classes: Sequence[Sequence[str]],
        template: str,
        partitions: Sequence[Partition],
        train_seeds: Sequence[int],
    ) -> None:
        """See ``Method.build``. Every tensor of every module is drawn from a stream of its own."""
        tasks = len(classes)
        assert len(partitions) == len(train_seeds)
        assert all(sorted(t for g in groups for t in g) == list(range(tasks)) for groups in partitions)
        super().__init__(
            backbone,
            classes=classes,
            template=template,
            replicates=len(train_seeds),
            prompt_length=settings.prompt_length * (2 if settings.modules == "both" else 1),
            positions=settings.positions,
        )
        self.settings = settings
        self.groups = [len(p) if settings.modules != "task" else 0 for p in partitions]
        most = max(self.groups)
        modules = [f"group {g}" for g in range(most)]
        modules += [f"task {t}" for t in range(tasks) if settings.modules != "group"]
        for name, (shape, std) in _tensors(settings, backbone).items():
            drawn = [
                torch.stack([_draw(f"{seed}/mmap/{module}/{name}", shape, std) for module in modules])
                for seed in train_seeds
            ]
            value = torch.stack(drawn).to(backbone.device, backbone.dtype)
            self.register_parameter(name, nn.Parameter(value))
        members = [
            [r * len(modules) + place for place in _places(groups, task, most, settings.modules)]
            for r, groups in enumerate(partitions)
            for task in range(tasks)
        ]
        self.register_buffer("members", torch.tensor(members, device=backbone.device), persistent=False)
        self._generated: dict[str, Tensor] = {}

    def text_prompts(self) -> Sequence[Tensor]:
        self._generated["text"] = self._of_sets(generate(self.source, self.text_scale))
        return self._generated["text"].unbind(0)

    def image_prompts(self) -> Sequence[Tensor]:
        self._generated["image"] = self._of_sets(generate(self.source, self.image_scale))
        return self._generated["image"].unbind(0)

    def task_gram(self, losses: Tensor) -> dict[str, Tensor]:
        """Inner products of the tasks' gradients (eq. 8) of a model with one group and no task modules.

        Takes one backward pass: every task has its own copy of the generated prompt, whose gradient is that
            task's
        alone, and the generator's product with it is the task's gradient with respect to the parameters.

        Args:
            losses: [R, T], computed from the latest ``class_features`` and ``image_features``. Afterwards
                ``.grad`` of each parameter is the gradient of their sum.

        Returns:
            fp64 [R, T, T], by space: ``prompts`` (generated, both towers) and ``parameters``.
        """
        assert self.settings.modules == "group" and set(self.groups) == {1}, "the probe shares one module"
        towers = [self._generated[tower] for tower in ("text", "image")]
        by_set = torch.autograd.grad(losses.sum(), towers)
        leaves = {
            name: parameter.detach().expand(-1, self.tasks, *parameter.shape[2:]).clone().requires_grad_()
            for name, parameter in self.named_parameters()
        }
        generated = [generate(leaves["source"], leaves[name]) for name in ("text_scale", "image_scale")]
        by_task = torch.autograd.grad(generated, list(leaves.values()), by_set)
        for name, gradient in zip(leaves, by_task, strict=True):
            self.get_parameter(name).grad = gradient.sum(dim=1, keepdim=True)
        by_prompt = [g.unflatten(1, (self.replicates, self.tasks)).movedim(0, 2) for g in by_set]
        return {"prompts": _gram(by_prompt), "parameters": _gram(by_task)}

    def replicate_state(self, replicate: int) -> dict[str, Tensor]:
        used = self._used(replicate)
        return {name: p.detach()[replicate, used].clone() for name, p in self.named_parameters()}

    @torch.no_grad()
    def load_replicate_state(self, replicate: int, tensors: Mapping[str, Tensor]) -> None:
        used = self._used(replicate)
        for name, parameter in self.named_parameters():
            parameter[replicate, used] = tensors[name].to(parameter)

    def _of_sets(self, prompts: Tensor) -> Tensor:
        """[K, R·M, b, D] → [K, S, J·b, D]."""
        return prompts[:, self.members].flatten(2, 3)

    def _used(self, replicate: int) -> list[int]:
        """Modules of this replicate: its groups, then all tasks."""
        most, modules = max(self.groups), self.source.shape[1]
        return [*range(self.groups[replicate]), *range(most, modules)]


def generate(source: Tensor, scale: Tensor) -> Tensor:
    """Kronecker products M ⊗ P_s of all modules and layers (eq. 6-7).

    Entry (i·m + a, j·n + c) is M[i, j]·P_s[a, c].

    Args:
        source: [R, M, K, m, n].
        scale: [R, M, K, b/m, D/n].

    Returns:
        [K, R·M, b, D].
    """
    product = torch.einsum("rpkij,rpkac->krpiajc", scale, source)
    return product.flatten(5, 6).flatten(3, 4).flatten(1, 2)


def _tensors(settings: MmapSettings, backbone: Backbone) -> dict[str, tuple[tuple[int, ...], float | None]]:
    """Shape and initial standard deviation (None: ones) of the tensors of one module."""
    b, m, n = settings.prompt_length, settings.source_rows, settings.source_cols
    shape = backbone.architecture
    scale_std = settings.scale_init if settings.scale_init is not None or m == b else 1.0
    return {
        "source": ((shape.depth, m, n), settings.source_init),
        "text_scale": ((shape.depth, b // m, shape.text.width // n), scale_std),
        "image_scale": ((shape.depth, b // m, shape.image.width // n), scale_std),
    }


def _draw(stream: str, shape: tuple[int, ...], std: float | None) -> Tensor:
    if std is None:
        return torch.ones(shape)
    seed = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "big") >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * std


def _places(groups: Partition, task: int, most: int, modules: str) -> list[int]:
    """The modules of a task among those of one replicate: its group's, then its own."""
    group = next(g for g, members in enumerate(groups) if task in members)
    return {"both": [group, most + task], "group": [group], "task": [task]}[modules]


def _gram(gradients: Sequence[Tensor]) -> Tensor:
    """[R, T, T] from gradients [R, T, …]."""
    rows = torch.cat([g.double().flatten(2) for g in gradients], dim=2)
    return rows @ rows.transpose(1, 2)
