"""Finding one cell of a study by (the beginning of) its key."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmap_model.cells import Cell, Point
from mmap_model.configuration import Grouping, Seeds, Split
from orchestrator.study.errors import StudyError

if TYPE_CHECKING:
    from orchestrator.study import StudyPlan


@dataclass(frozen=True)
class FoundCell:
    """A cell and what a work item needs to train it: its point with the partition fixed."""

    key: str
    point: Point
    split: Split
    seeds: Seeds
    record: dict[str, Any] | None


def find_cell(plan: StudyPlan, prefix: str) -> FoundCell:
    """The cell of this study's trials, or the finished one in its storage, whose key begins with ``prefix``.

    Raises:
        StudyError: none or several do, or the cell belongs to other data or another backbone.
    """
    from orchestrator.ledger import Ledger, StudyStore

    ledger, store = Ledger(plan.study.storage), StudyStore(plan.study.storage, plan.study.name)
    known = {cell["key"]: (trial, cell) for trial in store.load_trials() for cell in trial.cells}
    keys = sorted(k for k in {*known, *ledger.finished()} if k.startswith(prefix))
    if len(keys) != 1:
        problem = f"{len(keys)} cells begin" if keys else "no cell begins"
        raise StudyError(
            f"{problem} with {prefix!r} in {ledger.storage.locate('')}",
            where="--cell",
            fix="give more of the key; orchestrator results STUDY --json lists the keys",
        )
    key = keys[0]
    record = ledger.get(key)
    if record is not None:
        return _from_record(plan, key, record)
    trial, cell = known[key]
    point = Point.from_dict(trial.point)
    split = next(s for s in plan.study.splits if s.label == cell["split"])
    seeds = next(s for s in plan.study.seeds if s.label == cell["seed"])
    return FoundCell(key, _fixed(point, cell.get("partition")), split, seeds, None)


def _from_record(plan: StudyPlan, key: str, record: dict[str, Any]) -> FoundCell:
    cell = Cell.from_dict(record["cell"])
    if cell.dataset != plan.data.manifest or cell.backbone != plan.fingerprint:
        other = "dataset" if cell.dataset != plan.data.manifest else "backbone"
        raise StudyError(
            f"cell {key[:12]} was trained on another {other} than study {plan.study.name!r} has",
            where="--cell",
            fix="name the study that the cell belongs to",
        )
    if cell.kind == "probe":
        raise StudyError(
            f"cell {key[:12]} measured task affinity; it is not a configuration",
            where="--cell",
            fix="give a cell of a trial",
        )
    configuration = cell.configuration
    point = Point(method=configuration.method, settings=configuration.settings, recipe=configuration.recipe)
    return FoundCell(key, _fixed(point, configuration.partition), cell.split, cell.seeds, record)


def _fixed(point: Point, partition: Any) -> Point:
    """The point with its grouping resolved: the same cell, without measuring anything."""
    grouping = None if partition is None else Grouping(mode="fixed", partition=partition)
    return dataclasses.replace(point, grouping=grouping)
