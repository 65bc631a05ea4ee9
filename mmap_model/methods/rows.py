"""Base of the methods that train a row for every class, keyed by its name; images meet nothing trained.

Legend: R replicates, T tasks, C classes (the most of any task), U rows of a replicate, J rows that act on a
class (2 in the ``grouped`` regime, else 1), E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.precision import full_precision
from mmap_model.methods.base import GroupedRegime
from mmap_model.methods.problem import Problem
from mmap_model.methods.prompted import PromptedModel
from mmap_model.methods.row_index import RowIndex


class RowsModel(PromptedModel):
    """Class features of trained rows and constant raw text features; the image tower is the plain one.

    Attributes:
        rows: [R, U, E]. In the ``grouped`` regime, and with ``residual``, they start at zero and are added
            to the raw text features; else they start there, and stand for them.
        raw_texts: text features before normalisation, [T, C, E].
    """

    constant_images = True
    averages_unit_features = False
    rows: nn.Parameter
    raw_texts: Tensor

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        *,
        regime: GroupedRegime,
        residual: bool = False,
        weight: float = 1.0,
    ) -> None:
        """See ``Method.build``.

        Args:
            residual: train what is added to the text features in place of them.
            weight: factor of what is added.
        """
        super().__init__(backbone, problem, text_prompts_by="none")
        self.index = RowIndex(problem, regime, backbone.device)
        self.is_residual, self.weight = residual or regime == "grouped", weight
        with torch.no_grad():
            texts = self.raw_class_features()
        self.register_buffer("raw_texts", texts[0], persistent=False)
        start = self.index.start(texts)
        self.rows = nn.Parameter(torch.zeros_like(start) if self.is_residual else start)

    def image_prompts(self) -> Sequence[Tensor]:
        return ()

    def class_features(self) -> Tensor:
        with full_precision(self.rows):
            return F.normalize(self.unnormalised(), dim=-1)

    def unnormalised(self) -> Tensor:
        """Class embeddings before normalisation, [R, T, C, E]."""
        trained = self.index.of_classes(self.rows).sum(3)
        return self.raw_texts + self.weight * trained if self.is_residual else trained

    def state_rows(self, name: str, replicate: int) -> list[int] | slice:
        return slice(len(self.index.keys[replicate])) if name == "rows" else slice(None)
