"""Earlier records are read, keep their keys where their numbers are the same, and say why elsewhere."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from mmap_model.configuration import Cell
from mmap_model.revisions import reasons_between, revisions_of
from orchestrator.draws import check_draws
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.study import StudyError, StudyPlan, load_plan


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


def plan_of(name: str, first_records: Path) -> StudyPlan:
    """The plan of an earlier study, on the images that it was about."""
    made = first_records / "made"
    script = runpy.run_path(str(Path(__file__).parents[2] / "records" / "images.py"))
    script["make_images"](made / "images")
    script["make_lists"](made / "lists")
    lists = [f"dataset.lists={made / 'lists'}"] if name == "fixed" else []
    overrides = [f"dataset.root={made / 'images'}", f"storage={first_records / 'runs'}", *lists]
    return load_plan(str(first_records / f"{name}.yaml"), overrides)


@pytest.mark.parametrize("name", ["fixed", "paper"])
def test_an_earlier_study_whose_draws_stay_asks_for_the_cells_that_it_has(
    name: str, first_records: Path
) -> None:
    plan = plan_of(name, first_records)
    store, ledger = StudyStore(first_records / "runs", name), Ledger(first_records / "runs")
    check_draws(store, plan.study, plan.dataset)
    keys = [key for trial in store.load_trials() if trial.state == "complete" for key in trial.keys]
    assert keys
    for key, record in ledger.get_many(keys).items():
        cell = Cell.from_dict(record["cell"])
        again = plan.cell(cell.configuration, cell.split, cell.seeds, kind=cell.kind)
        assert (again.dataset, again.key) == (cell.dataset, key)


def test_an_earlier_study_whose_draws_change_is_refused_with_the_reason(first_records: Path) -> None:
    plan = plan_of("drawn", first_records)
    store, ledger = StudyStore(first_records / "runs", "drawn"), Ledger(first_records / "runs")
    with pytest.raises(StudyError, match="now a class has one test block for all seeds and splits"):
        check_draws(store, plan.study, plan.dataset)
    trial = store.load_trials()[0]
    for key, record in ledger.get_many(trial.keys).items():
        cell = Cell.from_dict(record["cell"])
        assert plan.cell(cell.configuration, cell.split, cell.seeds).key != key
