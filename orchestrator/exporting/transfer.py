"""The winner of a study on classes and tasks that it was not trained on: what is scored, and the numbers.

Nothing here chooses anything: the trial is the study's own by validation, and every seed is scored.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmap_model.data.dataset import DatasetSpec
from mmap_model.errors import InputError, nearest
from orchestrator.exporting.choice import Chosen
from orchestrator.exporting.winner import Winner
from orchestrator.statistics.summary import summarize

if TYPE_CHECKING:
    from mmap_model.data import Dataset
    from mmap_model.inference.transfer import Labels, Probabilities, Views
    from orchestrator.face.stored import Stored

NEW = "new"
MEAN, NEAREST = "mean", "nearest"
TransferKind = Literal["base_to_new", "unseen"]


@dataclass(frozen=True)
class Target:
    """What is scored.

    Attributes:
        kind: ``base_to_new`` (the same tasks, all classes), or ``unseen`` tasks.
        dataset: with these tasks.
        name: as people call it.
    """

    kind: TransferKind
    dataset: DatasetSpec
    name: str


def target_of(stored: Stored, to: str, elsewhere: Callable[[], DatasetSpec]) -> Target:
    """What ``--to`` names.

    Args:
        stored: the study.
        to: ``new``, a task that the study left out, or a study or layout.
        elsewhere: gives the dataset of that study or layout.

    Raises:
        InputError: ``new`` of a study of all classes, or a name that is neither.
    """
    own = stored.study.dataset
    if to == NEW:
        if own.class_half != "base":
            raise InputError(
                f"study {stored.store.name!r} was trained on all classes, so none is new",
                where="--to",
                fix="train a study with dataset.class_half=base, under a name of its own",
            )
        return Target("base_to_new", replace(own, class_half="all"), "new classes")
    if own.tasks is not None:
        from mmap_model.data import open_dataset

        every = [task.name for task in open_dataset(replace(own, tasks=None)).tasks]
        if to in every:
            if to in own.tasks:
                raise InputError(
                    f"study {stored.store.name!r} was trained on task {to!r}",
                    where="--to",
                    fix=f"name one that it left out: {', '.join(t for t in every if t not in own.tasks)}",
                )
            return Target("unseen", replace(own, tasks=(to,)), to)
    return Target("unseen", elsewhere(), to)


@dataclass(frozen=True)
class TaskScores:
    """One task under one seed: accuracies in 0 … 1 by name, of the tuned model and of the plain CLIP."""

    task: str
    tuned: Mapping[str, float]
    plain: Mapping[str, float]
    prompts: Sequence[str]
    images: int


class Transfer:
    """Scores the seeds of one trial on a target, one after the other.

    Args:
        stored: the study.
        chosen: its cells, a seed each.
        target: what is scored.
        prompts: ``mean`` over the trained tasks, ``nearest``, or the name of one; of the task itself where
            the target is ``base_to_new``.
        device: where to compute.
    """

    def __init__(
        self,
        stored: Stored,
        chosen: Sequence[Chosen],
        target: Target,
        prompts: str = MEAN,
        device: str = "cpu",
    ) -> None:
        from mmap_model.data import open_dataset

        self.target, self._chosen = target, chosen
        self._winners = [Winner(stored, one, None, device) for one in chosen]
        self._prompts = prompts
        self._dataset = open_dataset(target.dataset)
        self._plain: dict[tuple[str, bytes], tuple[Probabilities, Any]] = {}
        trained = [task.name for task in self._winners[0].dataset.tasks]
        if target.kind == "unseen" and prompts not in (MEAN, NEAREST, *trained):
            raise InputError(
                f"the study has no task {prompts!r}",
                where="--prompts",
                fix=nearest(prompts, [MEAN, NEAREST, *trained]),
            )

    @property
    def tasks(self) -> list[str]:
        return [task.name for task in self._dataset.tasks]

    def scores(self, tell: Callable[[str], None] = lambda what: None) -> dict[str, list[TaskScores]]:
        """By seed; ``tell`` hears what is scored."""
        found = {}
        for one, winner in zip(self._chosen, self._winners, strict=True):
            tell(f"seed {one.seed}")
            found[one.seed] = self._of_seed(winner)
        return found

    def _of_seed(self, winner: Winner) -> list[TaskScores]:
        import mmap_model
        from mmap_model.inference.exporting import export

        with tempfile.TemporaryDirectory(prefix="mmap-transfer-") as folder:
            export(winner.trained, Path(folder) / "prompts", "prompts")
            classifier = mmap_model.load(Path(folder) / "prompts", backbone=winner.backbone)
        return [self._of_task(winner, classifier, task.name, task.classes) for task in self._dataset.tasks]

    def _of_task(self, winner: Winner, classifier: Any, task: str, classes: Sequence[str]) -> TaskScores:
        from mmap_model.inference.transfer import plain_probabilities, probabilities_under

        indices = self._test(winner, task)
        labels = self._dataset.labels(task)[indices]
        key = (task, indices.tobytes())
        if key not in self._plain:
            self._plain[key] = plain_probabilities(
                winner.backbone, classes, winner.trained.template, self._views(winner, task, indices)
            )
        plain, mean = self._plain[key]
        prompts = self._sources(winner, task, mean)
        tuned = probabilities_under(classifier, prompts, classes, self._views(winner, task, indices))
        return TaskScores(
            task, self._numbers(tuned, labels), self._numbers(plain, labels), prompts, len(indices)
        )

    def _numbers(self, probabilities: Probabilities, labels: Labels) -> dict[str, float]:
        from mmap_model.inference.transfer import Halves, accuracy

        if self.target.kind == "unseen":
            return {"accuracy": accuracy(probabilities, labels)}
        found = Halves.of(probabilities, labels)
        return {"base": found.base, "new": found.new, "all": found.every}

    def _test(self, winner: Winner, task: str) -> Labels:
        """The test images of a task as the cell's protocol draws them."""
        from mmap_model.data.draws import draw_task

        cell = winner.cell
        return draw_task(
            self._dataset,
            task,
            split=cell.split,
            draw_seed=cell.seeds.draw,
            protocol=cell.protocol,
            largest_shots=cell.largest_shots,
            largest_percent=cell.largest_percent,
        ).test

    def _views(self, winner: Winner, task: str, indices: Labels) -> Views:
        from mmap_model.inference.transfer import BATCH

        dataset: Dataset = self._dataset
        for first in range(0, len(indices), BATCH):
            part = indices[first : first + BATCH]
            yield dataset.views(task, part, winner.backbone.image_size, winner.backbone.resize)

    def _sources(self, winner: Winner, task: str, mean: Any) -> list[str]:
        """Trained tasks whose prompts classify the images of a task."""
        if self.target.kind == "base_to_new":
            return [task]
        trained = [own.name for own in winner.dataset.tasks]
        if self._prompts == MEAN:
            return trained
        if self._prompts != NEAREST:
            return [self._prompts]
        from orchestrator.exporting.task_means import task_means

        means, _ = task_means(winner)
        return [trained[int(np.argmax(means.double().cpu().numpy() @ mean))]]


