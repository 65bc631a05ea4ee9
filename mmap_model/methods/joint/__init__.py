"""Joint prompts: free text and image prompts side by side (paper, Table 3; IVLP in MaPLe's code)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mmap_model.architecture import Architecture
from mmap_model.class_texts import ClassTexts
from mmap_model.methods.base import Method, check_range, module_count, prompt_tokens, register
from mmap_model.methods.problem import Problem

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class JointSettings:
    """As MmAP, without the source that ties the towers.

    Attributes:
        prompt_length: b, tokens of one prompt (>= 1); each tower sees 2b, group-shared before task-specific.
        prompt_init: standard deviation of the prompts.
        positions: as for MmAP.
        modules: as for MmAP.
    """

    prompt_length: int = 14
    prompt_init: float = 0.02
    positions: Literal["original", "assembled"] = "original"
    modules: Literal["both", "group", "task"] = "both"


class Joint(Method):
    name = "joint"
    Settings = JointSettings
    grouped = True

    def check(self, settings: JointSettings, architecture: Architecture) -> None:
        check_range("prompt_length", settings.prompt_length, 1)
        check_range("prompt_init", settings.prompt_init, 0)

    def texts(self, settings: JointSettings, template: str) -> ClassTexts:
        inserted = prompt_tokens(settings.prompt_length, settings.modules)
        return ClassTexts(template, prompts=inserted if settings.positions == "assembled" else 0)

    def count(self, settings: JointSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """K·b·(d_l + d_v) per module."""
        self.check(settings, architecture)
        widths = architecture.text.width + architecture.image.width
        modules = module_count(settings.modules, tasks=tasks, groups=groups)
        return modules * architecture.depth * settings.prompt_length * widths

    def build(self, settings: JointSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.joint.module import JointModel

        self.check(settings, backbone.architecture)
        return JointModel(settings, backbone, problem)


register(Joint())
