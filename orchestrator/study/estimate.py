"""How long a study will take, from cells like its own that are finished already, or from a profile."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from mmap_model.backbone_identity import fingerprint_is_known
from mmap_model.plain import to_plain

if TYPE_CHECKING:
    from orchestrator.study.plan import StudyPlan

EstimateSource = Literal["cells", "profile"]

READ = 64
"""Records read at most: a rate needs no more."""


def estimate(plan: StudyPlan, cells: int) -> tuple[float, EstimateSource] | None:
    """Device-hours of ``cells`` cells, and what they are taken from; None where nothing like them is known.

    Alike are cells of the same data, backbone, method and split, whatever their shape: with a frozen backbone
    the prompt's size decides little. The rate is the median of seconds per epoch. Without a finished cell at
    some split, what ``orchestrator profile`` measured counts. Nothing is known of a backbone that this
    machine has not met: planning fetches and loads no weights.
    """
    if not fingerprint_is_known(plan.study.backbone):
        return None
    from orchestrator.ledger import Ledger

    ledger = Ledger(plan.study.storage)
    records = ledger.get_many(ledger.known()[:READ]).values()
    by_split: list[float] = []
    for split in plan.study.splits:
        rates = [
            sum(record["seconds"].values()) / record["epochs"]
            for record in records
            if _alike(record["cell"], plan) and record["cell"]["split"] == to_plain(split)
        ]
        if not rates:
            return _by_profile(plan, cells)
        by_split.append(median(rates))
    share = cells / len(by_split)
    return sum(by_split) * share * plan.study.recipe.epochs / 3600, "cells"


def _by_profile(plan: StudyPlan, cells: int) -> tuple[float, EstimateSource] | None:
    from orchestrator.study.profiles import stored_profile

    profiles = [stored_profile(plan, split) for split in plan.study.splits]
    seconds = [profile["cell_seconds"] for profile in profiles if profile is not None]
    if len(seconds) < len(profiles):
        return None
    return sum(seconds) * cells / len(seconds) / 3600, "profile"


def _alike(cell: dict[str, Any], plan: StudyPlan) -> bool:
    return bool(
        cell["kind"] == "train"
        and cell["dataset"] == plan.data.manifest
        and cell["backbone"] == plan.fingerprint
        and cell["configuration"]["method"] == plan.study.method
    )
