"""Earlier records are read, keep their keys where their numbers are the same, and say why elsewhere."""

from __future__ import annotations

from pathlib import Path

from mmap_model.configuration import Cell
from mmap_model.revisions import reasons_between, revisions_of
from orchestrator.ledger import Ledger, StudyStore


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
