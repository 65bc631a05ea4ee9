"""A tuned model on classes and tasks that it was not trained on.

Legend: n images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.data.halves import base_classes
from mmap_model.inference.classifier import Classifier
from mmap_model.inference.plain import plain_classes, plain_images
from mmap_model.training.pixels import Normalisation

BATCH = 64

Probabilities = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Views = Iterator[Tensor]
"""Evaluation views in order, uint8 [b, 3, S, S]."""


@dataclass(frozen=True)
class Halves:
    """Accuracies of one task, base to new, each in 0 … 1 (Zhou et al., CVPR 2022, section 4.1).

    Attributes:
        base: images of base classes, among base classes.
        new: images of new classes, among new classes.
        every: all images, among all classes.
    """

    base: float
    new: float
    every: float

    @classmethod
    def of(cls, probabilities: Probabilities, labels: Labels) -> Halves:
        """From probabilities [n, C] over all classes, base classes first, and labels [n]."""
        middle = base_classes(probabilities.shape[1])
        of_base = labels < middle
        return cls(
            base=accuracy(probabilities[of_base, :middle], labels[of_base]),
            new=accuracy(probabilities[~of_base, middle:], labels[~of_base] - middle),
            every=accuracy(probabilities, labels),
        )


def harmonic_mean(base: float, new: float) -> float:
    """2·base·new / (base + new); 0 where one of them is."""
    return 2 * base * new / (base + new) if base and new else 0.0


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of images [n] whose most probable class, [n, C], is their own."""
    return float((probabilities.argmax(1) == labels).mean())


@torch.no_grad()
def probabilities_under(
    classifier: Classifier,
    prompts: Sequence[str],
    classes: Sequence[str],
    views: Views,
    check: Callable[[], None] = lambda: None,
) -> Probabilities:
    """Class probabilities [n, C] under the full prompt sets of trained tasks: their mean over these tasks.

    Prompts themselves are never averaged: what one set says of an image and its class texts belongs together.

    Args:
        classifier: with a text tower, unless the classes are those of the trained tasks, in their order.
        prompts: names of trained tasks whose prompts are used.
        classes: of the images, in the order of their labels.
        views: of the images.
        check: called before every batch; may raise to end it.

    Raises:
        ConfigurationError: a method that gives new classes no features.
    """
    for task in prompts:
        if classifier.classes(task) != tuple(classes):
            classifier = classifier.with_classes(classes, task=task)
    found = []
    for pixels in views:
        check()
        each = [
            classifier.logits(pixels, task)[:, : len(classes)].double().softmax(1).cpu() for task in prompts
        ]
        found.append(torch.stack(each).mean(0))
    return torch.cat(found).numpy()


@torch.no_grad()
def plain_probabilities(
    backbone: Backbone, classes: Sequence[str], template: str, views: Views
) -> tuple[Probabilities, npt.NDArray[np.float64]]:
    """What the CLIP without prompts gives: probabilities [n, C], and the mean unit image feature [E]."""
    tower, normalise = plain_images(backbone), Normalisation(backbone)
    texts = plain_classes(backbone, classes, template)
    scale = backbone.clip.logit_scale.exp()
    found, total, count = [], torch.zeros(texts.shape[1], dtype=torch.float64), 0
    for pixels in views:
        own = normalise(pixels.to(backbone.device))
        features = tower(own, own.new_zeros(len(own), dtype=torch.int64))
        found.append((scale * features @ texts.T).double().softmax(1).cpu())
        total, count = total + features.double().sum(0).cpu(), count + len(features)
    mean = total / count
    return torch.cat(found).numpy(), (mean / mean.norm()).numpy()
