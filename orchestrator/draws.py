"""The images that a study trains and validates with, and those it tests on, as a record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mmap_model.configuration import Split, to_plain
from mmap_model.data.draws import Draw, draw_task
from orchestrator.study.errors import StudyError

if TYPE_CHECKING:
    from mmap_model.data import Dataset
    from orchestrator.ledger import StudyStore
    from orchestrator.study import Study


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
                    )
                    for task in dataset.tasks
                },
            )


def draw_records(study: Study, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """By name of a split and seed, ids of training and validation images; test images by number and hash."""
    records = {}
    for split, seed, tasks in study_draws(study, dataset):
        parts = {}
        for name, drawn in tasks.items():
            ids = dataset.sample_ids(name)
            test = hashlib.sha256("\n".join(ids[i] for i in drawn.test.tolist()).encode())
            parts[name] = {
                "train": [ids[i] for i in drawn.train.tolist()],
                "validation": [ids[i] for i in drawn.validation.tolist()],
                "test": {"images": len(drawn.test), "sha256": test.hexdigest()},
            }
        records[f"{split.label.removesuffix('%')}_seed{seed}"] = {
            "dataset": dataset.manifest,
            "split": to_plain(split),
            "draw_seed": seed,
            "protocol": study.protocol,
            "largest_shots": study.shots_before_validation,
            "tasks": parts,
        }
    return records


def keep_draws(store: StudyStore, study: Study, dataset: Dataset) -> None:
    """Save the draws with the study.

    Raises:
        StudyError: the same images and settings gave others when the study was first run.
    """
    for name, record in draw_records(study, dataset).items():
        stored = store.load_draw(name)
        if stored is None:
            store.save_draw(name, record)
        elif stored["dataset"] == record["dataset"] and stored != record:
            raise StudyError(
                f"draw {name} of study {store.name!r} is stored with other images than are drawn now",
                where="STUDY",
                fix="run it with the software it was started with, or under another name: name=…",
            )
        elif stored != record:
            store.save_draw(name, record)
