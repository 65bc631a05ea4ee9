"""A trial whose record is not what it should be is named, and runs again as the same trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli.main import execute
from orchestrator.driver import run_study, study_agenda
from orchestrator.driver.session import Session
from orchestrator.driver.todo import Todo, find_todo
from orchestrator.driver.trials import Trials
from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.ledger.documents import NEWEST, decode, encode
from orchestrator.rows.rows import Rows
from orchestrator.search.proposals import Proposals
from orchestrator.study import StudyPlan, load_plan
from orchestrator.tracking.tracker import NoTracker
from orchestrator.work.events import CellsKnown, CellState, Done, EpochReached
from orchestrator.work.item import WorkItem
from orchestrator.work.shown import NoteShown, Shown

COUNT = 4
HURT = 2


class Queue:
    """Remembers what was queued."""

    def __init__(self) -> None:
        self.items: dict[int, WorkItem] = {}

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
        if item.trial is not None:
            self.items[item.trial] = item

    def go_on(self, item: WorkItem) -> None: ...
    def cancel(self, item_id: str) -> None: ...
    def forget(self, item_id: str) -> None: ...


@pytest.fixture
def plan(tmp_path: Path) -> StudyPlan:
    return load_plan("demo", [f"storage={tmp_path / 'runs'}", "name=unit", f"search.trials={COUNT}"])


@pytest.fixture
def points(plan: StudyPlan) -> list[dict[str, Any]]:
    """A finished study of four trials, each of which saw those before it; their points."""
    store, ledger, queue = StudyStore(plan.study.storage, "unit"), Ledger(plan.study.storage), Queue()
    store.save_study(plan.study.to_plain())
    rows, trials = make_trials(plan, store, queue)
    for number in range(COUNT):
        assert trials.launch() is not None
        cells = [
            CellState(key=f"{number}-{seed}", split="6-shot", seed=str(seed), parameters=10)
            for seed in (1, 2)
        ]
        for cell in cells:
            ledger.commit(cell.key, {"metrics": {"accuracy": 0.1 * number}}, {})
        item, mean = f"trial-{number}", 0.1 * number
        rows.take(CellsKnown(item_id=item, cells=cells))
        rows.take(EpochReached(item_id=item, epoch=1, mean=mean, values=[], reports={}))
        rows.take(Done(item_id=item, state="complete"))
        trials.ended(number, "complete", {1: 0.1 * number})
    return [queue.items[number].point for number in range(COUNT)]


def make_trials(
    plan: StudyPlan, store: StudyStore, queue: Queue, shown: list[Shown] | None = None
) -> tuple[Rows, Trials]:
    show = ([] if shown is None else shown).append
    rows = Rows(plan, queue, NoTracker(), show, Invocation(fence=1))
    proposals = Proposals(plan.space.suggest, first=plan.first)
    return rows, Trials(rows, proposals, store, slots=lambda: 2)


def torn(data: bytes, other: bytes) -> bytes:
    return data[: len(data) // 2]


def garbage(data: bytes, other: bytes) -> bytes:
    return b"\x00" * len(data)


def flipped(data: bytes, other: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def of_another_number(data: bytes, other: bytes) -> bytes:
    return other


def of_another_study(data: bytes, other: bytes) -> bytes:
    return encode({**decode(data), "study_id": "0123456789abcdef"})


def of_a_newer_format(data: bytes, other: bytes) -> bytes:
    return encode(decode(data), record_format=NEWEST + 1)


def of_another_kind(data: bytes, other: bytes) -> bytes:
    return encode({"rows": {}})


def with_a_field_that_is_none_of_its_kind(data: bytes, other: bytes) -> bytes:
    return encode({**decode(data), "cells": [1]})


DAMAGES: dict[Callable[[bytes, bytes], bytes], str] = {
    torn: "checksum",
    garbage: "checksum",
    flipped: "checksum",
    of_another_number: "record of trial 3",
    of_another_study: "another study",
    of_a_newer_format: "later version",
    of_another_kind: "no number",
    with_a_field_that_is_none_of_its_kind: "cells",
}


@pytest.fixture(params=list(DAMAGES), ids=lambda damage: damage.__name__)
def words(request: pytest.FixtureRequest, plan: StudyPlan, points: list[dict[str, Any]]) -> str:
    """Damages the record of a trial; what is said of it."""
    storage = StudyStore(plan.study.storage, "unit").storage
    paths = {number: f"studies/unit/trials/{number}.1.json" for number in (HURT, HURT + 1)}
    data, other = (storage.read(path) or b"" for path in paths.values())
    storage.write(paths[HURT], request.param(data, other))
    return DAMAGES[request.param]


def test_it_is_named_in_one_line_by_whatever_reads_the_study(
    plan: StudyPlan, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = StudyStore(plan.study.storage, "unit")
    assert [trial.number for trial in store.load_trials()] == [0, 1, 3]
    (line,) = store.damaged
    assert f"trials/{HURT}.1.json: " in line and words in line and "\n" not in line
    store.storage.delete("cells")  # of which these tests know no more than the keys
    for command in ("status", "results"):
        assert execute([command, "unit", "--storage", plan.study.storage]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert words in said and f"damaged: {HURT}" in said, command


def test_it_runs_again_as_it_was_proposed(plan: StudyPlan, points: list[dict[str, Any]], words: str) -> None:
    """So its cells have the same keys: those that are finished are found in the ledger."""
    store, queue = StudyStore(plan.study.storage, "unit"), Queue()
    todo = find_todo(plan, store, Ledger(plan.study.storage), reason="", retry_failed=False)
    assert (todo.again, todo.lost, todo.damaged, todo.new) == ({HURT}, (), (HURT,), 0)
    _, trials = make_trials(plan, store, queue)
    trials.recall(todo.records, todo.again, todo.lost)
    assert trials.launch() is not None and trials.launch() is None
    assert {number: item.point for number, item in queue.items.items()} == {HURT: points[HURT]}


def test_a_record_without_a_copy_of_its_proposal_is_proposed_again(
    plan: StudyPlan, points: list[dict[str, Any]], words: str
) -> None:
    store, queue = StudyStore(plan.study.storage, "unit"), Queue()
    store.storage.delete("studies/unit/proposals")
    todo = find_todo(plan, store, Ledger(plan.study.storage), reason="", retry_failed=False)
    assert (todo.again, todo.lost, todo.new) == (frozenset(), (HURT,), 0) and todo.anything
    _, trials = make_trials(plan, store, queue)
    trials.recall(todo.records, todo.again, todo.lost)
    assert trials.launch() is not None and trials.launch() is None
    assert {number: item.point for number, item in queue.items.items()} == {HURT: points[HURT]}


def test_a_record_that_is_gone_is_missed(plan: StudyPlan, points: list[dict[str, Any]]) -> None:
    store = StudyStore(plan.study.storage, "unit")
    store.storage.delete(f"studies/unit/trials/{HURT}.1.json")
    todo = find_todo(plan, store, Ledger(plan.study.storage), reason="", retry_failed=False)
    assert todo.again == {HURT} and [record.number for record in todo.records] == list(range(COUNT))


def test_a_file_of_no_trial_is_named_and_makes_no_trials(
    plan: StudyPlan, points: list[dict[str, Any]]
) -> None:
    store = StudyStore(plan.study.storage, "unit")
    store.storage.write("studies/unit/trials/1000000.json", b"")
    todo = find_todo(plan, store, Ledger(plan.study.storage), reason="", retry_failed=False)
    assert (todo.again, todo.lost, todo.damaged) == (frozenset(), (), ())
    assert len(store.damaged) == 1 and "1000000.json" in store.damaged[0]


def test_its_driver_moves_it_aside_and_says_so(
    plan: StudyPlan, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Todo] = []

    def refuse(session: Session, todo: Todo) -> Any:
        found.append(todo)
        raise KeyboardInterrupt

    monkeypatch.setattr(study_agenda, "StudyAgenda", refuse)
    shown: list[Shown] = []
    with pytest.raises(KeyboardInterrupt):
        run_study(plan, shown.append)
    assert found[0].again == {HURT}
    assert any(words in event.text for event in shown if isinstance(event, NoteShown))
    store = StudyStore(plan.study.storage, "unit")
    assert len(store.storage.names("quarantine")) == 1
    trials = store.load_trials()
    assert [trial.state for trial in trials] == ["complete", "complete", "running", "complete"]
    assert store.damaged == []


@pytest.mark.parametrize("folder", ["rows", "baselines", "invocations", "looks", "spending"])
def test_no_other_record_of_a_study_is_an_obstacle_where_it_is_not_what_it_should_be(
    tmp_path: Path, folder: str
) -> None:
    store = StudyStore(tmp_path, "unit")
    reads = SimpleNamespace(
        rows=store.load_rows,
        baselines=store.load_baselines,
        invocations=store.load_invocations,
        looks=store.load_test_evaluations,
        spending=store.load_spending,
    )
    contents = (b"", b"{}", encode({}), encode({"spent": {"seconds": "x"}}), encode({"key": 1, "row": 2}))
    for number, data in enumerate((*contents, encode(TrialRecord(number=1).to_dict()))):
        store.storage.write(f"studies/unit/{folder}/{number}a.json", data)
    assert not getattr(reads, folder)()
    assert len(store.damaged) == len(contents) + 1
