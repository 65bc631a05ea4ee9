"""The interval between the probe's snapshots, against the steps that the probe has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeGuard

from mmap_model.configuration import Grouping, Split
from mmap_model.data import Dataset
from mmap_model.data.draws import draw_task
from orchestrator.study.errors import StudyError
from orchestrator.study.model import Study
from search_spaces import SearchSpace

KEY = "grouping.snapshot_every"


@dataclass(frozen=True)
class ProbeSteps:
    """How long the probe of a split trains.

    Attributes:
        split: of the study.
        epochs: of the probe's recipe.
        warm: steps of its warm-up, >= 0.
        last: steps in all.
    """

    split: Split
    epochs: int
    warm: int
    last: int

    def meets(self, every: int) -> bool:
        """Whether a step after the warm-up is a multiple of ``every``."""
        return self.last // every > self.warm // every


def with_fitting_interval(study: Study, dataset: Dataset) -> Study:
    """Return the study, its default interval replaced by the probe's own where the probe is shorter.

    With a few images of each class the probe ends before the tenth step. Averaging all of its snapshots is
    then the only choice, and nobody has to know of it.
    """
    grouping = study.grouping
    if not _is_measured(grouping) or any(KEY in space.writes() for space in study.spaces()):
        return study
    own = grouping.probe.snapshot_every
    if grouping.snapshot_every != Grouping.snapshot_every or own > grouping.snapshot_every:
        return study
    steps = list(_probe_steps(study, grouping, dataset))
    if all(each.meets(grouping.snapshot_every) for each in steps) or not all(e.meets(own) for e in steps):
        return study
    return study.model_copy(update={"grouping": replace(grouping, snapshot_every=own)})


def check_interval(study: Study, dataset: Dataset, space: SearchSpace) -> None:
    """Check that every interval that may be averaged over meets a step of the probe, after its warm-up.

    Raises:
        StudyError: one does not.
    """
    grouping = study.grouping
    if not _is_measured(grouping):
        return
    own = grouping.probe.snapshot_every
    for steps in _probe_steps(study, grouping, dataset):
        for every in space.choices(KEY):
            if not steps.meets(every):
                smaller = f"use a multiple of {own} up to {steps.last}, or "
                raise StudyError(
                    f"the probe takes no snapshot every {every} steps: at {steps.split.label} its "
                    f"{steps.epochs} epochs have {steps.last} steps, the first {steps.warm} of them warm-up",
                    where=KEY,
                    fix=(smaller if steps.meets(own) else "use ") + "more grouping.probe.recipe.epochs",
                )


def labelled_images(study: Study, dataset: Dataset, split: Split) -> list[int]:
    """Labelled images of each task at one split, of the first seed's draw."""
    return [
        len(
            draw_task(
                dataset,
                task.name,
                split=split,
                draw_seed=study.seeds[0].draw,
                protocol=study.protocol,
                largest_shots=study.shots_before_validation,
                largest_percent=study.percent_before_validation,
            ).train
        )
        for task in dataset.tasks
    ]


def _is_measured(grouping: Grouping | None) -> TypeGuard[Grouping]:
    return grouping is not None and grouping.mode == "gradient"


def _probe_steps(study: Study, grouping: Grouping, dataset: Dataset) -> Iterator[ProbeSteps]:
    recipe = study.recipe if grouping.probe.same else grouping.probe.recipe
    for split in study.splits:
        largest = max(labelled_images(study, dataset, split))
        per_epoch, _ = recipe.for_split(split).epoch_of(largest)
        yield ProbeSteps(split, recipe.epochs, recipe.warmup_epochs * per_epoch, recipe.epochs * per_epoch)
