"""What the driver makes of its slots' events, and how it ends runs; Train runs are stand-ins."""

from __future__ import annotations

import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver.slot_memory import SlotMemory
from orchestrator.slots.placement import SlotPlacement, SlotSize
from orchestrator.slots.pool import DEATHS
from orchestrator.slots.slots import ResidentSlots, SlotStates
from orchestrator.slots.worker import SlotSettings
from orchestrator.work.events import SlotGone, SlotMeasured, SlotStopped, SlotUp

GIB = 2**30


class Call:
    """Notes calls of actor methods."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]]) -> None:
        self._name, self._calls = name, calls

    def remote(self, *arguments: Any) -> None:
        self._calls.append((self._name, *arguments))


class Pool:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Call:
        return Call(name, self.calls)


class Run:
    """A Train run that lasts until it is ended, as one does whose worker finds no room."""

    def __init__(self, **made_with: Any) -> None:
        self.made_with = made_with
        self._ended = threading.Event()

    def fit(self) -> None:
        from ray.exceptions import RayActorError

        assert self._ended.wait(30)
        raise RayActorError

    def end(self) -> None:
        self._ended.set()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    made: list[Run] = []

    def resident_run(settings: SlotSettings, pool: Any, **options: Any) -> Run:
        made.append(Run(slot=settings.slot, **options))
        return made[-1]

    module = types.ModuleType("resident_run")
    module.resident_run = resident_run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "orchestrator.slots.resident_run", module)
    return made


@pytest.fixture
def slots(tmp_path: Path, runs: list[Run]) -> ResidentSlots:
    return ResidentSlots(
        SlotSettings(slot="", executor="", arguments={}, threads=1),
        size=SlotSize(1, 0.5),
        storage=tmp_path,
        states=SlotStates(),
        pool=Pool(),
        tell=lambda event: pytest.fail(f"nothing failed: {event}"),
        here="head",
    )


def test_a_run_that_waits_for_room_for_ever_ends_with_its_node(slots: ResidentSlots, runs: list[Run]) -> None:
    slots.open(SlotPlacement("a:0", "a", "a"))
    while not runs:
        pass
    thread = slots._runs["a:0"].thread
    assert thread is not None
    slots.lose("a:0")
    thread.join(10)
    assert not thread.is_alive() and slots.places() == [] and slots.leaving() == []
    assert slots._pool.calls == [("lost", "a:0")]
    assert runs[0].made_with["node"] == "a" and runs[0].made_with["grace"] > 0
    slots.open(SlotPlacement("a:0", "other", "a"))
    assert [place.node for place in slots.places()] == ["other"]
    assert slots.join(10), "who waits for room hears nothing of the end"


def ended_with(
    slots: ResidentSlots, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> list[dict[str, Any]]:
    """Open a slot whose runs all end with ``failure``; what the driver is told of it."""

    def fit(self: Run) -> None:
        raise failure

    told: list[dict[str, Any]] = []
    monkeypatch.setattr(Run, "fit", fit)
    monkeypatch.setattr(slots, "_tell", told.append)
    slots.open(SlotPlacement("0"))
    thread = slots._runs["0"].thread
    assert thread is not None
    thread.join(10)
    return told


def test_a_controller_killed_for_memory_is_replaced_like_one_that_died(
    slots: ResidentSlots, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.exceptions import OutOfMemoryError

    freed: list[str] = []
    monkeypatch.setattr(slots, "_free", freed.append)
    told = ended_with(slots, monkeypatch, OutOfMemoryError("the node was running low on memory"))
    assert len(runs) == DEATHS and freed == ["0"] * DEATHS
    assert [call[:2] for call in slots._pool.calls] == [("died", "0")] * DEATHS
    assert len(told) == 1 and "running low on memory" in told[0].error


@pytest.mark.parametrize("kind", ["RayError", "OutOfMemoryError"])
def test_no_secret_leaves_a_slot_with_the_reason_of_its_end(
    slots: ResidentSlots, runs: list[Run], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from ray import exceptions

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    told = ended_with(slots, monkeypatch, getattr(exceptions, kind)("403 very-secret-key"))
    assert "403 ***" in told[0].error
    assert "very-secret-key" not in str([told, slots._pool.calls])


def test_a_death_on_the_drivers_own_node_is_never_in_doubt(slots: ResidentSlots, runs: list[Run]) -> None:
    slots.open(SlotPlacement("head:0", "head", "head"))
    slots.open(SlotPlacement("0"))
    while len(runs) < 2:
        pass
    assert {run.made_with["grace"] for run in runs} == {0.0}
    for run in runs:
        slots._stopping.set()
        run.end()


def test_a_slot_at_work_is_drained_and_one_that_is_not_up_ends_at_once(
    slots: ResidentSlots, runs: list[Run]
) -> None:
    slots.open(SlotPlacement("a:0", "a", "a"))
    slots.open(SlotPlacement("a:1", "a", "a"))
    slots.states.take(SlotUp(slot="a:0"))
    slots.drain("a:0")
    slots.drain("a:1")
    assert ("drain", "a:0") in slots._pool.calls and ("lost", "a:1") in slots._pool.calls
    assert slots.places() == [] and "a:0" in [place.name for place in slots.leaving()]
    slots.lose("a:0")
    assert slots.join(10)


def test_all_slots_have_stopped_only_if_none_may_come_again(slots: ResidentSlots, runs: list[Run]) -> None:
    assert not slots.all_stopped, "the first node may still be on its way"
    slots.open(SlotPlacement("a:0", "a", "a"))
    slots.open(SlotPlacement("b:0", "b", "b"))
    slots.states.take(SlotStopped(slot="a:0", error="out of memory"))
    assert not slots.all_stopped
    slots.states.take(SlotStopped(slot="b:0", error="no such dataset"))
    assert slots.all_stopped and slots.error == "out of memory"
    slots.lose("a:0")
    slots.states.take(SlotGone(slot="a:0"))
    assert slots.all_stopped and slots.error == "no such dataset"
    slots.lose("b:0")
    slots.states.take(SlotGone(slot="b:0"))
    assert not slots.all_stopped, "their nodes went: others may come"


def test_slots_that_share_a_gpu_beyond_its_memory_are_warned_of_once() -> None:
    report = SlotMeasured(slot="a:0", peak=9 * GIB, total=24 * GIB)
    memory = SlotMemory(0.25)
    warning = memory.take(report)
    assert warning is not None
    for words in (
        "4 slots share a GPU of 24.0 GiB",
        "slots.gpus=0.25",
        "slot a:0",
        "9.0 GiB",
        "slots.gpus=0.5",
    ):
        assert words in warning
    assert memory.take(report) is None
    assert SlotMemory(0.5).take(report) is None
    assert SlotMemory(1).take(report) is None


@pytest.mark.parametrize("fitting", range(1, 30))
def test_the_share_that_is_advised_lets_as_many_slots_on_a_gpu_as_fit(fitting: int) -> None:
    warning = SlotMemory(0.01).take(SlotMeasured(slot="0", peak=GIB, total=fitting * GIB + 1))
    assert warning is not None
    advised = float(warning.rpartition("=")[2])
    assert int(1 / advised + 1e-9) == fitting