def document(transfer: Transfer, scores: Mapping[str, Sequence[TaskScores]], *, trial: int) -> dict[str, Any]:
    """What was found, JSON-ready: by seed and task, and the mean over tasks with its spread over seeds.

    The harmonic mean is taken for each seed, of its base and new accuracies, each the mean over tasks.
    """
    target = transfer.target
    return {
        "target": target.name,
        "kind": target.kind,
        "trial": trial,
        "seeds": {
            seed: [
                {
                    "task": one.task,
                    "tuned": dict(one.tuned),
                    "zero_shot": dict(one.plain),
                    "prompts": list(one.prompts),
                    "images": one.images,
                }
                for one in own
            ]
            for seed, own in scores.items()
        },
        "tuned": _summaries(scores.values(), "tuned"),
        "zero_shot": _summaries(scores.values(), "plain"),
    }


def _summaries(seeds: Iterable[Sequence[TaskScores]], side: Literal["tuned", "plain"]) -> dict[str, Any]:
    from mmap_model.inference.transfer import harmonic_mean

    rows = []
    for own in seeds:
        numbers = [getattr(one, side) for one in own]
        row = {name: float(np.mean([one[name] for one in numbers])) for name in numbers[0]}
        if "new" in row:
            row["harmonic"] = harmonic_mean(row["base"], row["new"])
        rows.append(row)
    return {name: summarize([row[name] for row in rows]).to_dict() for name in rows[0]}
