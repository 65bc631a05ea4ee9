"""What fails a cell, what fails its trial, and what is kept, with an engine that only pretends to train."""

from __future__ import annotations

from typing import Any

import pytest
from pretended import EPOCHS, Killed, PretendedEngine, PretendedRun, Scene, keys_of, of_kind

from mmap_model.configuration import Seeds, Split
from mmap_model.errors import DatasetError
from orchestrator.work.events import (
    CellFailure,
    CellScored,
    CellsKnown,
    Done,
    WorkEvent,
)


def test_an_exception_is_kept_with_its_traceback_and_spares_other_splits(scene: Scene) -> None:
    def fail(run: PretendedRun, epoch: int) -> None:
        if epoch == 2 and next(iter(run._cells.values())).split.shots == 3:
            raise RuntimeError("the device went away")

    scene.engine.before_epoch = fail
    events = scene.run()
    assert events[-1].state == "failed" and "device went away" in events[-1].error
    assert len(scene.ledger.finished()) == 3
    failure = scene.ledger.failure(keys_of(events)[0])
    assert failure is not None and "before_epoch" in failure["traceback"] and failure["epoch"] == 1
    assert failure["kind"] == events[-1].failure == "raised"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("image file is truncated (3 bytes not processed)"), "data"),
        (DatasetError("class 'cat' of task 'photo' has 2 images"), "data"),
        (MemoryError("std::bad_alloc"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 GB"), "memory"),
        (ZeroDivisionError("float division by zero"), "raised"),
    ],
)
def test_failures_are_told_apart(scene: Scene, error: Exception, kind: str) -> None:
    def fail(run: PretendedRun, epoch: int) -> None:
        raise error

    scene.engine.before_epoch = fail
    events = scene.run(splits=(Split(shots=3),), seeds=(Seeds.both(1),))
    failure = scene.ledger.failure(keys_of(events)[0])
    assert failure is not None and failure["kind"] == kind
    assert [event.failure for event in of_kind(events, CellFailure)] == [kind]
    assert (events[-1].state, events[-1].failure) == ("failed", kind)


def test_data_of_one_seed_that_cannot_be_read_fails_that_seed_alone(scene: Scene) -> None:
    def fail(run: PretendedRun, epoch: int) -> None:
        if 2 in {cell.seeds.train for cell in run._cells.values()}:
            raise OSError("image file is truncated (3 bytes not processed)")

    scene.engine.before_epoch = fail
    events = scene.run(splits=(Split(shots=3),))
    first, second, third = keys_of(events)
    assert scene.ledger.finished() == {first, third} and scene.ledger.failed() == {second}
    assert [(e.key, e.failure) for e in of_kind(events, CellFailure)] == [(second, "data")]


