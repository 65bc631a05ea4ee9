"""Earlier records are read, keep their keys where their numbers are the same, and say why elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmap_model.cells import Cell, Point
from mmap_model.revisions import reasons_between, revisions_of
from orchestrator.cli.main import execute
from orchestrator.compare.plan import plan_comparison
from orchestrator.driver import Outcome, compare_agenda, run_study, study_agenda
from orchestrator.driver.compare import run_comparison
from orchestrator.driver.draws import check_draws
from orchestrator.execution.executor import Executor
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.study import StudyError, StudyPlan, load_plan
from orchestrator.work.events import CellsKnown, WorkEvent
from orchestrator.work.item import Control

Earlier = Callable[[str], StudyPlan]


def test_keys_of_earlier_cells_change_only_by_a_revision_with_a_reason(first_records: Path) -> None:
    ledger = Ledger(first_records / "runs")
    records = ledger.get_many(ledger.finished())
    assert len(records) == 30
    for key, record in records.items():
        cell = Cell.from_dict(record["cell"])
        stored = record.get("revisions", {})
        assert cell.key == key or reasons_between(stored, revisions_of(cell)), record["cell"]


def test_all_files_of_earlier_cells_are_whole(first_records: Path) -> None:
    ledger = Ledger(first_records / "runs")
    for key in ledger.finished():
        assert ledger.get(key, verify=True) is not None
    assert ledger.damaged == []


def test_trials_of_earlier_studies_are_read(first_records: Path) -> None:
    found = {}
    for name in ("drawn", "fixed", "paper"):
        store = StudyStore(first_records / "runs", name)
        found[name] = [trial.state for trial in store.load_trials()]
    assert found == {
        "drawn": ["complete", "complete"],
        "fixed": ["complete", "complete", "running"],
        "paper": ["complete"],
    }


@pytest.mark.parametrize("name", ["fixed", "paper"])
def test_an_earlier_study_whose_draws_stay_asks_for_the_cells_that_it_has(
    name: str, first_records: Path, earlier_plan: Earlier
) -> None:
    plan = earlier_plan(name)
    store, ledger = StudyStore(first_records / "runs", name), Ledger(first_records / "runs")
    check_draws(store, plan.study, plan.dataset)
    keys = [key for trial in store.load_trials() if trial.state == "complete" for key in trial.keys]
    assert keys
    for key, record in ledger.get_many(keys).items():
        cell = Cell.from_dict(record["cell"])
        again = plan.cell(cell.configuration, cell.split, cell.seeds, kind=cell.kind)
        assert (again.dataset, again.key) == (cell.dataset, key)


def test_an_earlier_study_whose_draws_change_is_refused_with_the_reason(
    first_records: Path, earlier_plan: Earlier
) -> None:
    plan = earlier_plan("drawn")
    store, ledger = StudyStore(first_records / "runs", "drawn"), Ledger(first_records / "runs")
    with pytest.raises(StudyError, match="now a class has one test block for all seeds and splits"):
        check_draws(store, plan.study, plan.dataset)
    trial = store.load_trials()[0]
    for key, record in ledger.get_many(trial.keys).items():
        cell = Cell.from_dict(record["cell"])
        assert plan.cell(cell.configuration, cell.split, cell.seeds).key != key


class Asked(Exception):
    """Ends a session before it starts, with what it was to do."""

    def __init__(self, todo: Any) -> None:
        self.todo = todo


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(session: object, *about: object, **_: object) -> None:
        raise Asked(about[-1])

    monkeypatch.setattr(study_agenda, "StudyAgenda", refuse)
    monkeypatch.setattr(compare_agenda, "CompareAgenda", refuse)


def test_an_earlier_study_is_continued_where_nothing_changed(
    first_records: Path, earlier_plan: Earlier, asked: None
) -> None:
    plan, store = earlier_plan("fixed"), StudyStore(first_records / "runs", "fixed")
    known = [trial.keys for trial in store.load_trials()]
    with pytest.raises(Asked) as caught:
        run_study(plan)
    todo = caught.value.todo
    assert (set(todo.again), todo.new) == ({2}, 1), "the killed trial and the one never begun"
    assert store.id and store.adopts
    recorded = store.load_inputs()
    assert recorded is not None and set(recorded["tasks"]) == {"ink", "paint"}
    assert [trial.keys for trial in StudyStore(first_records / "runs", "fixed").load_trials()] == known


def test_cells_that_workers_of_an_earlier_study_finished_are_taken_over(
    first_records: Path, earlier_plan: Earlier
) -> None:
    plan, store = earlier_plan("fixed"), StudyStore(first_records / "runs", "fixed")
    trial = store.load_trials()[2]
    assert trial.state == "running", "its driver was killed"
    item = plan.work_item(Point.from_dict(trial.point), item_id="trial-2", trial=2)
    events: list[WorkEvent] = []
    executor = Executor(item.dataset, item.backbone, item.storage, precision=item.precision)
    executor.run(item, events.append, lambda: Control(cancel=True))
    (told,) = (event for event in events if isinstance(event, CellsKnown))
    assert [cell.key for cell in told.cells] == trial.keys
    assert {(cell.status, cell.epoch) for cell in told.cells} == {("finished", 20)}
    assert events[-1].state == "complete"


def test_cells_of_an_earlier_study_are_scored_on_test_images(
    first_records: Path, earlier_plan: Earlier
) -> None:
    plan, store = earlier_plan("fixed"), StudyStore(first_records / "runs", "fixed")
    trial = store.load_trials()[0]
    item = plan.work_item(
        Point.from_dict(trial.point), item_id="confirm-0", purpose="confirm", cells=tuple(trial.keys)
    )
    events: list[WorkEvent] = []
    Executor(item.dataset, item.backbone, item.storage, precision=item.precision).run(item, events.append)
    assert (events[-1].state, events[-1].error) == ("complete", None)
    assert set(Ledger(first_records / "runs").tests(trial.keys)) == set(trial.keys)


def test_a_finished_earlier_study_asks_for_nothing(
    first_records: Path, earlier_plan: Earlier, asked: None
) -> None:
    assert run_study(earlier_plan("paper")) == Outcome()


def test_an_earlier_study_is_not_continued_on_other_images(
    first_records: Path, earlier_plan: Earlier, asked: None
) -> None:
    earlier_plan("fixed")
    (first_records / "made" / "images" / "ink" / "bell" / "00.bmp").write_bytes(b"other")
    plan = load_plan(
        str(first_records / "fixed.yaml"),
        [
            f"dataset.root={first_records / 'made' / 'images'}",
            f"dataset.lists={first_records / 'made' / 'lists'}",
            f"storage={first_records / 'runs'}",
        ],
    )
    with pytest.raises(StudyError, match="come from other images than there are now: trial 0, trial 1"):
        run_study(plan)
    assert StudyStore(first_records / "runs", "fixed").id == "", "nothing was written"


def test_trials_of_an_earlier_study_are_not_ranked_with_new_ones_whose_draws_differ(
    first_records: Path, earlier_plan: Earlier, asked: None
) -> None:
    plan = earlier_plan("drawn")
    more = dataclasses.replace(plan, trials=3)
    with pytest.raises(StudyError, match="one test block for all seeds and splits") as raised:
        run_study(more)
    assert "trial 0 of study 'drawn'" in str(raised.value) and "name=drawn-2" in str(raised.value)


def test_an_earlier_cell_whose_draws_differ_is_not_trained_again_to_compare(
    first_records: Path, earlier_plan: Earlier, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = earlier_plan("drawn")
    key = StudyStore(first_records / "runs", "drawn").load_trials()[0].keys[0]
    overrides = [f"dataset.root={plan.study.dataset.root}", f"storage={first_records / 'runs'}"]
    assert execute(["run", str(first_records / "drawn.yaml"), *overrides, "--cell", key]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert f"cell {key[:12]} of study 'drawn' has numbers that this version" in said
    assert "one test block for all seeds" in said


def test_columns_of_an_earlier_comparison_are_not_tabled_with_new_ones_whose_draws_differ(
    first_records: Path, earlier_plan: Earlier, asked: None
) -> None:
    earlier_plan("drawn")
    overrides = [f"dataset.root={first_records / 'made' / 'images'}", f"storage={first_records / 'runs'}"]
    plan = plan_comparison(str(first_records / "compare.yaml"), overrides, methods=["coop_mt", "vpt_mt"])
    with pytest.raises(StudyError, match="column coop_mt at 2-shot of study 'compare-columns'") as raised:
        run_comparison(plan)
    assert "one test block for all seeds" in str(raised.value) and "name=columns-2" in str(raised.value)
