"""Order, resuming and records of work items, with an engine that only pretends to train."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretended import EPOCHS, Killed, PretendedRun, Scene, accuracy, keys_of, kill_before, of_kind, place_of

from mmap_model.cells import Cell, Point
from mmap_model.configuration import Seeds, Split
from mmap_model.methods.zero_shot import ZeroShotSettings
from orchestrator.ledger import Ledger
from orchestrator.ledger.cells import WEIGHTS
from orchestrator.work.events import (
    CellFailure,
    CellFinished,
    CellScored,
    CellsKnown,
    Done,
    EpochReached,
    Note,
)
from orchestrator.work.item import Control, WorkItem


def test_items_survive_json(scene: Scene) -> None:
    item = scene.item(cells=("a",), fence=3)
    assert WorkItem.from_dict(json.loads(json.dumps(item.to_dict()))) == item


def test_a_trial_trains_its_cells_in_step_and_records_them(scene: Scene) -> None:
    events = scene.run()
    cells = of_kind(events, CellsKnown)[0].cells
    assert [(c.split, c.seed) for c in cells] == [
        (split, seed) for split in ("3-shot", "6-shot") for seed in ("1", "2", "3")
    ]
    assert {c.status for c in cells} == {"new"} and {c.parameters for c in cells} == {20}
    epochs = of_kind(events, EpochReached)
    assert [e.epoch for e in epochs] == [1, 2, 3]
    for event in epochs:
        expected = [accuracy(c.key, event.epoch) for c in cells]
        assert event.values == expected
        assert event.mean == pytest.approx(sum(expected) / 6)
    assert scene.engine.widths == [3, 3], "the seeds of a split are one batch"
    assert isinstance(events[-1], Done) and events[-1].state == "complete"
    assert scene.ledger.finished() == set(keys_of(events))
    assert scene.ledger.inflight_batches() == []
    record = scene.ledger.get(cells[0].key, verify=True)
    assert record is not None
    assert Cell.from_dict(record["cell"]).key == cells[0].key
    assert record["grouping"] == {"margin": 0.5} and record["trial"] == 0 and record["epochs"] == EPOCHS
    assert record["metrics"]["tasks"]["clipart"]["accuracy"] == accuracy(cells[0].key, 3)
    assert [h["epoch"] for h in scene.ledger.history(cells[0].key)] == [1, 2, 3]


def test_all_cells_are_committed_before_the_last_epoch_is_told(scene: Scene) -> None:
    events = scene.run()
    kinds = [type(event) for event in events]
    assert kinds.count(CellFinished) == 6
    assert max(i for i, k in enumerate(kinds) if k is CellFinished) < max(
        i for i, k in enumerate(kinds) if k is EpochReached
    )


def test_finished_cells_are_not_trained_again_but_told(scene: Scene) -> None:
    first = scene.run()
    scene.engine.epochs_run = 0
    events = scene.run(trial=5)
    assert scene.engine.epochs_run == 0
    assert {c.status for c in of_kind(events, CellsKnown)[0].cells} == {"finished"}
    assert of_kind(events, CellsKnown)[0].cells[0].origin["trial"] == 0
    assert of_kind(events, CellFinished) == []
    assert [e.mean for e in of_kind(events, EpochReached)] == [e.mean for e in of_kind(first, EpochReached)]
    assert events[-1].state == "complete"


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("split", [0, 1])
def test_after_a_kill_at_most_one_epoch_of_a_cell_is_repeated(scene: Scene, epoch: int, split: int) -> None:
    calls = []

    def kill(run: PretendedRun, at: int) -> None:
        calls.append(at)
        if len(calls) == 2 * (epoch - 1) + split + 1:
            raise Killed

    scene.engine.before_epoch = kill
    with pytest.raises(Killed):
        scene.run()
    scene.engine.before_epoch = lambda run, at: None
    events = scene.run()
    assert scene.engine.epochs_run == 6 * EPOCHS, "no whole epoch was lost or trained twice"
    assert [e.epoch for e in of_kind(events, EpochReached)] == [1, 2, 3], (
        "epochs before the kill are told again"
    )
    whole = "\n".join(f"{e}:{','.join(keys_of(events)[:3])}" for e in (1, 2, 3))
    assert scene.ledger.read_file(keys_of(events)[0], "prompts.safetensors").decode() == whole
    resumed = [c.status for c in of_kind(events, CellsKnown)[0].cells]
    first = "finished" if (epoch, split) == (3, 1) else "resumed" if epoch > 1 or split else "new"
    assert resumed == [first] * 3 + ["resumed" if epoch > 1 else "new"] * 3


def test_a_kill_between_the_commits_of_a_batch_trains_nothing_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = Ledger.commit, []

    def commit(self: Ledger, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
        count.append(key)
        if len(count) == 2:
            raise Killed
        return real(self, key, record, files)

    monkeypatch.setattr(Ledger, "commit", commit)
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    monkeypatch.setattr(Ledger, "commit", real)
    events = scene.run(splits=(Split(shots=3),))
    assert scene.engine.epochs_run == 3 * EPOCHS
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["finished", "resumed", "resumed"]
    assert len(scene.ledger.finished()) == 3 and scene.ledger.inflight_batches() == []


def test_cells_that_others_finished_are_left_out_of_the_batch(scene: Scene) -> None:
    scene.run(seeds=(Seeds.both(2),))
    scene.engine.widths.clear()
    events = scene.run()
    assert scene.engine.widths == [2, 2]
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["new", "finished", "new"] * 2


def test_a_diverging_cell_fails_alone_and_its_trial_has_no_further_mean(scene: Scene) -> None:
    scene.engine.diverging = {(2, 3)}
    events = scene.run()
    failed = of_kind(events, CellFailure)
    assert len(failed) == 2 and all("diverged in epoch 2" in e.error for e in failed)
    assert [e.epoch for e in of_kind(events, EpochReached)] == [1]
    assert events[-1].state == "failed" and "diverged" in events[-1].error
    assert len(scene.ledger.finished()) == 4 and scene.ledger.failed() == {e.key for e in failed}
    assert scene.ledger.inflight_batches() == []


def test_failed_cells_are_trained_again_only_on_request(scene: Scene) -> None:
    scene.engine.diverging = {(2, 3)}
    scene.run()
    scene.engine.diverging, scene.engine.epochs_run = set(), 0
    again = scene.run()
    assert scene.engine.epochs_run == 0
    assert again[-1].state == "failed" and len(of_kind(again, CellFailure)) == 2
    retried = scene.run(retry_failed=True)
    assert retried[-1].state == "complete" and scene.engine.epochs_run == 2 * EPOCHS
    assert scene.ledger.failed() == set()


def test_a_batch_with_a_failed_cell_resumes_after_a_kill(scene: Scene) -> None:
    scene.engine.diverging = {(1, 3)}

    def kill(run: PretendedRun, epoch: int) -> None:
        if epoch == 3:
            raise Killed

    scene.engine.before_epoch = kill
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    scene.engine.before_epoch = lambda run, epoch: None
    events = scene.run(splits=(Split(shots=3),))
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["resumed", "resumed", "failed"]
    assert scene.engine.epochs_run == 2 * EPOCHS
    assert len(scene.ledger.finished()) == 2


@pytest.mark.parametrize("fuse", ["auto", "off"])
@pytest.mark.parametrize("capacity", [3, 2])
def test_a_kill_after_a_divergence_repeats_at_most_one_epoch(scene: Scene, capacity: int, fuse: Any) -> None:
    """Also where memory had held no more than two of the cells at once."""
    scene.engine.diverging, scene.engine.capacity = {(2, 2)}, capacity
    scene.engine.before_epoch = kill_before(3)
    for _ in range(3):
        with pytest.raises(Killed):
            scene.run(splits=(Split(shots=3),), fuse=fuse)
    scene.engine.before_epoch = lambda run, epoch: None
    events = scene.run(splits=(Split(shots=3),), fuse=fuse)
    told = of_kind(events, CellsKnown)[0].cells
    assert [c.status for c in told] == ["resumed", "failed", "resumed"]
    assert [c.epoch for c in told] == [2, 0, 2]
    first, second, third = keys_of(events)
    assert sorted(scene.engine.trained) == sorted(
        [(key, epoch) for key in (first, third) for epoch in (1, 2, 3)] + [(second, 1)]
    )
    assert scene.ledger.finished() == {first, third} and scene.ledger.failed() == {second}


def test_cells_to_be_retried_begin_anew_and_the_others_go_on(scene: Scene) -> None:
    scene.engine.diverging = {(2, 2)}
    scene.engine.before_epoch = kill_before(3)
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    scene.engine.diverging, scene.engine.before_epoch = set(), lambda run, epoch: None
    scene.engine.trained.clear()
    events = scene.run(splits=(Split(shots=3),), retry_failed=True)
    assert events[-1].state == "complete"
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["resumed", "new", "resumed"]
    first, second, third = keys_of(events)
    assert sorted(scene.engine.trained) == sorted(
        [(first, 3), (third, 3), *((second, epoch) for epoch in (1, 2, 3))]
    )


def test_states_of_an_earlier_version_are_found_the_newest_first(scene: Scene) -> None:
    """They were kept by the cells that were active: after a divergence, beside an older one of all cells."""
    scene.engine.diverging = {(2, 2)}
    scene.engine.before_epoch = kill_before(3)
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    keys = [c.key for c in of_kind(scene.run(lambda: Control(cancel=True)), CellsKnown)[0].cells][:3]
    newest = scene.ledger.inflight(keys)
    assert newest is not None and newest.epoch == 2
    for state in (
        replace(newest, built=()),
        replace(newest, built=(), active=tuple(keys), epoch=1, state=json.dumps([1, [], {}, keys]).encode()),
    ):
        scene.ledger.save_inflight(state)
    scene.ledger.storage.delete(f"inflight/{newest.batch}.even")
    scene.engine.before_epoch = lambda run, epoch: None
    scene.engine.trained.clear()
    events = scene.run(splits=(Split(shots=3),))
    assert [c.epoch for c in of_kind(events, CellsKnown)[0].cells] == [2, 0, 2]
    assert sorted(scene.engine.trained) == sorted([(keys[0], 3), (keys[2], 3)])
    assert scene.ledger.inflight_batches() == []


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_whatever_is_killed_each_kill_costs_a_cell_at_most_one_epoch(data: st.DataObject) -> None:
    """Kills fall before or after any write of a state, a failure or a record."""
    seeds = data.draw(st.integers(1, 4), label="seeds")
    diverging = data.draw(
        st.sets(st.tuples(st.integers(1, EPOCHS), st.integers(1, seeds)), max_size=2), label="diverging"
    )
    capacity = data.draw(st.integers(1, seeds), label="capacity")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        scene = Scene(Path(folder))
        scene.engine.diverging, scene.engine.capacity = diverging, capacity
        work = {"seeds": tuple(Seeds.both(1 + n) for n in range(seeds)), "splits": (Split(shots=3),)}
        countdown = [0]

        def deadly(name: str) -> None:
            real = getattr(Ledger, name)

            def write(self: Ledger, *given: Any, **named: Any) -> Any:
                countdown[0] -= 1
                if countdown[0] == 0:
                    raise Killed
                result = real(self, *given, **named)
                countdown[0] -= 1
                if countdown[0] == 0:
                    raise Killed
                return result

            patch.setattr(Ledger, name, write)

        for name in ("save_inflight", "record_failure", "commit"):
            deadly(name)
        failed: set[str] = set()
        kills = 0
        for _ in range(3):
            countdown[0] = data.draw(st.integers(1, 12), label="writes until the kill")
            before = len(scene.engine.trained)
            try:
                events = scene.run(**work)
            except Killed:
                kills += 1
            assert failed.isdisjoint(key for key, _ in scene.engine.trained[before:])
            failed = scene.ledger.failed()
        countdown[0] = 0
        events = scene.run(**work)
        keys = keys_of(events)
        lost = {number for _, number in diverging}
        assert scene.ledger.failed() == {keys[number - 1] for number in lost}
        assert scene.ledger.finished() == set(keys) - scene.ledger.failed()
        for key in keys:
            epochs = [epoch for trained, epoch in scene.engine.trained if trained == key]
            assert len(epochs) - len(set(epochs)) <= kills


def test_reference_rows(scene: Scene) -> None:
    zero_shot = scene.run(
        purpose="baseline",
        test=True,
        trial=None,
        point=Point(method="zero_shot", settings=ZeroShotSettings()),
    )
    assert zero_shot[-1].state == "complete" and len(of_kind(zero_shot, CellScored)) == 6
    trained = scene.run()
    zero_step = scene.run(purpose="baseline", untrained=True, trial=None)
    assert zero_step[-1].state == "complete"
    assert set(keys_of(zero_step)).isdisjoint(keys_of(trained))
    assert [e.epoch for e in of_kind(zero_step, EpochReached)] == [0]
    record = scene.ledger.get(keys_of(zero_step)[0])
    assert record is not None and record["epochs"] == 0
    assert scene.run(purpose="baseline", untrained=True)[-1].state == "complete"


def test_a_damaged_record_is_trained_again(scene: Scene) -> None:
    first = scene.run(splits=(Split(shots=3),))
    key = keys_of(first)[1]
    scene.ledger.storage.write(place_of(scene, key, WEIGHTS), b"")
    events = scene.run(splits=(Split(shots=3),))
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["finished", "new", "finished"]
    assert events[-1].state == "complete"
    (note,) = of_kind(events, Note)
    assert note.text.startswith("Damaged record: ") and key in note.text
