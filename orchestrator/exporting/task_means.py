"""Which task an image belongs to, by the plain CLIP's features: what ``predict --task auto`` goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmap_model.configuration import has_validation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mmap_model.data.bank import Indices
    from orchestrator.exporting.winner import Winner

BATCH = 128


def task_means(winner: Winner) -> tuple[Tensor, float | None]:
    """The mean unit feature of each exported task's training images, and how often it finds the task.

    Returns:
        Means [T, E], and the share of validation images (in 0 … 1) that are nearest to the mean of their own
        task; None for one task, or without validation images.
    """
    import torch
    import torch.nn.functional as F

    from mmap_model.inference.plain import plain_images

    plain = plain_images(winner.backbone)
    train = winner.indices("train")
    means = torch.stack(
        [F.normalize(_features(winner, plain, task, own).mean(0), dim=0) for task, own in train.items()]
    )
    if len(train) == 1 or not has_validation(winner.cell.protocol):
        return means, None
    right = number = 0
    for place, (task, own) in enumerate(winner.indices("validation").items()):
        nearest = (_features(winner, plain, task, own) @ means.T).argmax(1)
        right, number = right + int((nearest == place).sum()), number + len(own)
    return means, right / number


def _features(winner: Winner, plain: nn.Module, task: str, indices: Indices) -> Tensor:
    """Unit features [n, E] of a task's images."""
    import torch

    from mmap_model.training.pixels import Normalisation

    normalise, device = Normalisation(winner.backbone), winner.backbone.device
    found = []
    with torch.no_grad():
        for first in range(0, len(indices), BATCH):
            pixels = normalise(winner.views(task, indices[first : first + BATCH]).to(device))
            found.append(plain(pixels, pixels.new_zeros(len(pixels), dtype=torch.int64)))
    return torch.cat(found)
