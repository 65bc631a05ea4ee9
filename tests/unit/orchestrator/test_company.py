"""Cells that an earlier version trained for another seed's number of steps are told from their records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.methods.mmap import MmapSettings
from mmap_model.plain import to_plain
from orchestrator.driver.unchanged import require_same_rules
from orchestrator.execution.company import outpaced
from orchestrator.study import StudyPlan
from orchestrator.study.errors import StudyError


def record(
    train: int, *beside: str, batch: int = 4, kind: str = "train", parameters: int = 10
) -> dict[str, Any]:
    return {
        "cell": {"kind": kind, "configuration": {"recipe": {"batch_size": batch}}},
        "metrics": {
            "labels": {"art": {"train": train, "validation": 3}, "photo": {"train": 1, "validation": 2}}
        },
        "fused_with": list(beside),
        "parameters": parameters,
    }


def test_a_cell_beside_longer_lists_took_steps_that_it_would_not_take_alone() -> None:
    records = {"short": record(12, "long"), "long": record(17, "short")}
    reason = outpaced(records["short"], records)
    assert reason is not None and "give 3 × 4 images" in reason and "trained it on 4 × 4" in reason
    assert outpaced(records["long"], records) is None


def test_a_batch_larger_than_the_shorter_list_counts_too() -> None:
    reason = outpaced(record(5, "long", batch=16), {"long": record(7, batch=16)})
    assert reason is not None and "give 1 × 5 images" in reason and "trained it on 1 × 7" in reason


@pytest.mark.parametrize(
    "own",
    [
        record(12),
        record(12, "equal"),
        record(12, "as long in whole steps"),
        record(12, "long", kind="untrained"),
        record(12, "long", parameters=0),
        record(12, "failed"),
        {**record(12, "long"), "metrics": {}},
    ],
)
def test_what_nothing_speaks_against_is_kept(own: dict[str, Any]) -> None:
    records = {"equal": record(12), "as long in whole steps": record(15), "long": record(17)}
    assert outpaced(own, records) is None


def test_a_study_with_such_a_cell_is_not_continued_and_hears_why() -> None:
    """Its mean is in the ranking already: training the cell anew would not take it out."""
    configuration = Configuration(
        method="mmap", settings=MmapSettings(), recipe=Recipe(batch_size=4), partition=((0, 1),)
    )
    cells = [
        Cell(
            configuration=configuration,
            split=Split(shots=3),
            seeds=Seeds.both(seed),
            protocol="paper",
            dataset="d" * 32,
            backbone="b" * 32,
        )
        for seed in (1, 2)
    ]
    plan = cast(StudyPlan, SimpleNamespace(known_from_dataset={}, study=SimpleNamespace(storage="runs")))
    rows = [("trial 3", [cell.key for cell in cells])]
    short, long = (
        {**record(train, *(other.key for other in cells if other != cell)), "cell": to_plain(cell)}
        for cell, train in zip(cells, (12, 17), strict=True)
    )
    with pytest.raises(StudyError, match=r"trial 3 of study 'demo'.* give 3 × 4 images"):
        require_same_rules(plan, "demo", rows, {cells[0].key: short, cells[1].key: long})
    require_same_rules(plan, "demo", rows, {cells[0].key: short})
