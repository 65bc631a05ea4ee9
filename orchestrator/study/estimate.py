"""How long a study will take, from cells like its own that are finished already."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from mmap_model.configuration import to_plain

if TYPE_CHECKING:
    from orchestrator.study.plan import StudyPlan

READ = 64
"""Records read at most: a rate needs no more."""


def estimate(plan: StudyPlan, cells: int) -> float | None:
    """Device-hours of ``cells`` cells; None while the ledger has no finished cell like them.

    Alike are cells of the same data, backbone, method and split, whatever their shape: with a frozen backbone
    the prompt's size decides little. The rate is the median of seconds per epoch.
    """
    from orchestrator.ledger import Ledger

    ledger = Ledger(plan.study.storage)
    records = ledger.get_many(sorted(ledger.finished())[:READ]).values()
    by_split: list[float] = []
    for split in plan.study.splits:
        rates = [
            sum(record["seconds"].values()) / record["epochs"]
            for record in records
            if _alike(record["cell"], plan) and record["cell"]["split"] == to_plain(split)
        ]
        if not rates:
            return None
        by_split.append(median(rates))
    share = cells / len(by_split)
    return sum(by_split) * share * plan.study.recipe.epochs / 3600


def _alike(cell: dict[str, Any], plan: StudyPlan) -> bool:
    return bool(
        cell["kind"] == "train"
        and cell["dataset"] == plan.data.manifest
        and cell["backbone"] == plan.fingerprint
        and cell["configuration"]["method"] == plan.study.method
    )
