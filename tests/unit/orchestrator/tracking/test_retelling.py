"""What the records of a study still say for MLflow, those of earlier versions too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.compare.columns import recorded_run_name
from orchestrator.ledger import InFlight, Ledger, StudyStore, TrialRecord, WriteBehind
from orchestrator.ledger.cells import HISTORY
from orchestrator.ledger.documents import encode
from orchestrator.ledger.told import ToldStore
from orchestrator.tracking import operations as op
from orchestrator.tracking.narration import Narration
from orchestrator.tracking.retelling import Retelling
from orchestrator.tracking.row import RowEnd, TrackedRow

AT = "2026-11-21T12:00:00.000000+00:00"
KEYS = ("k1", "k2")


class Records:
    """Of one study, written by hand."""

    def __init__(self, root: Path) -> None:
        self.store, self.ledger = StudyStore(root, "demo"), Ledger(root)
        self.told = ToldStore(self.store.storage, "demo")
        self.store.save_study({})

    def commit(self, key: str, epochs: int = 2, **about: Any) -> None:
        record = {
            "cell": {"dataset": "d", "backbone": "b"},
            "seconds": {"train": 2.0},
            "study": "demo",
            "trial": 0,
        }
        files = {HISTORY: encode({"epochs": history(key, epochs)})}
        self.ledger.commit(key, {**record, "metrics": {}, **about}, files)

    def trial(self, number: int, state: str, epochs: int = 2, **about: Any) -> TrialRecord:
        told = [{"epoch": e, "mean": e / 10, "values": [e / 10, e / 10]} for e in range(1, epochs + 1)]
        fields = {
            "point": {"method": "mmap"},
            "cells": cells(),
            "epochs": told,
            "started_at": AT,
            "ended_at": AT,
        }
        record = TrialRecord(**{"number": number, "state": state, **fields, **about})
        self.store.save_trial(record)
        return record

    def retell(self) -> tuple[dict[str, TrackedRow], list[str]]:
        story = Retelling(self.store, self.ledger, label=recorded_run_name)
        rows = {row.name: row for row in story.rows()}
        return rows, story.missing


def cells() -> list[dict[str, Any]]:
    return [
        {"key": key, "split": "3-shot", "seed": key[1:], "partition": None, "parameters": 9} for key in KEYS
    ]


def history(key: str, epochs: int) -> list[dict[str, Any]]:
    return [{"epoch": e, "at": AT, "accuracy": e / 10, "lr": 0.1} for e in range(1, epochs + 1)]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def test_a_complete_trial_is_told_from_its_cells(records: Records) -> None:
    for key in KEYS:
        records.commit(key)
    records.trial(0, "complete", device_seconds=4.0, attempts=2)
    rows, missing = records.retell()
    row = rows["trial 0"]
    assert missing == [] and list(row.epochs) == [1, 2] and set(row.finished) == set(KEYS)
    told = Narration(study="demo").whole(row)
    seconds = [m for o in told for m in o.get("metrics", ()) if m[0] == "device_seconds"]
    assert seconds == [("device_seconds", 4.0, 1, op.milliseconds(AT))], "under its attempt"
    assert told[-1] == op.end("trial/0", "complete", op.milliseconds(AT))


def test_a_cell_of_another_trial_is_told_as_reused(records: Records) -> None:
    for key in KEYS:
        records.commit(key, trial=7)
    records.trial(0, "complete")
    row = records.retell()[0]["trial 0"]
    begin = Narration(study="demo").cells(row)[2]
    assert row.finished == {} and begin["tags"]["reused_from"] == "study demo, trial 7"


def test_a_pruned_trial_of_an_earlier_version_is_told_from_its_saved_states(records: Records) -> None:
    state = InFlight(
        cells=({"dataset": "d", "backbone": "b"},) * 2,
        active=KEYS,
        epoch=3,
        history={key: history(key, 3) for key in KEYS},
        state=b"",
        about={},
    )
    records.ledger.save_inflight(state)
    records.trial(0, "pruned", attributes={"stopped_by": "user"})
    rows, missing = records.retell()
    row = rows["trial 0"]
    assert missing == [] and row.end is not None and row.end.state == "cancelled"
    assert list(row.epochs) == [1, 2], "what was told, and no epoch more"
    assert [cell["dataset"] for cell in row.cells] == ["d", "d"]


def test_what_an_earlier_version_did_not_record_is_named(records: Records) -> None:
    records.trial(0, "pruned")
    rows, missing = records.retell()
    assert missing == ["trial 0: epoch 1, 2 but for the validation accuracies"]
    reports = dict(rows["trial 0"].reports())
    assert reports[2] == {key: {"epoch": 2, "at": AT, "accuracy": 0.2} for key in KEYS}


def test_a_row_that_was_kept_is_told_as_it_ended(records: Records) -> None:
    row = TrackedRow(trial=0, point={"method": "mmap"}, started_at=AT)
    row.cells = [{**cell, "status": "failed", "origin": None} for cell in cells()]
    row.add_epoch(1, {key: history(key, 1)[0] for key in KEYS})
    row.failed = {"k1": {"error": "diverged", "at": AT}}
    row.end = RowEnd(state="failed", at=AT, error="diverged", attempts=1)
    behind = WriteBehind(records.store.storage)
    for fence, error in ((2, "diverged"), (1, "an earlier driver's")):
        row.failed["k1"]["error"] = error
        records.told.save_row(row.name, fence, row.to_dict(), behind)
    assert behind.close(10)
    records.trial(0, "failed", attempts=1)
    rows, missing = records.retell()
    assert missing == [] and rows["trial 0"].failed["k1"]["error"] == "diverged"
    records.trial(0, "failed", attempts=2)
    assert records.retell()[1] != [], "what was kept is of an earlier attempt"


def test_reference_rows_keep_their_runs_when_another_trial_becomes_the_best(records: Records) -> None:
    first, second = {"method": "mmap", "lr": 1}, {"method": "mmap", "lr": 2}
    row = TrackedRow(trial="zero_step-first", point=first, started_at=AT)
    row.end = RowEnd(state="complete", at=AT)
    behind = WriteBehind(records.store.storage)
    records.told.save_row(row.name, 1, row.to_dict(), behind)
    assert behind.close(10)
    records.store.save_baseline("zero_step", {"state": "complete", "point": second, "started_at": AT})
    names = set(records.retell()[0])
    assert "zero_step-first" in names and len(names) == 2


@pytest.mark.parametrize(
    ("attributes", "name", "named"),
    [
        ({"tracked_as": "mine"}, "mine", True),
        ({"column": "coop", "split": "3-shot", "lr": 0.1}, "CoOp (single-task) · 3-shot · lr 0.1", True),
        ({"column": "groups_01_23", "split": "3-shot"}, "groups_01_23 · 3-shot · r1", False),
    ],
)
def test_rows_of_a_comparison(records: Records, attributes: Any, name: str, named: bool) -> None:
    records.store.save_row("r1", TrialRecord(number=0, state="complete", attributes=attributes))
    rows, missing = records.retell()
    assert set(rows) == {name} and (missing == []) is named


def test_test_scores_are_told_of_rows_that_were_scored_here(records: Records) -> None:
    for key in KEYS:
        records.commit(key)
        records.ledger.commit_test(key, {"metrics": {"accuracy": 0.5}}, {})
    records.trial(0, "complete")
    assert records.retell()[0]["trial 0"].tests == {}, "another study may have scored these cells"
    records.told.save_scored("trial 0", KEYS)
    row = records.retell()[0]["trial 0"]
    means = [m for o in Narration(study="demo").tested(row) for m in o["metrics"] if "mean" in m[0]]
    assert set(row.tests) == set(KEYS) and means[0][:2] == ("test_accuracy_mean", 0.5)


def test_one_record_that_is_not_what_it_should_be_hides_no_other(records: Records) -> None:
    for key in KEYS:
        records.commit(key)
    records.trial(0, "complete")
    records.trial(1, "complete", cells=[{"seed": "1"}])
    rows, missing = records.retell()
    assert set(rows) == {"trial 0"} and len(missing) == 1 and "1" in missing[0]


@pytest.mark.parametrize("state", ["running", "complete"])
def test_a_trial_that_runs_elsewhere_is_told_as_running(records: Records, state: str) -> None:
    for key in KEYS:
        records.commit(key)
    records.trial(0, state)
    (row,) = Retelling(records.store, records.ledger, running=True).rows()
    (alone,) = Retelling(records.store, records.ledger).rows()
    assert alone.end is not None and alone.end.state == ("interrupted" if state == "running" else state)
    assert (row.end is None) is (state == "running")


def test_marks_tell_the_next_driver_whether_anything_is_owed(records: Records) -> None:
    assert records.told.is_complete() and records.told.begin(1) is None
    assert not records.told.is_complete()
    records.told.complete(1)
    assert records.told.begin(3) == "1" and records.told.begin(4) is None
    records.told.complete(3)
    assert records.told.begin(5) is None, "a driver that was superseded vouches for nothing"
