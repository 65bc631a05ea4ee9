"""What Ray's tasks are given: every image of open parts once, tables by row groups, without a Ray here."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from mmap_model.preprocessing import CLIP_RESIZE
from orchestrator.predicting import ray_data
from orchestrator.predicting.arguments import Arguments
from orchestrator.predicting.listing import Listing
from orchestrator.predicting.loading import LoadingOptions

OPTIONS = LoadingOptions(batch=4, part=10)


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listing:
    """Thirty files, number 7 broken, and fifty rows in groups of 20, number 33 empty."""
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    encoded: list[bytes | None] = []
    for number in range(50):
        stream = io.BytesIO()
        Image.new("RGB", (4, 4), (number, 0, 0)).save(stream, "PNG")
        encoded.append(None if number == 33 else stream.getvalue())
        if number < 30:
            Path(f"x/{number:02}.png").write_bytes(b"" if number == 7 else stream.getvalue())
    pq.write_table(pa.table({"image": encoded}), "t.parquet", row_group_size=20)
    return Listing(Arguments(["x", "t.parquet"]).entries())


def test_a_task_reads_some_files_or_rows_of_one_group(
    listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_data, "FILES", 12)
    blocks = list(ray_data._blocks(listing, OPTIONS, {1}))
    places = [[chunk.start + i for chunk in block for i in range(len(chunk.refs))] for block in blocks]
    assert [place for block in places for place in block] == [*range(10), *range(20, 80)]
    of_files = [block for block in places if block[0] < 30]
    assert all(len(block) <= 12 + OPTIONS.batch for block in of_files) and len(of_files) == 2
    groups = [{(place - 30) // 20 for place in block if place >= 30} for block in places]
    assert [group for group in groups if group] == [{0}, {1}, {2}]


def test_what_is_read_is_each_image_under_its_own_name_and_place(
    listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [ray_data._refs(block) for block in ray_data._blocks(listing, OPTIONS, {1, 4})]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # as a worker
    found = {}
    for block in blocks:
        for table in ray_data._read(block, batch=4, side=4, resize=CLIP_RESIZE):
            assert len(table) <= 4
            found |= {row["index"]: row for row in table.to_pylist()}
    assert set(found) == set(range(80)) - {*range(10, 20), *range(40, 50)}
    for place, row in found.items():
        number = place if place < 30 else place - 30
        assert row["image"] == (f"x/{number:02}.png" if place < 30 else f"t.parquet#{number}")
        if place in (7, 63):
            assert row["pixels"] is None and row["image"] in row["error"]
        else:
            pixels = torch.frombuffer(bytearray(row["pixels"]), dtype=torch.uint8).reshape(3, 4, 4)
            assert row["error"] is None and pixels[0].unique().tolist() == [number]
