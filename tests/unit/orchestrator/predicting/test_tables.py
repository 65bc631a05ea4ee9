"""Rows of tables are read from wherever, in pieces of whatever size."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.predicting.tables import ImageTable

VALUES = [None if n % 7 == 3 else f"image {n}".encode() for n in range(300)]


@pytest.mark.parametrize("structs", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_rows_are_the_same_from_any_start(tmp_path: Path, structs: bool, large: bool) -> None:
    kind = pa.large_binary() if large else pa.binary()
    column = pa.array(VALUES, kind)
    if structs:
        column = pa.array(
            [{"bytes": value, "path": "a.jpg"} for value in VALUES],
            pa.struct([("bytes", kind), ("path", pa.string())]),
        )
    pq.write_table(pa.table({"key": range(300), "image": column}), tmp_path / "t.parquet", row_group_size=80)
    table = ImageTable("", str(tmp_path / "t.parquet"))
    assert (table.rows, table.column) == (300, "image")
    for start, count in ((0, 10), (10, 200), (5, 1), (79, 2), (160, 64), (299, 1), (0, 300), (250, 50)):
        assert table.read(start, count) == VALUES[start : start + count]


def test_a_column_of_nothing_but_nulls_and_an_empty_table_are_tables(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    pq.write_table(pa.table({"image": pa.array([None, None], pa.binary())}), path)
    assert ImageTable("", path).read(0, 2) == [None, None]
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), path)
    assert ImageTable("", path).rows == 0
