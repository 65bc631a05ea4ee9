"""Preparing a store that is killed again and again, and started again each time."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec
from mmap_model.data.prepared import plan_store, verify_store, write_store
from mmap_model.data.sources import open_source

COMMAND = [sys.executable, str(Path(__file__).with_name("prepare.py"))]
PATIENCE = 300.0
KILLS = 3
PARTS_BETWEEN = 4


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for domain in ("art", "real"):
        for name in ("anchor", "bell"):
            for number in range(60):
                path = tmp_path / "tree" / domain / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(path, quality=90)
    return tmp_path / "tree"


def test_a_store_that_is_killed_three_times_comes_out_the_same(tree: Path, tmp_path: Path) -> None:
    source = open_source(DatasetSpec(name="folder", root=str(tree)))
    whole = write_store(source, tmp_path / "whole", plan_store(source, side=16, part_images=4))
    folder, done = tmp_path / "killed", 0
    for _ in range(KILLS):
        process = subprocess.Popen([*COMMAND, str(tree), str(folder)], stdout=subprocess.DEVNULL)
        done = wait_for_parts(folder, done + PARTS_BETWEEN, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "manifest.json").exists()
        before = {path: path.stat().st_mtime_ns for path in (folder / "rows").glob("*.arrow")}
        assert len(before) >= done
    out = subprocess.run(
        [*COMMAND, str(tree), str(folder)], check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    assert out.stdout.strip() == whole
    assert contents(folder) == contents(tmp_path / "whole")
    assert verify_store(folder) == []


def wait_for_parts(folder: Path, count: int, process: subprocess.Popen[bytes]) -> int:
    """Parts that are written, once they are ``count``."""
    until = time.monotonic() + PATIENCE
    while True:
        rows = folder / "rows"
        found = sum(name[0] != "." for name in os.listdir(rows)) if rows.is_dir() else 0  # noqa: PTH208
        if found >= count:
            return found
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.001)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
