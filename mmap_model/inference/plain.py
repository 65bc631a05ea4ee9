"""The CLIP as it was before tuning."""

from __future__ import annotations

from torch import nn

from mmap_model.backbone import Backbone
from mmap_model.forward.deployed import DeployedTower
from mmap_model.methods.deployed import UnitFeatures


def plain_images(backbone: Backbone) -> nn.Module:
    """``forward(pixels, task)``: unit features [B, E] whatever the task."""
    return UnitFeatures(DeployedTower(backbone.clip.visual)).eval()
