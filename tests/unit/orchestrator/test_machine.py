"""GPUs are counted as CUDA will see them, without asking it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.study import StudyError
from orchestrator.study.machine import Machine, lay_out, present_gpus, visible_gpus
from orchestrator.study.model import Slots


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


@pytest.mark.parametrize(
    ("slots", "machine", "expected"),
    [
        (Slots(), Machine(cores=4, gpus=0), (4, 0)),
        (Slots(), Machine(cores=8, gpus=2), (2, 1)),
        (Slots(gpus=0.5), Machine(cores=8, gpus=2), (4, 0.5)),
        (Slots(gpus=0), Machine(cores=8, gpus=2), (8, 0)),
        (Slots(count=1, cpus=2), Machine(cores=2, gpus=0), (1, 0)),
    ],
)
def test_slots_are_laid_out(slots: Slots, machine: Machine, expected: tuple[int, float]) -> None:
    layout = lay_out(slots, machine)
    assert (layout.count, layout.gpus) == expected


@pytest.mark.parametrize(
    ("slots", "machine", "where", "words"),
    [
        (Slots(count=9), Machine(cores=4, gpus=0), "slots.count", ["9", "4 cores", "4 or fewer"]),
        (Slots(count=3), Machine(cores=16, gpus=2), "slots.count", ["3", "2 GPUs", "2 or fewer"]),
        (Slots(gpus=1), Machine(cores=4, gpus=0), "slots.gpus", ["1", "0", "auto or 0"]),
        (Slots(cpus=8), Machine(cores=4, gpus=0), "slots.cpus", ["8", "4"]),
    ],
)
def test_more_slots_than_the_machine_has(
    slots: Slots, machine: Machine, where: str, words: list[str]
) -> None:
    with pytest.raises(StudyError) as caught:
        lay_out(slots, machine)
    assert caught.value.where == where
    assert all(word in str(caught.value) for word in words)
