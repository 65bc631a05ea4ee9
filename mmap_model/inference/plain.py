"""A CLIP without anything trained beside it: images, and classes by their names.

Legend: C classes, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.deployed import DeployedTower
from mmap_model.methods.deployed import UnitFeatures
from mmap_model.methods.words import mean_texts


def plain_images(backbone: Backbone) -> nn.Module:
    """``forward(pixels, task)``: unit features [B, E] whatever the task."""
    return UnitFeatures(DeployedTower(backbone.clip.visual)).eval()


@torch.no_grad()
def plain_classes(backbone: Backbone, classes: Sequence[str], templates: str | Sequence[str]) -> Tensor:
    """Unit class features [C, E], of one text or as the mean of the unit features of several."""
    texts = [templates] if isinstance(templates, str) else templates
    mean = mean_texts(backbone, [classes], texts, unit=len(texts) > 1)
    return F.normalize(mean[0], dim=-1)
