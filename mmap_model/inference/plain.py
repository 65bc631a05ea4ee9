"""A CLIP without anything trained beside it: images, and classes by their names.

Legend: C classes, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward import ClassPrompts, encode_classes
from mmap_model.forward.deployed import DeployedTower
from mmap_model.methods.deployed import UnitFeatures


def plain_images(backbone: Backbone) -> nn.Module:
    """``forward(pixels, task)``: unit features [B, E] whatever the task."""
    return UnitFeatures(DeployedTower(backbone.clip.visual)).eval()


@torch.no_grad()
def plain_classes(backbone: Backbone, classes: Sequence[str], template: str) -> Tensor:
    """Unit class features [C, E]."""
    prompts = ClassPrompts(backbone, classes=[classes], template=template)
    return F.normalize(encode_classes(backbone.clip, prompts, ())[0], dim=-1)
