"""Test images are scored once, every look is recorded, and what is broken is trained again before it."""

from __future__ import annotations

import pytest
from pretended import EPOCHS, Scene, break_files, keys_of, looks, of_kind, place_of

from mmap_model import revisions
from mmap_model.revisions import Revision
from orchestrator.execution.executor import Executor
from orchestrator.ledger import StudyStore
from orchestrator.ledger.cells import WEIGHTS
from orchestrator.work.events import (
    CellFinished,
    CellScored,
    CellsKnown,
    Note,
    WorkEvent,
)
from orchestrator.work.item import Control


def test_test_images_are_scored_once_and_every_look_is_recorded(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    assert scene.engine.scored == []
    events = scene.run(purpose="confirm", cells=keys, reason="end of sweep")
    assert sorted(scene.engine.scored) == sorted(keys) and len(of_kind(events, CellScored)) == 6
    again = scene.run(purpose="confirm", cells=keys)
    assert len(scene.engine.scored) == 6 and len(of_kind(again, CellScored)) == 6
    looks = StudyStore(scene.root, "demo").load_test_evaluations()
    assert [(look["reason"], sorted(look["keys"])) for look in looks] == [("end of sweep", sorted(keys))]


def test_cells_of_an_earlier_revision_are_not_scored_with_other_images(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tuple(event.key for event in of_kind(scene.run(), CellFinished))
    later = Revision(name="draws", number=3, reason="test images are others", applies=lambda cell: True)
    monkeypatch.setattr(revisions, "REVISIONS", (*revisions.REVISIONS, later))
    events = scene.run(purpose="confirm", cells=keys)
    assert events[-1].state == "failed" and scene.engine.scored == []
    assert "is of an earlier version: test images are others" in events[-1].error


def test_unfinished_cells_cannot_be_scored(scene: Scene) -> None:
    events = scene.run(purpose="confirm", cells=("f" * 32,))
    assert events[-1].state == "failed" and "not finished" in events[-1].error
    assert StudyStore(scene.root, "demo").load_test_evaluations() == []


def test_cells_without_weights_are_scored_only_after_training_again(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    whole = {key: scene.ledger.read_file(key, WEIGHTS) for key in keys}
    for key in keys[:2]:
        scene.ledger.drop(key, WEIGHTS)
    assert {c.status for c in of_kind(scene.run(), CellsKnown)[0].cells} == {"finished"}
    refused = scene.run(purpose="confirm", cells=keys)
    assert refused[-1].state == "failed" and scene.engine.scored == []
    command = f"orchestrator confirm demo --storage {scene.root} --trial 0 --retrain"
    for word in (keys[0][:12], "was dropped", command):
        assert word in refused[-1].error
    assert StudyStore(scene.root, "demo").load_test_evaluations() == []
    trained = scene.engine.epochs_run
    events = scene.run(purpose="confirm", cells=keys, retrain=True, fuse="off")
    assert events[-1].state == "complete" and len(of_kind(events, CellScored)) == 6
    assert scene.engine.epochs_run - trained == 2 * EPOCHS
    assert [event.key for event in of_kind(events, CellFinished)] == list(keys[:2])
    for key in keys:
        record = scene.ledger.get(key, verify=True)
        assert record is not None and record["grouping"] == {"margin": 0.5} and "dropped" not in record
        text = scene.ledger.read_file(key, WEIGHTS).decode()
        assert text.split("\n")[-1].startswith(f"{EPOCHS}:") and (
            key in keys[:2] or text == whole[key].decode()
        )


def test_broken_cells_of_a_finalist_are_trained_again_before_test_images_are_looked_at(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    break_files(scene, keys[1:4])
    trained = scene.engine.epochs_run
    events = scene.run(purpose="confirm", cells=keys, reason="end of sweep", retry_failed=True)
    assert events[-1].state == "complete" and len(of_kind(events, CellScored)) == 6
    assert scene.engine.epochs_run - trained == 3 * EPOCHS
    assert all(scene.ledger.get(key, verify=True) is not None for key in keys)
    assert [sorted(look["keys"]) for look in looks(scene)] == [sorted(keys)]
    told, *damage = of_kind(events, Note)
    assert all(key[:12] in told.text for key in keys[1:4]), "before it takes its time"
    assert all("Damaged record" in note.text for note in damage), "the numbers are those of before"
    record, test = scene.ledger.get(keys[1]), scene.ledger.test(keys[1])
    assert record is not None and test is not None
    assert test["weights"] == record["files"][WEIGHTS]["sha256"]


def test_broken_cells_are_mended_though_they_are_scored(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run(fuse="off")))
    scene.run(purpose="confirm", cells=keys)
    scene.ledger.drop(keys[0], WEIGHTS)
    break_files(scene, keys[1:4])
    events = scene.run(purpose="confirm", cells=keys, fuse="off")
    assert events[-1].state == "complete" and len(of_kind(events, CellScored)) == 6
    assert all(scene.ledger.is_whole(key) for key in keys) and len(looks(scene)) == 1
    assert scene.ledger.tests(keys).keys() == set(keys), "the same weights keep their scores"
    record = scene.ledger.get(keys[0])
    assert record is not None and "dropped" in record, "it is scored, so nobody needs its weights"


def test_a_reference_row_without_records_is_measured_again(scene: Scene) -> None:
    row = {"purpose": "baseline", "untrained": True, "trial": None}
    keys = tuple(keys_of(scene.run(**row)))
    break_files(scene, keys[:3])
    events = scene.run(**{**row, "purpose": "confirm", "cells": keys})
    assert events[-1].state == "complete" and sorted(scene.engine.scored) == sorted(keys)


def test_of_numbers_that_differ_after_training_again_the_user_is_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tuple(keys_of(scene.run()))
    before = scene.ledger.get(keys[0])
    scene.ledger.storage.write(place_of(scene, keys[0], WEIGHTS), b"torn")
    monkeypatch.setattr("pretended.accuracy", lambda key, epoch: 0.125)
    events = scene.run(purpose="confirm", cells=keys)
    _, note, damage = of_kind(events, Note)
    assert "Damaged record" in damage.text
    assert before is not None and f"{100 * before['metrics']['accuracy']:.2f} % was recorded" in note.text
    assert keys[0][:12] in note.text and "reaches 12.50 %" in note.text
    record = scene.ledger.get(keys[0])
    assert record is not None and record["metrics"]["accuracy"] == 0.125


def test_no_evaluation_is_recorded_that_did_not_happen(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    scene.ledger.storage.write(place_of(scene, keys[0], WEIGHTS), b"torn")

    def fail(*_: object) -> None:
        raise ValueError("prompts of another backbone")

    scene.engine.before_epoch = fail
    events = scene.run(purpose="confirm", cells=keys)
    assert events[-1].state == "failed" and "another backbone" in events[-1].error
    assert looks(scene) == [] and scene.engine.scored == []
    assert scene.ledger.failed() == set(), "the trial is no failure: it was complete"
    scene.engine.before_epoch = lambda run, epoch: None
    scene.engine.before_scoring = fail
    for _ in range(2):
        events = scene.run(purpose="confirm", cells=keys, retry_failed=True)
        assert events[-1].state == "failed" and "another backbone" in events[-1].error
    assert looks(scene) == []
    scene.engine.before_scoring = lambda: None
    assert scene.run(purpose="confirm", cells=keys)[-1].state == "complete" and len(looks(scene)) == 1


def test_weights_that_another_study_drops_at_the_last_moment_are_trained_again(scene: Scene) -> None:
    """Between the other study's decision and its deletion this one's trial became a finalist."""
    *_, key = keys = tuple(keys_of(scene.run()))

    def drop() -> None:
        if not scene.engine.scored:  # the first split's cells are about to be scored, the second's later
            assert scene.ledger.drop(key, WEIGHTS)

    scene.engine.before_scoring = drop
    trained = scene.engine.epochs_run
    events = scene.run(purpose="confirm", cells=keys, retrain=True)
    assert events[-1].state == "complete" and scene.ledger.tests(keys).keys() == set(keys)
    assert scene.engine.epochs_run - trained == EPOCHS and len(looks(scene)) == 1


def test_a_cell_that_is_trained_again_while_it_is_scored_is_scored_again(scene: Scene) -> None:
    (key, *_) = keys = tuple(keys_of(scene.run()))

    def replace_weights() -> None:
        scene.ledger.drop(key, WEIGHTS)
        record = scene.ledger.get(key)
        assert record is not None
        files = {**scene.ledger.read_files(key, record), WEIGHTS: b"of another device"}
        del record["dropped"]
        assert scene.ledger.commit(key, record, files)
        scene.engine.before_scoring = lambda: None

    scene.engine.before_scoring = replace_weights
    events = scene.run(purpose="confirm", cells=keys)
    assert events[-1].state == "failed" and "was trained again while it was scored" in events[-1].error
    assert scene.ledger.test(key) is None and len(scene.ledger.tests(keys)) == 5
    assert scene.run(purpose="confirm", cells=keys)[-1].state == "complete"
    assert scene.ledger.tests(keys).keys() == set(keys)


def test_a_worker_of_a_superseded_driver_looks_at_no_test_images(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    store = StudyStore(scene.root, "demo")
    with store.driver_lease() as old:
        fence = old.take()
    with store.driver_lease() as new:
        new.take()
        events = scene.run(purpose="confirm", cells=keys, fence=fence)
        assert events[-1].state == "cancelled" and looks(scene) == [] and scene.engine.scored == []


def test_a_cell_that_another_worker_finished_meanwhile_is_told_as_recorded(scene: Scene) -> None:
    other = scene.ledger

    def finish_first() -> None:
        for key in [cell.key for event in of_kind(told, CellsKnown) for cell in event.cells]:
            other.commit(key, {"metrics": {"accuracy": 0.25}, "parameters": 1, "seconds": {}}, {})

    told: list[WorkEvent] = []
    scene.engine.before_finish = finish_first
    Executor({}, {}, scene.root, engine=scene.engine).run(scene.item(), told.append, Control)
    finished = of_kind(told, CellFinished)
    assert len(finished) == 6 and all(event.metrics == {"accuracy": 0.25} for event in finished)
