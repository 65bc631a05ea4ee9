"""The two stages of 2SFS.

Legend: R replicates, T tasks, C classes (the most of any task), U rows of a replicate, E embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward import ClassPrompts
from mmap_model.forward.precision import full_precision
from mmap_model.methods.problem import Problem
from mmap_model.methods.row_index import RowIndex
from mmap_model.methods.tuned_backbone import TunedBackbone, Weights
from mmap_model.methods.two_stage import TwoStageSettings

NORMS = re.compile(r"(visual\.)?transformer\.resblocks\.\d+\.ln_[12]\.(weight|bias)")


class TwoStageModel(TunedBackbone):
    """Stage 0 trains ``ln_1`` and ``ln_2`` of all blocks, stage 1 the rows alone.

    Attributes:
        rows: [R, U, E]; when stage 1 begins, the unit class features of the text tower as it is then.
        stage: 0 or 1, [R, 1]; part of the checkpoint.
    """

    stages = (0.6,)
    rows: nn.Parameter
    stage: Tensor

    def __init__(self, settings: TwoStageSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(
            backbone,
            problem,
            per_task=settings.regime == "single",
            trained=lambda name: NORMS.fullmatch(name) is not None,
        )
        self.index = RowIndex(problem, "single", backbone.device)
        stage = torch.zeros(self.replicates, 1, dtype=torch.int64, device=backbone.device)
        self.register_fitted("stage", stage)
        self._is_late = False  # what ``stage`` says: asking a device for it would make the host wait
        self._backbone, self._template = (backbone,), problem.template
        with torch.no_grad():
            self.rows = nn.Parameter(self.index.start(super().class_features()))

    @torch.no_grad()
    def enter_stage(self, stage: int) -> None:
        if stage == 1:
            self.rows.copy_(self.index.start(super().class_features()))
        self.stage.fill_(stage)
        self._is_late = stage > 0

    def class_features(self) -> Tensor:
        if not self._is_late:
            return super().class_features()
        with full_precision(self.rows):
            return F.normalize(self.index.of_classes(self.rows).sum(3), dim=-1)

    @torch.no_grad()
    def text_rows(self, task: int, names: Sequence[str], template: str | None) -> Tensor:
        texts = ClassPrompts(self._backbone[0], classes=[names], template=template or self._template)
        copy = task if self._copies > 1 else 0
        return F.normalize(self._run(self._weights()[0][copy], texts, (0, copy))[0], dim=-1)

    def state_rows(self, name: str, replicate: int) -> list[int] | slice:
        return slice(len(self.index.keys[replicate])) if name == "rows" else slice(None)

    def _weights(self) -> list[list[Weights]]:
        weights = super()._weights()
        if not self._is_late:
            return weights
        return [[{name: w.detach() for name, w in own.items()} for own in copies] for copies in weights]

    def restore_fitted(self, tensors: Mapping[str, Tensor]) -> None:
        super().restore_fitted(tensors)
        self._is_late = bool(self.stage.any())

    def load_replicate_state(self, replicate: int, tensors: Mapping[str, Tensor]) -> None:
        super().load_replicate_state(replicate, tensors)
        self._is_late = bool(self.stage.any())
