"""Which task an image belongs to, by the CLIP as it was before tuning.

Legend: B images, T tasks, E embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.errors import ConfigurationError
from mmap_model.inference.classifier import Classifier


def nearest_task(classifier: Classifier, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The task whose training images' mean feature is nearest to each image's, and how sure that is.

    Args:
        classifier: of an artefact that holds these means.
        pixels: [B, 3, S, S] with values from 0 to 255.

    Returns:
        Indices of tasks, int64 [B], and confidences, fp32 [B]: of the chosen task in the softmax over tasks
        of exp(logit_scale)·cosine, as the CLIP weighs classes. It is not calibrated.

    Raises:
        ConfigurationError: the artefact holds no means, or not the image tower as it was before tuning.
    """
    means = classifier.task_features
    if means is None:
        raise ConfigurationError(
            "the artefact does not say what images of its tasks are like",
            where="task",
            fix=f"name one of {', '.join(classifier.tasks)}",
        )
    cosines = classifier.plain_features(pixels).float() @ F.normalize(means.float(), dim=-1).T
    scale = sum(classifier.artefact.logit_scale) / len(classifier.tasks)
    confidence, task = torch.softmax(scale * cosines, dim=-1).max(-1)
    return task, confidence
