"""What a class gets that was not there in training, as the method declares (``Method.new_classes``).

Legend: C classes, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmap_model.errors import ConfigurationError
from mmap_model.inference.engine import ClassRows
from mmap_model.inference.plain import plain_classes
from mmap_model.inference.trained import Trained


class Rewording:
    """Class features of a trained model's tasks by other class names; a ``Reword``."""

    def __init__(self, trained: Trained) -> None:
        self._trained = trained

    def __call__(self, task: int, classes: Sequence[str], template: str | None) -> ClassRows:
        """See ``ClassRows``.

        Args:
            task: its place among the exported tasks.
            classes: names.
            template: of new classes' texts; None: the one trained with.

        Raises:
            ConfigurationError: the method refuses, or says that it takes what it does not.
        """
        if self._trained.method.new_classes == "text":
            return ClassRows(self._by_text(task, classes, template), mixed=False)
        known = self._known(task)
        new = [name for name in classes if name not in known]
        if new and self._trained.method.new_classes == "refused":
            raise ConfigurationError(
                f"{self._trained.method.name} cannot classify {new[0]!r}, which it was not trained on",
                where="classes",
                fix=f"choose among {', '.join(known)}",
            )
        rows = dict(known)
        if new:
            if self._trained.method.new_classes == "tuned_text":
                features = self._trained.model.text_rows(self._trained.tasks[task], new, template)
            else:
                texts = [template] if template else self._trained.templates_of(self._trained.tasks[task])
                features = plain_classes(self._trained.backbone, new, texts)
            rows |= dict(zip(new, features.to(next(iter(known.values()))), strict=True))
        return ClassRows(torch.stack([rows[name] for name in classes]), mixed=bool(new))

    def _known(self, task: int) -> dict[str, Tensor]:
        """Trained rows [E] by class name."""
        names = self._trained.checkpoint.tasks[self._trained.task_names[task]]
        features = self._trained.deployed.head.class_features[task]
        return dict(zip(names, features, strict=False))

    @torch.no_grad()
    def _by_text(self, task: int, classes: Sequence[str], template: str | None) -> Tensor:
        """[C, E] by the tuned model's own text side."""
        place = self._trained.tasks[task]
        model = self._trained.reworded(place, classes, template)
        return model.class_features()[0, place, : len(classes)].detach().clone()
