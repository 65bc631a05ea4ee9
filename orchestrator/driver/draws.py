"""The images that a study trains and validates with, and those it tests on, as a record."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mmap_model.data.draws import is_test_given
from mmap_model.plain import to_plain
from mmap_model.revisions import DRAWS, reasons_between
from orchestrator.study.draws import study_draws
from orchestrator.study.errors import StudyError

if TYPE_CHECKING:
    from mmap_model.data import Dataset
    from orchestrator.ledger import StudyStore
    from orchestrator.study import Study


def draw_records(study: Study, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """By name of a split and seed, ids of training and validation images; test images by number and hash."""
    records: dict[str, dict[str, Any]] = {}
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
        record: dict[str, Any] = {
            "dataset": dataset.manifest,
            "split": to_plain(split),
            "draw_seed": seed,
            "protocol": study.protocol,
            "largest_shots": study.shots_before_validation,
            "tasks": parts,
        }
        if study.percent_before_validation is not None:
            record["largest_percent"] = study.percent_before_validation
        if study.protocol != "paper" and not is_test_given(dataset, split, seed):
            record["revisions"] = {DRAWS.name: DRAWS.number}
        records[f"{split.label.removesuffix('%')}_seed{seed}"] = record
    return records


def keep_draws(store: StudyStore, study: Study, dataset: Dataset) -> None:
    """Save the draws with the study.

    Raises:
        StudyError: as `check_draws`.
    """
    for name, record in _checked(store, study, dataset).items():
        if store.load_draw(name) != record:
            store.save_draw(name, record)


def check_draws(store: StudyStore, study: Study, dataset: Dataset) -> None:
    """Refuse to go on with a study whose images are drawn otherwise now.

    Raises:
        StudyError: the same images and settings gave others when the study was first run.
    """
    _checked(store, study, dataset)


def _checked(store: StudyStore, study: Study, dataset: Dataset) -> dict[str, dict[str, Any]]:
    records = draw_records(study, dataset)
    for name, record in records.items():
        stored = store.load_draw(name)
        if stored is None or stored["dataset"] != record["dataset"] or stored == record:
            continue
        reasons = reasons_between(stored.get("revisions", {}), record.get("revisions", {}))
        raise StudyError(
            f"draw {name} of study {store.name!r} is stored with other images than are drawn now"
            + "".join(f": {reason}" for reason in reasons),
            where="STUDY",
            fix="run it with the software it was started with, or under another name: name=…",
        )
    return records
