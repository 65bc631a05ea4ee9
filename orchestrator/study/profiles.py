"""What ``orchestrator profile`` measured, kept beside the records so that ``plan`` can count with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmap_model.configuration import Split
from mmap_model.plain import content_key, to_plain
from orchestrator.ledger.documents import decode, encode
from orchestrator.ledger.storage import open_storage

if TYPE_CHECKING:
    from orchestrator.study.plan import StudyPlan

FOLDER = "profiles"


def store_profile(plan: StudyPlan, split: Split, profile: dict[str, Any]) -> None:
    """Keep the latest profile of cells like these; ``profile`` has their ``cell_seconds``."""
    open_storage(plan.study.storage).write(_path(plan, split), encode(profile))


def stored_profile(plan: StudyPlan, split: Split) -> dict[str, Any] | None:
    """The latest profile of cells like those of the study at one split; None if there is none."""
    data = open_storage(plan.study.storage).read(_path(plan, split))
    return None if data is None else decode(data)


def _path(plan: StudyPlan, split: Split) -> str:
    """By data, backbone, method, split, recipe, number of seeds and precision: what decides the time most."""
    study = plan.study
    key = content_key(
        {
            "dataset": plan.data.manifest,
            "backbone": plan.fingerprint,
            "method": study.method,
            "split": to_plain(split),
            "batch_size": study.recipe.batch_size,
            "epochs": study.recipe.epochs,
            "seeds": len(study.seeds) if study.fuse != "off" else 1,
            "precision": study.precision,
        }
    )
    return f"{FOLDER}/{key}.json"
