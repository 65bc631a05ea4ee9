"""The penalised probe of CLAP.

Legend: R replicates, T tasks, C classes (the most of any task), V views, n labelled images, E embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.forward.precision import full_precision
from mmap_model.methods.clap import ClapSettings
from mmap_model.methods.problem import Problem
from mmap_model.methods.rows import RowsModel
from mmap_model.methods.support import Support


class ClapModel(RowsModel):
    """Cross-entropy + (1/C)·Σ_c λ_c·‖W_c - t_c‖², for each task with its own λ and its own C.

    Attributes:
        penalty: λ, [R, T, C]; zero beyond a task's classes. The mean zero-shot probability of a class over
            its own labelled views: what CLIP knows already is held. Of a class without images it is 1.
    """

    fits = True
    penalty: Tensor

    def __init__(self, settings: ClapSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(backbone, problem, regime=settings.regime)
        self._views = settings.views
        self.register_fitted(
            "penalty", self.class_mask.to(backbone.dtype).expand(self.replicates, -1, -1).clone()
        )

    @torch.no_grad()
    def fit(self, support: Support) -> None:
        texts = F.normalize(self.raw_texts, dim=-1)
        found = support.embeddings(self._views)
        for r, by_task in enumerate(support.labels()):
            for t, labels in enumerate(by_task):
                classes = int(self.class_mask[t].sum())
                unit = F.normalize(found[r][t], dim=-1)
                scores = (self.logit_scale() * unit @ texts[t, :classes].T).softmax(-1)
                own = scores.gather(2, labels.expand(len(scores), -1)[..., None]).squeeze(2).mean(0)
                total = torch.zeros_like(texts[t, :classes, 0]).index_add_(0, labels, own)
                count = torch.bincount(labels, minlength=classes)
                self.penalty[r, t, :classes] = torch.where(count > 0, total / count.clamp(min=1), 1.0)

    def class_losses(self, classes: Tensor) -> Tensor:
        with full_precision(classes):
            moved = (self.unnormalised() - self.raw_texts).square().sum(-1)
            return (self.penalty * moved).sum(-1) / self.class_mask.sum(-1)
