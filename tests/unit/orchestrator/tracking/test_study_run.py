"""The run of a study itself, from its records: what it is told and what it is not."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmap_model.errors import InputError
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.ledger.cells import HISTORY
from orchestrator.ledger.documents import encode
from orchestrator.study import load_study
from orchestrator.tracking import Backend, Connection, Delivery, Operation, study_tracker
from orchestrator.tracking.retelling import Retelling
from orchestrator.tracking.study_run import StudyRun, ranking_table
from orchestrator.tracking.study_tracker import StudyTracker

AT = "2026-11-21T12:00:00.000000+00:00"
POINT = {"method": "mmap", "settings": {"prompt_length": 4}, "recipe": {"lr": 0.01}, "grouping": None}


class Records:
    """Of a study with trials of one seed."""

    def __init__(self, root: Path) -> None:
        self.study = load_study("demo", [f"storage={root}", "tracking.uri=http://me:hunter2@host:5000"])
        self.store, self.ledger = StudyStore(root, "demo"), Ledger(root)
        images = {"clipart": {"classes": "c", "images": [3, 4], "listed": None}}
        self.store.save_study(
            self.study.to_plain(), {"manifest": "d" * 32, "fingerprint": "b" * 32, "tasks": images}
        )

    def trial(self, number: int, state: Any, accuracy: float = 0.5) -> None:
        key = f"k{number}"
        if state == "complete":
            metrics = {"accuracy": accuracy, "tasks": {"clipart": {"accuracy": accuracy}}}
            cell = {"dataset": "d", "backbone": "b"}
            record = {"cell": cell, "seconds": {}, "study": "demo", "trial": number, "metrics": metrics}
            self.ledger.commit(key, record, {HISTORY: encode({"epochs": []})})
        cells = [{"key": key, "split": "3-shot", "seed": "1", "partition": None, "parameters": 9}]
        about: dict[str, Any] = {"point": POINT, "cells": cells, "parameters": 9, "ended_at": AT}
        self.store.save_trial(TrialRecord(number=number, state=state, **about))

    def run(self, **about: Any) -> StudyRun:
        return StudyRun(self.study, self.store, self.ledger, **about)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def test_it_says_what_is_shared_by_all_trials_and_which_images_they_are_about(records: Records) -> None:
    begin, about = records.run().begun()
    assert (begin["run"], begin["tags"]["kind"], begin["tags"]["trial"]) == ("study", "study", "study")
    assert begin["params"]["recipe.epochs"] == "5" and begin["params"]["seeds"] == "1, 2, 3"
    assert not {"recipe.lr", "settings.prompt_length", "grouping.similarity"} & set(begin["params"])
    assert "recipe.lr" in begin["tags"]["varies"].split(", ")
    (given,) = about["inputs"]
    assert (given["name"], given["digest"]) == ("symbols", "d" * 32)
    assert given["profile"] == {"tasks": 1, "classes": {"clipart": 2}, "images": {"clipart": 7}}


def test_a_comparison_run_again_with_more_seeds_changes_no_parameter(records: Records) -> None:
    few, more = (
        records.study.model_copy(update={"name": "compare-demo", "seeds": records.study.seeds[:number]})
        for number in (2, 3)
    )
    begins = [StudyRun(study, records.store, records.ledger).begun()[0] for study in (few, more)]
    assert begins[0]["params"] == begins[1]["params"]
    assert [begin["tags"]["seeds"] for begin in begins] == ["1, 2", "1, 2, 3"]


def test_the_resolved_study_goes_along_without_its_secrets(records: Records) -> None:
    text = records.run().begun()[1]["files"]["study.yaml"]["text"]
    assert "hunter2" not in text and yaml.safe_load(text)["recipe"]["epochs"] == 5


def test_it_ends_with_the_ranking_and_says_whether_trials_still_run(records: Records) -> None:
    records.trial(0, "complete", 0.4)
    records.trial(1, "complete", 0.6)
    records.trial(2, "pruned")
    told, end = records.run().ended(None)
    assert (told["tags"]["winner"], told["tags"]["state"], end["status"]) == (
        "trial 1",
        "complete",
        "FINISHED",
    )
    table = json.loads(told["files"]["ranking.json"]["text"])
    lines = [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]
    assert [(line["rank"], line["trial"], line["validation_mean"]) for line in lines] == [
        (1, "1", 0.6),
        (2, "0", 0.4),
    ]
    assert lines[0]["lr"] == 0.01 and lines[0]["prompt_length"] == 4
    logged = json.loads(told["tags"]["mlflow.loggedArtifacts"])
    assert logged == [{"path": "ranking.json", "type": "table"}]
    records.trial(3, "running")
    told, end = records.run().ended(None)
    assert (told["tags"]["state"], end["status"]) == ("interrupted", "KILLED")


def test_a_study_without_results_ends_without_a_ranking(records: Records) -> None:
    told, _ = records.run().ended(None)
    assert "files" not in told and "No trial is complete" in told["tags"]["mlflow.note.content"]


def test_the_report_goes_along_and_one_that_cannot_be_made_says_why(records: Records, tmp_path: Path) -> None:
    records.trial(0, "complete")

    def missing(store: Any, ledger: Any, path: Path) -> None:
        raise InputError("plotly is not installed", where="report", fix="run uv sync --extra report")

    def broken(store: Any, ledger: Any, path: Path) -> None:
        raise ZeroDivisionError("no seeds of s3://key:secret@bucket")

    told = records.run(report=lambda store, ledger, path: path.write_text("<html>")).ended(tmp_path)[0]
    place = told["files"]["report.html"]["path"]
    assert Path(place).read_text() == "<html>"
    for report, said in ((missing, "uv sync --extra report"), (broken, "no seeds of s3://bucket")):
        told = records.run(report=report).ended(tmp_path)[0]
        assert said in told["tags"]["mlflow.note.content"] and "report.html" not in told["files"]
        assert "ranking.json" in told["files"], "the ranking is told all the same"


def test_what_no_table_shows_is_left_out_of_the_ranking() -> None:
    row = {
        "number": 0,
        "state": "complete",
        "point": {"recipe": {"lr": float("inf")}, "settings": {"layers": [1, 2]}},
        "val": {"mean": 0.5, "std": float("nan"), "n": 1, "low": None, "high": None},
        "test": None,
        "parameters": 9,
        "share": None,
        "separable_from_best": None,
        "device_seconds": 1.0,
    }
    table = ranking_table({"trials": [row], "baselines": []}, ["recipe.lr", "settings.layers"])
    line = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (line["lr"], line["layers"], line["validation_std"]) == (None, "[1, 2]", None)


def test_a_study_whose_own_run_cannot_be_told_is_told_trial_by_trial(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(self: StudyRun) -> list[Any]:
        raise KeyError("dataset")

    records.trial(0, "complete")
    monkeypatch.setattr(StudyRun, "begun", damaged)
    story = Retelling(records.store, records.ledger)
    about = (records.study.tracking, records.study, records.store, records.ledger, tmp_path / "outbox", 0)
    never = threading.Event()
    tracker = StudyTracker(*about, story=story, before_connect=never.wait)
    runs = [operation["run"] for row in tracker._tell_rows(None, False) for operation in row]
    assert "trial/0" in runs and "study" not in runs


class Quiet(Backend):
    """Takes everything."""

    schemes = ("quiet",)

    def __init__(self) -> None:
        super().__init__(Connection(uri="quiet:", experiment="demo"))
        self.told: list[Operation] = []

    def write(self, operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        self.told += operations
        return Delivery()


@pytest.mark.parametrize("hurry", [False, True])
def test_the_end_tells_what_was_found_and_an_interrupted_one_reads_no_record_for_it(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurry: bool
) -> None:
    records.trial(0, "complete")
    quiet = Quiet()
    monkeypatch.setattr(study_tracker, "BackendProcess", lambda to: quiet)
    written: list[Path] = []

    def report(store: StudyStore, ledger: Ledger, path: Path) -> None:
        path.write_text("<html>")
        written.append(path)

    about = (records.study.tracking, records.study, records.store, records.ledger, tmp_path / "outbox", 0)
    tracker = StudyTracker(*about, story=Retelling(records.store, records.ledger), report=report)
    assert tracker.close(60, lambda: hurry).delivered
    last = [operation for operation in quiet.told if operation["run"] == "study"][-1]
    assert (last["op"], last["status"]) == ("end", "KILLED" if hurry else "FINISHED")
    files = {name for operation in quiet.told for name in operation.get("files", {})}
    assert files == ({"study.yaml"} if hurry else {"study.yaml", "ranking.json", "report.html"})
    assert len(written) == (not hurry) and not any(path.exists() for path in written), "it was delivered"
