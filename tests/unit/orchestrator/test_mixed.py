"""What is said of rows that do not compare."""

from __future__ import annotations

from typing import Any

from orchestrator.statistics.mixed import mixed_origins


def record(dataset: str = "d" * 32, backbone: str = "b" * 32, **more: Any) -> dict[str, Any]:
    return {"cell": {"dataset": dataset, "backbone": backbone}, **more}


RECORDS = {
    "a": record(),
    "b": record(),
    "c": record(dataset="e" * 32),
    "d": record(backbone="c" * 32),
    "f": {"metrics": {}},
}


def test_rows_of_one_origin_are_not_mixed() -> None:
    assert mixed_origins([("trial 0", ["a", "f"]), ("trial 1", ["b"]), ("trial 2", ["gone"])], RECORDS) == []


def test_rows_are_named_by_where_they_come_from() -> None:
    rows = [("trial 0", ["a"]), ("trial 1", ["c"]), ("trial 2", ["d"])]
    first, *lines = mixed_origins(rows, RECORDS)
    assert "their means do not compare" in first
    assert lines == [
        "images dddddddd, weights bbbbbbbb: trial 0",
        "images eeeeeeee, weights bbbbbbbb: trial 1",
        "images dddddddd, weights cccccccc: trial 2",
    ]


def test_a_row_whose_own_cells_differ_is_marked() -> None:
    _, *lines = mixed_origins([("trial 0", ["a", "c"]), ("trial 1", ["b"])], RECORDS)
    assert lines == [
        "images dddddddd, weights bbbbbbbb: trial 0 (in part), trial 1",
        "images eeeeeeee, weights bbbbbbbb: trial 0 (in part)",
    ]


def test_many_rows_are_counted() -> None:
    rows = [(f"trial {number}", ["a"]) for number in range(8)]
    _, line, _ = mixed_origins([*rows, ("trial 8", ["c"])], RECORDS)
    assert line.endswith("trial 4 and 3 more")
