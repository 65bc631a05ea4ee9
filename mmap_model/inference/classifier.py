"""A classifier of images: what ``mmap_model.load`` gives.

Legend: B images, S side of the square input, C classes (the most of any task), E embedding.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mmap_model.data.ahead import ahead
from mmap_model.errors import CheckpointError, ConfigurationError, DatasetError, require
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.engine import InferenceEngine
from mmap_model.inference.images import Picture, Pictures, each, pixels_of
from mmap_model.inference.predictions import Prediction, Predictions
from mmap_model.training.pixels import channels

TaskChoice = int | str | Tensor
"""A task by index or name, or the index of each image's, int64 [B]."""

MEANS = "means"
"""The tensor in the file of task features, [T, E]."""


class Classifier:
    """Classifies images of the tasks that an artefact names.

    Attributes:
        artefact: all that is known of it.
    """

    def __init__(self, artefact: Artefact, folder: Path, engine: InferenceEngine) -> None:
        """See ``mmap_model.load``.

        Args:
            artefact: the description.
            folder: with its files.
            engine: computes logits.
        """
        self.artefact = artefact
        self._folder, self._engine = folder, engine
        pixels = artefact.preprocessing
        self._mean, self._std = (channels(v, engine.dtype, engine.device) for v in (pixels.mean, pixels.std))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, by index."""
        return tuple(task.name for task in self.artefact.tasks)

    def classes(self, task: int | str) -> tuple[str, ...]:
        """Class names of a task, in the order of its logits. Raises ConfigurationError if there is none."""
        return self.artefact.tasks[self.artefact.task(task)].classes

    @property
    def image_size(self) -> int:
        """S, pixels."""
        return self.artefact.preprocessing.size

    @property
    def calibrated(self) -> bool:
        """False once a task mixes classes of the tuned model with those of the plain CLIP."""
        return self.artefact.calibrated

    @property
    def device(self) -> torch.device:
        """Where logits are computed."""
        return self._engine.device

    @cached_property
    def task_features(self) -> Tensor | None:
        """Mean unit feature of each task's training images, by the plain CLIP, [T, E]; None if not kept."""
        name = self.artefact.task_features
        return None if name is None else load_file(self._folder / name)[MEANS].to(self.device)

    def preprocess(self, image: Picture, name: str = "image") -> Tensor:
        """The pixels that the classifier sees of an image: uint8 [3, S, S], upright and in RGB.

        Raises:
            DatasetError: it cannot be decoded; with ``name``.
        """
        return pixels_of(image, self.image_size, self.artefact.preprocessing.resize, name)

    def logits(self, pixels: Tensor, task: TaskChoice) -> Tensor:
        """exp(logit_scale)·cosine, fp32 [B, C]; -inf beyond a task's classes. Tasks may be mixed in a batch.

        Args:
            pixels: [B, 3, S, S] with values from 0 to 255, as of ``preprocess``.
            task: of all images, or of each.
        """
        return self._engine.logits(self._normalised(pixels), self._indices(task, len(pixels)))

    def features(self, pixels: Tensor, task: TaskChoice) -> Tensor:
        """Unit image features [B, E], as ``logits`` compares them with classes.

        Raises:
            ConfigurationError: the artefact gives logits only.
        """
        return self._engine.features(self._normalised(pixels), self._indices(task, len(pixels)))

    def plain_features(self, pixels: Tensor) -> Tensor:
        """Unit features [B, E] of the image tower as it was before tuning.

        Raises:
            ConfigurationError: the artefact does not hold it.
        """
        return self._engine.plain_features(self._normalised(pixels))

    def predict(
        self, images: Pictures, *, task: int | str | None = None, top: int = 5, batch: int = 64
    ) -> Predictions:
        """Classify images, in constant memory however many there are.

            for prediction in classifier.predict(Path("photos").glob("*.jpg"), task="photo"):
                print(prediction.name, prediction.label, prediction.probabilities[0])

        An image that cannot be decoded gives a prediction with ``error``; the others go on.

        Args:
            images: one or many: paths, bytes, Pillow images, arrays, tensors, or what iterates over them.
            task: of all of them, by name or index; it may be left out where there is only one.
            top: how many labels each prediction has, at most.
            batch: images that are computed at once.

        Raises:
            ConfigurationError: no such task, or ``top`` or ``batch`` below 1.
        """
        place = self.artefact.task(0 if task is None and len(self.tasks) == 1 else task)
        require(top >= 1, "top", top, "use 1 or more")
        require(batch >= 1, "batch", batch, "use 1 or more")
        return Predictions(lambda: self._predict(each(images), place, top, batch))

    def with_classes(
        self, classes: Sequence[str], *, task: int | str, template: str | None = None
    ) -> Classifier:
        """A classifier with other classes of one task, which need not have been seen in training.

        What a new class gets is the method's choice: its text feature by the tuned model (``text``), that of
        the plain CLIP (``zero_shot``; the result is marked as not ``calibrated``), or a refusal.

        Args:
            classes: all classes of the task from now on.
            task: by name or index.
            template: of the class prompts, ``{}`` being the class name; None: the one trained with.

        Raises:
            ConfigurationError: no text tower, a method that refuses, no classes, or the same one twice.
        """
        place, names = self.artefact.task(task), tuple(classes)
        require(not isinstance(classes, str), "classes", classes, "give a list of names")
        require(len(names) > 0, "classes", list(names), "name at least one class")
        require(len(set(names)) == len(names), "classes", list(names), "name each class once")
        require(template is None or "{}" in template, "template", template, "write {} where the name goes")
        engine, mixed = self._engine.with_classes(place, names, template)
        entry = replace(
            self.artefact.tasks[place], classes=names, validation_accuracy=None, template=template
        )
        tasks = (*self.artefact.tasks[:place], entry, *self.artefact.tasks[place + 1 :])
        calibrated = self.artefact.calibrated and not mixed
        return Classifier(replace(self.artefact, tasks=tasks, calibrated=calibrated), self._folder, engine)

    def save(self, folder: str | Path) -> Artefact:
        """Write this classifier as an artefact of the same kind, its present classes included.

        Raises:
            CheckpointError: the folder holds something, or that which was loaded is gone.
        """

        def fill(target: Path) -> None:
            for name in self.artefact.files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    shutil.copyfile(self._folder / name, target / name)
                except FileNotFoundError as error:
                    raise CheckpointError(
                        f"{name} is gone",
                        where=str(self._folder),
                        fix="load it from where it is now",
                    ) from error

        return self.artefact.write(folder, fill)

    def _predict(
        self, images: Iterator[tuple[str, Picture]], task: int, top: int, batch: int
    ) -> Iterator[Prediction]:
        name, labels = self.tasks[task], self.classes(task)
        reader = ahead(self._read, images, threads=min(4, os.cpu_count() or 1), reach=batch)
        while read := list(islice(reader, batch)):
            found = [pixels for _, pixels, _ in read if pixels is not None]
            rows: Iterator[tuple[list[int], list[float]]] = iter(())
            if found:
                logits = self.logits(torch.stack(found), task)[:, : len(labels)]
                best = logits.softmax(-1).topk(min(top, len(labels)), dim=-1)
                rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            for image, pixels, error in read:
                if pixels is None:
                    yield Prediction(name=image, task=name, error=error)
                    continue
                classes, probabilities = next(rows)
                yield Prediction(
                    name=image,
                    task=name,
                    labels=tuple(labels[c] for c in classes),
                    probabilities=tuple(probabilities),
                )

    def _read(self, given: tuple[str, Picture]) -> tuple[str, Tensor | None, str | None]:
        name, image = given
        try:
            return name, self.preprocess(image, name), None
        except DatasetError as error:
            return name, None, error.problem

    def _normalised(self, pixels: Tensor) -> Tensor:
        side = self.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise ConfigurationError(
                f"pixels are {list(pixels.shape)}, not [B, 3, {side}, {side}]",
                where="pixels",
                fix="make them with preprocess(image), and torch.stack them",
            )
        given = pixels.to(self.device)
        given = given if given.dtype == torch.uint8 else given.to(self._engine.dtype)
        return torch.sub(given, self._mean).div_(self._std)

    def _indices(self, task: TaskChoice, images: int) -> Tensor:
        """int64 [B]."""
        if not isinstance(task, Tensor):
            return torch.full((images,), self.artefact.task(task), device=self.device)
        if (
            task.shape != (images,)
            or task.is_floating_point()
            or task.is_complex()
            or task.dtype == torch.bool
        ):
            raise ConfigurationError(
                f"task is {task.dtype} {list(task.shape)} for {images} images",
                where="task",
                fix="give one index for each image, int64",
            )
        # Looked at here, as a wrong index on a GPU ends the process's use of it.
        for index in task.unique().tolist():
            self.artefact.task(index)
        return task.to(self.device, torch.int64)
