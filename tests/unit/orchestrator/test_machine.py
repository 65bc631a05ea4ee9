"""GPUs are counted as CUDA will see them, without asking it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.study.machine import present_gpus, visible_gpus


@pytest.mark.parametrize(
    ("names", "present", "count"),
    [
        ("0,1", 4, 2),
        ("", 4, 0),
        ("-1", 4, 0),
        ("0,-1,1", 4, 1),
        ("0,7", 4, 1),
        ("NoDevFiles", 4, 0),
        ("GPU-5d0d1c2e, GPU-77aa01b3", 4, 2),
        ("0,1", 0, 0),
    ],
)
def test_visible_gpus_are_those_before_the_first_name_of_none(names: str, present: int, count: int) -> None:
    assert visible_gpus(names, present) == count


def test_each_named_part_of_a_gpu_counts() -> None:
    assert visible_gpus(",".join(f"MIG-{n}" for n in range(7)), present=1) == 7


def test_gpus_are_found_where_only_their_devices_are(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    assert present_gpus(tmp_path) == 0
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert present_gpus(tmp_path) == 2
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    assert present_gpus(tmp_path) == 1
