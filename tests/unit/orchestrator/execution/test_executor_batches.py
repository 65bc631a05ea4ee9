"""Which cells train together, what is left out of a batch, and probes that several trials share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pretended import EPOCHS, Killed, PretendedRun, Scene, keys_of, kill_before, of_kind

from mmap_model.cells import Point
from mmap_model.configuration import Grouping, Recipe, Split
from orchestrator.ledger import StudyStore
from orchestrator.work.events import (
    CellFailure,
    CellFinished,
    CellsKnown,
    EpochReached,
    ProbeFinished,
    ProbesKnown,
    WorkEvent,
)
from orchestrator.work.item import Control


def test_cancelling_keeps_the_last_whole_epoch_for_another_study(scene: Scene) -> None:
    seen: list[int] = []
    scene.engine.before_epoch = lambda run, epoch: seen.append(epoch)
    events = scene.run(lambda: Control(cancel=3 in seen))
    assert events[-1].state == "cancelled" and of_kind(events, CellFinished) == []
    assert [e.epoch for e in of_kind(events, EpochReached)] == [1, 2]
    other = scene.run(study="other", trial=7)
    assert {c.epoch for c in of_kind(other, CellsKnown)[0].cells} == {2}
    assert scene.engine.epochs_run == 6 * EPOCHS and other[-1].state == "complete"


def test_single_cells_can_be_left_out(scene: Scene) -> None:
    plan = scene.run(lambda: Control(cancel=True))
    unwanted = keys_of(plan)[1]
    events = scene.run(lambda: Control(cancelled_keys=frozenset({unwanted})))
    assert scene.ledger.finished() == set(keys_of(plan)) - {unwanted}
    assert events[-1].state == "cancelled"
    assert scene.run()[-1].state == "complete"


def test_a_worker_of_a_superseded_driver_writes_nothing(scene: Scene) -> None:
    store = StudyStore(scene.root, "demo")
    with store.driver_lease() as old:
        fence = old.take()
    with store.driver_lease() as new:
        new.take()
        events = scene.run(fence=fence)
        assert events[-1].state == "cancelled" and "took the study over" in events[-1].error
        assert scene.ledger.finished() == set() and scene.ledger.inflight_batches() == []
        assert scene.run(fence=new.fence)[-1].state == "complete"


def test_unfused_cells_are_batches_of_their_own(scene: Scene) -> None:
    scene.run(fuse="off")
    assert scene.engine.widths == [1] * 6


def test_seeds_with_epochs_of_other_lengths_are_batches_of_their_own(scene: Scene) -> None:
    scene.engine.lengths = {2: 7}
    events = scene.run(splits=(Split(shots=3),))
    assert events[-1].state == "complete" and scene.engine.widths == [2, 1]
    first, second, third = keys_of(events)
    beside = {key: scene.ledger.get(key)["fused_with"] for key in (first, second, third)}  # type: ignore[index]
    assert beside == {first: [third], second: [], third: [first]}


def test_states_of_batches_that_should_not_have_been_fused_are_left_alone(scene: Scene) -> None:
    scene.engine.before_epoch = kill_before(3)
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    scene.engine.before_epoch, scene.engine.lengths = lambda run, epoch: None, {2: 7}
    scene.engine.trained.clear()
    events = scene.run(splits=(Split(shots=3),))
    assert events[-1].state == "complete" and len(scene.engine.trained) == 3 * EPOCHS


@pytest.mark.parametrize("grouping", ["random", "gradient"])
def test_cells_that_were_trained_for_the_steps_of_another_seed_are_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, grouping: Any
) -> None:
    """Also where only the probe was, which shares its result with all trials."""
    finish = PretendedRun.finish

    def labelled(run: PretendedRun) -> dict[str, dict[str, Any]]:
        found = finish(run)
        for key, result in found.items():
            cell = run._cells[key]
            spoilt = grouping == "random" or cell.kind == "probe"
            train = 16 * cell.seeds.train if spoilt else 16
            result["metrics"]["labels"] = {"clipart": {"train": train, "validation": 2}}
        return found

    monkeypatch.setattr(PretendedRun, "finish", labelled)
    point = replace(Point.from_dict(scene.item().point), grouping=Grouping(mode=grouping))
    events = scene.run(point=point, splits=(Split(shots=3),))
    again = scene.run(point=point, splits=(Split(shots=3),), study="other", trial=1)
    assert again[-1].state == "failed" and again[-1].failure == "data"
    for word in ("give 1 × 16 images", "trained it on 3 × 16", "storage=", "an earlier version"):
        assert word in again[-1].error, events[-1]


def test_a_batch_too_wide_for_the_device_is_halved(scene: Scene) -> None:
    scene.engine.capacity = 2
    events = scene.run()
    assert events[-1].state == "complete" and scene.engine.widths == [2, 1, 2, 1]
    assert [e.epoch for e in of_kind(events, EpochReached)] == [1, 2, 3]


def test_memory_that_runs_out_at_the_very_end_halves_the_batch_too(scene: Scene) -> None:
    asked: list[int] = []

    def full() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    scene.engine.before_finish = full
    events = scene.run(splits=(Split(shots=3),))
    assert events[-1].state == "complete" and scene.engine.widths == [3, 2, 1]
    scene.engine.before_finish = lambda: asked.clear() or full()
    again = scene.run(splits=(Split(shots=6),), fuse="off")
    assert {event.failure for event in of_kind(again, CellFailure)} == {"memory"}
    assert again[-1].failure == "memory"


def test_a_batch_too_wide_with_fusing_forced_fails_with_the_reason(scene: Scene) -> None:
    scene.engine.capacity = 2
    events = scene.run(fuse="on")
    assert events[-1].state == "failed" and "device is full" in events[-1].error


def test_the_probe_is_trained_once_and_shared(scene: Scene) -> None:
    point = replace(Point.from_dict(scene.item().point), grouping=Grouping(mode="gradient"))
    events = scene.run(point=point)
    assert scene.engine.kinds == ["probe", "probe", "train", "train"]
    assert [len(e.cells) for e in of_kind(events, ProbesKnown)] == [3, 3]
    assert len(of_kind(events, ProbeFinished)) == 6 and len(of_kind(events, CellFinished)) == 6
    assert {tuple(map(tuple, c.partition)) for c in of_kind(events, CellsKnown)[0].cells} == {
        ((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)),
    }  # fmt: skip
    scene.engine.kinds.clear()
    scene.run(point=replace(point, recipe=Recipe(epochs=2)))
    assert scene.engine.kinds == ["train", "train"]


def test_a_probe_in_work_elsewhere_is_waited_for(scene: Scene) -> None:
    point = replace(Point.from_dict(scene.item().point), grouping=Grouping(mode="gradient"))
    inside: list[list[WorkEvent]] = []

    def second_worker(run: PretendedRun, epoch: int) -> None:
        if epoch == 1 and not inside:
            inside.append([])
            polls = iter(range(3))
            inside[0] = scene.run(lambda: Control(cancel=next(polls, None) is None), point=point, trial=1)

    scene.engine.before_epoch = second_worker
    assert scene.run(point=point)[-1].state == "complete"
    assert inside[0][-1].state == "cancelled" and of_kind(inside[0], ProbesKnown) == []
    assert scene.engine.kinds == ["probe", "probe", "train", "train"]


def test_a_failing_probe_fails_the_trial_with_its_reason(scene: Scene) -> None:
    point = replace(Point.from_dict(scene.item().point), grouping=Grouping(mode="gradient"))
    scene.engine.diverging = {(1, 2)}
    events = scene.run(point=point)
    assert events[-1].state == "failed" and "probe of 3-shot failed" in events[-1].error
