"""The trainable MmAP: sources and scaling matrices, and the prompts that their Kronecker products generate.

Legend: R replicates, T tasks, S = R·T prompt sets, M modules (groups first, then tasks), K prompted layers,
b prompt length, m × n source, D width of a tower (d_l text, d_v image), J modules of a set (1 or 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.methods.mmap import MmapSettings
from mmap_model.methods.modules import ModularPrompts
from mmap_model.methods.probed import TowerName
from mmap_model.methods.problem import Problem


class MmapModel(ModularPrompts):
    """Multi-modal alignment prompts (paper, eq. 6-7), group-shared and task-specific.

    Attributes:
        source: P_s, [R, M, K, m, n].
        text_scale: M_l, [R, M, K, b/m, d_l/n].
        image_scale: M_v, [R, M, K, b/m, d_v/n].
    """

    source: nn.Parameter
    text_scale: nn.Parameter
    image_scale: nn.Parameter

    def __init__(self, settings: MmapSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``. Every tensor of every module is drawn from a stream of its own."""
        super().__init__(
            backbone,
            problem,
            prompt_length=settings.prompt_length,
            positions=settings.positions,
            modules=settings.modules,
            name="mmap",
        )
        self.settings = settings
        for name, (shape, std) in _tensors(settings, backbone).items():
            self.register_modules(name, shape, std)
        self._generated: dict[TowerName, Tensor] = {}

    def text_prompts(self) -> Sequence[Tensor]:
        self._generated["text"] = self.of_sets(generate(self.source, self.text_scale))
        return self._generated["text"].unbind(0)

    def image_prompts(self) -> Sequence[Tensor]:
        self._generated["image"] = self.of_sets(generate(self.source, self.image_scale))
        return self._generated["image"].unbind(0)

    def generated(self, tower: TowerName) -> Tensor:
        """The prompts [K, S, J·b, D] that the latest ``class_features`` or ``image_features`` was given."""
        return self._generated[tower]

    def task_gram(self, by_set: Sequence[Tensor]) -> dict[str, Tensor]:
        """Inner products of the tasks' gradients (eq. 8) of a model with one group and no task modules.

        Every task has its own copy of the generated prompt, whose gradient is that task's alone, and the
        generator's product with it is the task's gradient with respect to the parameters.

        Args:
            by_set: gradient of the summed losses with respect to the ``generated`` prompts of text and image
                tower. Afterwards ``.grad`` of each parameter is the gradient of the same sum.

        Returns:
            fp64 [R, T, T], by space: ``prompts`` (generated, both towers) and ``parameters``.
        """
        assert self.settings.modules == "group" and set(self.groups) == {1}, "the probe shares one module"
        leaves = {
            name: parameter.detach().expand(-1, self.tasks, *parameter.shape[2:]).clone().requires_grad_()
            for name, parameter in self.named_parameters()
        }
        generated = [generate(leaves["source"], leaves[name]) for name in ("text_scale", "image_scale")]
        by_task = torch.autograd.grad(generated, list(leaves.values()), list(by_set))
        for name, gradient in zip(leaves, by_task, strict=True):
            self.get_parameter(name).grad = gradient.sum(dim=1, keepdim=True)
        by_prompt = [g.unflatten(1, (self.replicates, self.tasks)).movedim(0, 2) for g in by_set]
        return {"prompts": _gram(by_prompt), "parameters": _gram(by_task)}


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


def _gram(gradients: Sequence[Tensor]) -> Tensor:
    """[R, T, T] from gradients [R, T, …]."""
    rows = torch.cat([g.double().flatten(2) for g in gradients], dim=2)
    return rows @ rows.transpose(1, 2)
