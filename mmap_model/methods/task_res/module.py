"""The trainable residuals of TaskRes."""

from __future__ import annotations

from mmap_model.backbone import Backbone
from mmap_model.methods.problem import Problem
from mmap_model.methods.rows import RowsModel
from mmap_model.methods.task_res import TaskResSettings


class TaskResModel(RowsModel):
    """exp(logit_scale)·cos(f, t_c + α·x_c): x from zero, t_c the text feature before normalisation."""

    def __init__(self, settings: TaskResSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(backbone, problem, regime=settings.regime, residual=True, weight=settings.alpha)
