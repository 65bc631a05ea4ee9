"""Labelling as a Ray job, with artefact, images and result on a real S3.

uv run pytest -m slow tests/integration/test_predict_job.py
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyarrow import fs

from orchestrator.cli.main import execute
from orchestrator.predicting.refs import located, split_uri

pytestmark = [pytest.mark.slow, pytest.mark.ray]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bucket(importable: None, tmp_path: Path) -> Iterator[str]:
    from object_store import bucket

    with bucket(tmp_path) as uri:
        yield uri


@pytest.fixture
def head(bucket: str) -> Iterator[object]:
    from head import head_node

    with head_node(cpus=2, python_path=str(ROOT)) as found:
        yield found


def within(bucket: str, name: str) -> str:
    """URI of something in the bucket."""
    place, _, options = bucket.partition("?")
    return f"{place}/{name}?{options}"


def rows(bucket: str, name: str) -> list[dict[str, Any]]:
    system, path = located(*split_uri(within(bucket, name)))
    return pq.read_table(path, filesystem=system).to_pylist()


def test_a_job_labels_a_table_and_a_folder_on_s3_as_this_process_does(
    bucket: str, head: object, tiny_artefact: Path, tmp_path: Path
) -> None:
    from head import Head

    assert isinstance(head, Head)
    rng = np.random.default_rng(0)
    encoded = []
    (tmp_path / "x").mkdir()
    for number in range(60):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(stream, "JPEG")
        encoded.append(stream.getvalue() if number % 20 else b"no image")
        (tmp_path / "x" / f"{number:02}.jpg").write_bytes(encoded[-1])
    pq.write_table(pa.table({"image": encoded}), tmp_path / "t.parquet", row_group_size=25)
    system, base = located(*split_uri(bucket))
    here = fs.LocalFileSystem()
    for source, name in ((tiny_artefact, "winner"), (tmp_path / "x", "x")):
        fs.copy_files(str(source), f"{base}/{name}", source_filesystem=here, destination_filesystem=system)
    table = (tmp_path / "t.parquet").read_bytes()
    with system.open_output_stream(f"{base}/t.parquet") as stream:
        stream.write(table)

    options = ["--task", "photo", "--part", "25", "--batch", "8"]
    given = [within(bucket, name) for name in ("winner", "t.parquet", "x")]
    job = [sys.executable, "-m", "orchestrator", "predict", *given, *options]
    job += ["--ray", "--out", within(bucket, "out/labels.parquet")]
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", head.address, "--"]
    environment = head.environment(RAY_AUTH_MODE="token")
    done = subprocess.run([*submit, *job], env=environment, capture_output=True, text=True, cwd=tmp_path)
    # Its exit code is not the driver's; of that the log tells.
    assert "120 images, 6 could not be read" in done.stdout + done.stderr, done
    found = rows(bucket, "out/labels.parquet")

    assert execute(["predict", *given, *options, "--out", within(bucket, "alone.parquet")]) == 1
    alone = rows(bucket, "alone.parquet")
    names = [f"s3://bucket/runs/t.parquet#{number}" for number in range(60)]
    names += [f"s3://bucket/runs/x/{number:02}.jpg" for number in range(60)]
    assert [row["image"] for row in found] == [row["image"] for row in alone] == names
    for one, other, again in zip(found, alone, [*alone[60:], *alone[:60]], strict=True):
        assert (one["label"], one["error"]) == (other["label"], other["error"])
        assert one["label"] == again["label"], "of the table and of the files alike"
        assert bool(one["error"]) == (int(one["image"].removesuffix(".jpg")[-2:].lstrip("#")) % 20 == 0)
    left = system.get_file_info(fs.FileSelector(f"{base}/out", recursive=True))
    assert [info.base_name for info in left if info.is_file] == ["labels.parquet"]