def test_data_that_cannot_be_opened_at_all_fails_every_cell(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise DatasetError("/images is not a folder", where="dataset.root")

    monkeypatch.setattr(scene.engine, "fusable", fail)
    monkeypatch.setattr(scene.engine, "start", fail)
    events = scene.run(splits=(Split(shots=3),))
    assert scene.ledger.failed() == set(keys_of(events)) and len(of_kind(events, CellFailure)) == 3
    assert events[-1].failure == "data" and "/images is not a folder" in events[-1].error


def test_data_that_fails_later_fails_all_cells_and_keeps_their_epochs(scene: Scene) -> None:
    def fail(run: PretendedRun, epoch: int) -> None:
        if epoch == 3:
            raise OSError("image file is truncated (3 bytes not processed)")

    scene.engine.before_epoch = fail
    events = scene.run(splits=(Split(shots=3),))
    assert scene.ledger.failed() == set(keys_of(events)[:3])
    scene.engine.before_epoch = lambda run, epoch: None
    scene.engine.trained.clear()
    again = scene.run(splits=(Split(shots=3),), retry_failed=True)
    assert again[-1].state == "complete"
    assert scene.engine.trained == [(key, 3) for key in keys_of(events)[:3]]


def test_a_device_that_fails_is_not_held_against_the_cell(scene: Scene) -> None:
    """Its process can do nothing more: it ends, and the next one goes on from the last epoch saved."""

    def fail(run: PretendedRun, epoch: int) -> None:
        if epoch == 3:
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    scene.engine.before_epoch = fail
    one = {"splits": (Split(shots=3),), "seeds": (Seeds.both(1),)}
    with pytest.raises(RuntimeError, match="ECC"):
        scene.run(**one)
    scene.engine.before_epoch = lambda run, epoch: None
    events = scene.run(**one)
    assert events[-1].state == "complete" and scene.engine.epochs_run == EPOCHS
    assert [cell.status for cell in of_kind(events, CellsKnown)[0].cells] == ["resumed"]


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_a_metric_that_is_no_number_fails_its_cell_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    report = PretendedRun._report

    def broken(run: PretendedRun, key: str, epoch: int) -> dict[str, Any]:
        found = report(run, key, epoch)
        bad = epoch == 2 and run._cells[key].seeds.train == 2
        return {**found, metric: float("nan")} if bad else found

    monkeypatch.setattr(PretendedRun, "_report", broken)
    events = scene.run(splits=(Split(shots=3),))
    failed = [event.key for event in of_kind(events, CellFailure)]
    assert failed == [keys_of(events)[1]] and len(scene.ledger.finished()) == 2
    assert (events[-1].state, events[-1].failure) == ("failed", "nan")
    assert f"its {metric} in epoch 2 is nan" in events[-1].error


def test_divergence_that_only_the_end_shows_fails_its_cell_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was restored after its last epoch evaluates once more when it finishes."""
    finish = PretendedRun.finish

    def broken(run: PretendedRun) -> dict[str, dict[str, Any]]:
        run.failed[next(key for key, cell in run._cells.items() if cell.seeds.train == 2)] = "it diverged"
        return finish(run)

    monkeypatch.setattr(PretendedRun, "finish", broken)
    events = scene.run(splits=(Split(shots=3),))
    assert [event.failure for event in of_kind(events, CellFailure)] == ["nan"]
    assert (events[-1].state, events[-1].error) == ("failed", "it diverged")
    assert len(scene.ledger.finished()) == 2 and scene.ledger.failed() == {keys_of(events)[1]}


def test_a_cell_that_gives_no_numbers_on_test_images_leaves_the_others_their_scores(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tuple(keys_of(scene.run(splits=(Split(shots=3),))))
    score = PretendedEngine.score_test

    def broken(engine: PretendedEngine, *given: Any) -> dict[str, dict[str, Any]]:
        return {**score(engine, *given), keys[1]: {"error": "its logits are not finite"}}

    monkeypatch.setattr(PretendedEngine, "score_test", broken)
    events = scene.run(purpose="confirm", cells=keys)
    assert [event.key for event in of_kind(events, CellScored)] == [keys[0], keys[2]]
    assert [(e.key, e.failure) for e in of_kind(events, CellFailure)] == [(keys[1], "nan")]
    assert (events[-1].state, events[-1].failure) == ("failed", "nan")
    assert set(scene.ledger.tests(keys)) == {keys[0], keys[2]}


def test_only_the_cells_in_training_are_given_up(scene: Scene) -> None:
    told: list[WorkEvent] = []

    def hang(run: PretendedRun, epoch: int) -> None:
        if epoch == 2 and next(iter(run._cells.values())).split.shots == 3:
            told.extend(scene.executor.give_up("no progress for 9 s", "in a lock"))
            raise Killed

    scene.engine.before_epoch = hang
    with pytest.raises(Killed):
        scene.run()
    assert [type(event) for event in told] == [CellFailure] * 3 + [Done]
    assert scene.ledger.failed() == {event.key for event in told[:-1]}
    failure = scene.ledger.failure(told[0].key)
    assert failure is not None
    assert (failure["kind"], failure["traceback"], failure["epoch"]) == ("timeout", "in a lock", 1)
    scene.engine.before_epoch = lambda run, epoch: None
    events = scene.run()
    assert events[-1].failure == "timeout" and len(scene.ledger.finished()) == 3
