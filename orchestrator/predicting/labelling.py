"""From pixels to what is said of them: the task, the labels, their probabilities.

Legend: B images, S side of the square input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mmap_model.errors import ConfigurationError
from orchestrator.predicting.reading import Read
from orchestrator.predicting.rows import Said, table

if TYPE_CHECKING:
    from torch import Tensor

    from mmap_model.inference.artefact import Artefact
    from mmap_model.inference.classifier import Classifier

AUTO = "auto"
"""In place of a task: the one whose training images are most like the image."""


@dataclass(frozen=True)
class Question:
    """What is asked of every image.

    Attributes:
        task: name of the task, None to choose it by the image.
        classes: in place of the task's (of every task's, where it is chosen), None for its own.
        top: labels of each image, at most.
    """

    task: str | None
    classes: tuple[str, ...] | None = None
    top: int = 5

    @classmethod
    def of(cls, artefact: Artefact, task: str | None, classes: Sequence[str] | None, top: int) -> Question:
        """Check what was asked against what an artefact can.

        Raises:
            ConfigurationError: no such task, none named where there are several, or none can be chosen.
        """
        names = [entry.name for entry in artefact.tasks]
        if task is None and len(names) > 1:
            raise ConfigurationError(
                f"the artefact has {len(names)} tasks",
                where="--task",
                fix=f"name one of {', '.join(names)}, or auto to choose by the image",
            )
        chosen = names[0] if task is None else task
        asked = tuple(classes) if classes is not None else None
        if asked is not None and not artefact.text_tower:
            raise ConfigurationError(
                f"an artefact of kind {artefact.kind} has no text tower, so its classes are fixed",
                where="--classes",
                fix="export with --format prompts",
            )
        if chosen == AUTO and AUTO not in names:
            if artefact.task_features is None:
                raise ConfigurationError(
                    "the artefact does not hold what auto compares with (task_features)",
                    where="--task",
                    fix=f"name one of {', '.join(names)}, or export it again",
                )
            return cls(None, asked, top)
        return cls(names[artefact.task(chosen, "--task")], asked, top)

    def apply(self, classifier: Classifier) -> Classifier:
        """The classifier with the classes that are asked for.

        Raises:
            ConfigurationError: it cannot take them.
        """
        if self.classes is not None:
            for task in classifier.tasks if self.task is None else (self.task,):
                classifier = classifier.with_classes(self.classes, task=task)
        return classifier


class _Started(NamedTuple):
    """Results that the device may be computing still; all [B, …]."""

    tasks: Tensor | None
    confidences: Tensor | None
    places: Tensor
    probabilities: Tensor


class Labeller:
    """Labels images with one classifier.

    Attributes:
        classifier: with the classes that are asked for.
        confidence: rows say how sure the task is.
    """

    def __init__(self, classifier: Classifier, question: Question) -> None:
        """See ``Question``; the classifier has its classes already."""
        self.confidence = question.task is None
        self.classifier, self._task = classifier, question.task
        self._classes = [classifier.classes(task) for task in classifier.tasks]
        asked = self._classes if question.task is None else [classifier.classes(question.task)]
        self._top = min(question.top, max(map(len, asked)))

    def warm_up(self) -> None:
        """Label a black image. Raises ConfigurationError where the artefact cannot do what is asked."""
        import torch

        side = self.classifier.image_size
        self._finish(self._start(torch.zeros(1, 3, side, side, dtype=torch.uint8)))

    def tables(self, chunks: Iterable[Sequence[Read]]) -> Iterator[Any]:
        """A ``pyarrow.Table`` of rows for each chunk of images, in order.

        A chunk is given to the device before the results of the one before are fetched: it never waits.
        """
        before: tuple[Sequence[Read], _Started | None] | None = None
        for chunk in chunks:
            started = (chunk, self._started(chunk))
            if before is not None:
                yield self._table(*before)
            before = started
        if before is not None:
            yield self._table(*before)

    def _started(self, chunk: Sequence[Read]) -> _Started | None:
        import torch

        pixels = [image.pixels for image in chunk if image.pixels is not None]
        return self._start(torch.stack(pixels)) if pixels else None

    def _start(self, pixels: Tensor) -> _Started:
        from mmap_model.inference.nearest_task import nearest_task

        tasks, confidences = None, None
        if self._task is None:
            tasks, confidences = nearest_task(self.classifier, pixels)
            logits = self.classifier.logits(pixels, tasks)
        else:
            logits = self.classifier.logits(pixels, self._task)
        best = logits.softmax(-1).topk(min(self._top, logits.shape[1]), dim=-1)
        return _Started(tasks, confidences, best.indices, best.values)

    def _finish(self, started: _Started) -> Iterator[Said]:
        images = len(started.places)
        own = 0 if self._task is None else self.classifier.artefact.task(self._task)
        tasks = [own] * images if started.tasks is None else started.tasks.tolist()
        sure = [None] * images if started.confidences is None else started.confidences.tolist()
        rows = zip(tasks, sure, started.places.tolist(), started.probabilities.tolist(), strict=True)
        for task, confidence, places, probabilities in rows:
            classes = self._classes[task]
            shown = min(len(classes), len(places))
            yield Said(
                task=self.classifier.tasks[task],
                confidence=confidence,
                labels=[classes[place] for place in places[:shown]],
                probabilities=probabilities[:shown],
            )

    def _table(self, chunk: Sequence[Read], started: _Started | None) -> Any:
        said = self._finish(started) if started is not None else iter(())
        rows = [
            next(said) if image.pixels is not None else Said(task=self._task, error=image.error)
            for image in chunk
        ]
        indices, names = [image.index for image in chunk], [image.name for image in chunk]
        return table(indices, names, rows, confidence=self.confidence)
