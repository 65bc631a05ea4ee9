"""The draws of every split and seed of a study, and what fixed lists may not do to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmap_model.configuration import Split, has_validation
from mmap_model.data.draws import Draw, draw_task
from mmap_model.data.lists import check_lists

if TYPE_CHECKING:
    from mmap_model.data import Dataset
    from orchestrator.study.model import Study


def study_draws(study: Study, dataset: Dataset) -> Iterator[tuple[Split, int, dict[str, Draw]]]:
    """Every split and draw seed of a study, with the draw of each task."""
    for split in study.splits:
        for seed in dict.fromkeys(seeds.draw for seeds in study.seeds):
            yield (
                split,
                seed,
                {
                    task.name: draw_task(
                        dataset,
                        task.name,
                        split=split,
                        draw_seed=seed,
                        protocol=study.protocol,
                        largest_shots=study.shots_before_validation,
                        largest_percent=study.percent_before_validation,
                    )
                    for task in dataset.tasks
                },
            )


def check_fixed_lists(study: Study, dataset: Dataset) -> None:
    """Refuse fixed lists by which a seed or split of a study tests on what another trains or validates with.

    Does nothing where images are drawn, and under protocols without validation, which choose nothing.

    Raises:
        DatasetError: naming the image, its lists and what to change; or lists that do not fit the images.
    """
    fixed = dataset.fixed(dataset.tasks[0].name, study.splits[0], study.seeds[0].draw)
    if not has_validation(study.protocol) or fixed is None:
        return
    draws = {(split, seed): tasks for split, seed, tasks in study_draws(study, dataset)}
    several = "run a study for each split or seed"
    check_lists(dataset, getattr(dataset, "lists", None), draws, several=several)
