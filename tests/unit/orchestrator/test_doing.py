"""What workers do reaches the driver: looked at now and then, told when it changes, the latest alone kept."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.driver.slot_display import SlotDisplay
from orchestrator.slots.gpu_use import GpuUse, Used
from orchestrator.slots.pool import Pool
from orchestrator.slots.teller import Teller
from orchestrator.work.doing import Doing
from orchestrator.work.events import SlotDoing, SlotUp
from orchestrator.work.shown import Shown, SlotShown, WorkShown


def doing(step: int) -> Doing:
    return Doing(stage="training", epoch=1, epochs=5, step=step, steps=10)


class Remembered:
    """Calls of a pool."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, method: str, *arguments: Any) -> None:
        self.calls.append((method, *arguments))


def test_a_worker_tells_what_it_does_when_that_changes() -> None:
    pool, now = Remembered(), [doing(1)]
    teller = Teller(pool, "0", "w")
    teller.tell()
    teller.look = lambda: now[0]
    teller.tell()
    teller.tell()
    now[0] = doing(2)
    teller.tell()
    assert [call[3] for call in pool.calls] == [Doing(stage="importing"), doing(1), doing(2)]
    assert pool.calls[0][:3] == ("doing", "0", "w")


def test_a_worker_without_work_tells_nothing_and_tells_the_same_work_again_afterwards() -> None:
    pool, now = Remembered(), [doing(1), None, doing(1)]
    teller = Teller(pool, "0", "w")
    teller.look = lambda: now.pop(0)
    for _ in range(3):
        teller.tell()
    assert [call[3] for call in pool.calls] == [doing(1), doing(1)]


def test_the_pool_keeps_the_latest_of_a_slot_alone_and_wakes_nobody_for_it() -> None:
    woken: list[str] = []
    pool = Pool(notify=woken.append)
    pool.hello("0", "w")
    known = pool.events(0)[-1][0]
    woken.clear()
    for step in range(5):
        pool.doing("0", "w", doing(step))
    pool.doing("0", "another", doing(9))
    assert woken == []
    assert [event for _, event in pool.events(known)] == [SlotDoing(slot="0", doing=doing(4))]


def test_events_before_and_after_it_stay_in_order() -> None:
    pool = Pool()
    pool.hello("0", "w")
    pool.doing("0", "w", doing(1))
    pool.hello("1", "v")
    pool.doing("0", "w", doing(2))
    told = pool.events(0)
    assert [event for _, event in told] == [
        SlotUp(slot="0"),
        SlotUp(slot="1"),
        SlotDoing(slot="0", doing=doing(2)),
    ]
    assert pool.events(told[-2][0]) == told[-1:] and pool.events(told[-1][0]) == []


def test_what_a_slot_does_is_shown_until_slots_go_down_by_themselves() -> None:
    shown: list[Shown] = []
    display = SlotDisplay(shown.append)
    display.take(SlotUp(slot="0"))
    display.take(SlotDoing(slot="0", doing=doing(3)))
    display.close()
    display.take(SlotDoing(slot="0", doing=doing(4)))
    assert shown == [SlotShown(slot="0", state="idle"), WorkShown(slot="0", doing=doing(3))]


def test_the_use_of_the_first_visible_gpu_is_read() -> None:
    asked: list[Sequence[str]] = []

    def ask(command: Sequence[str]) -> str:
        asked.append(command)
        return "87, 1024\n"

    gpu = GpuUse(ask, {"CUDA_VISIBLE_DEVICES": "3,5"})
    assert gpu.read() == Used(0.87, 2**30)
    assert asked[0][:3] == ("nvidia-smi", "-i", "3")


@pytest.mark.parametrize("devices", ["", "-1"])
def test_without_a_gpu_nothing_is_asked(devices: str) -> None:
    def ask(command: Sequence[str]) -> str:
        raise AssertionError(command)

    assert GpuUse(ask, {"CUDA_VISIBLE_DEVICES": devices}).read() is None


@pytest.mark.parametrize(
    "answer",
    ["[N/A], [N/A]", "", FileNotFoundError("nvidia-smi"), subprocess.TimeoutExpired("nvidia-smi", 5)],
)
def test_a_tool_that_does_not_answer_is_asked_once(answer: str | Exception) -> None:
    asked = []

    def ask(command: Sequence[str]) -> str:
        asked.append(command)
        if isinstance(answer, Exception):
            raise answer
        return answer

    gpu = GpuUse(ask, {"CUDA_VISIBLE_DEVICES": "MIG-1"})
    assert gpu.read() is None and gpu.read() is None and len(asked) == 1
