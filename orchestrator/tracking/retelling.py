"""A study's rows from its records alone: what a live run told MLflow, to be told again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.ledger import CorruptError, Ledger, StudyStore, TrialRecord, batch_key
from orchestrator.ledger.told import ToldStore
from orchestrator.tracking.narration import is_its_own
from orchestrator.tracking.operations import Trial, trial_run
from orchestrator.tracking.parameters import COLUMN
from orchestrator.tracking.row import RowEnd, TrackedRow, row_name

History = list[dict[str, Any]]

MOST_SUBSETS = 8
"""Seeds up to which every subset is tried as the batch of a saved state; above, runs of neighbours."""

Label = Callable[[TrialRecord], str | None]
"""The name in tracking of a comparison's row that was recorded without one; None if it cannot be told."""


class Retelling:
    """Everything that the records of a study say about its rows.

    Args:
        store, ledger: the records.
        label: names rows of a comparison recorded by an older version.
        running: a driver is at work elsewhere: rows that are running run.

    Attributes:
        running: as given.
        missing: what the records do not say, one line each; a row is told as far as they do.
    """

    def __init__(
        self,
        store: StudyStore,
        ledger: Ledger,
        *,
        label: Label = lambda record: None,
        running: bool = False,
    ) -> None:
        self._store, self._ledger, self._label, self.running = store, ledger, label, running
        self._told = ToldStore(store.storage, store.name)
        self.missing: list[str] = []

    def rows(self, runs: Collection[str] | None = None) -> Iterator[TrackedRow]:
        """Trials by number, reference rows, rows of a comparison; only those of ``runs`` if given."""
        self.missing = []
        kept, scored, done = self._told.rows(), self._told.scored() or {}, set()
        evaluations = self._store.load_test_evaluations() if self._store.adopts else None
        evaluated = None if evaluations is None else {key for one in evaluations for key in one["keys"]}
        for trial, record, tags in self._recorded():
            name = TrackedRow(trial=trial, started_at="").name
            done.add(name)
            if runs is None or trial_run(trial) in runs:
                try:
                    row = self._row(trial, record, tags, kept.get(name))
                except (KeyError, TypeError, ValueError, IndexError) as error:
                    self.missing.append(f"{name}: its record is not what it should be: {error!r}")
                else:
                    yield self._scored(row, scored, evaluated)
        for name, (_, data) in kept.items():
            row = TrackedRow.from_dict(data)
            if name not in done and (runs is None or trial_run(row.trial) in runs):
                yield self._scored(row, scored, evaluated)
        self.missing += [*self._store.damaged, *self._told.damaged]

    def _recorded(self) -> Iterator[tuple[Trial, TrialRecord, dict[str, Any]]]:
        for record in self._store.load_trials():
            yield record.number, record, {}
        for name, data in self._store.load_baselines().items():
            yield row_name(name, data["point"]), TrialRecord.from_dict({"number": -1, **data}), {}
        for key, record in self._store.load_rows().items():
            about = record.attributes
            column, split = about.get("column"), about.get("split")
            tracked_as = about.get("tracked_as") or self._label(record)
            if tracked_as is None:
                self.missing.append(f"row {key} of column {column}: its name in MLflow")
                tracked_as = f"{column} · {split} · {key}"
            yield tracked_as, record, {"kind": COLUMN, "column": column, "split": split}

    def _row(
        self,
        trial: Trial,
        record: TrialRecord,
        tags: Mapping[str, Any],
        kept: tuple[int, dict[str, Any]] | None,
    ) -> TrackedRow:
        state = _state(record)
        if kept is not None and state != "complete" and not (self.running and record.state == "running"):
            row = TrackedRow.from_dict(kept[1])
            end = row.end
            if end is not None and (end.state, end.attempts) == (state, record.attempts):
                return row
        begun = record.started_at or record.created_at
        row = TrackedRow(trial=trial, point=record.point, started_at=begun, tags=dict(tags))
        histories = self._add_cells(row, record)
        self._add_epochs(row, record, histories)
        if state != "interrupted" or not self.running:
            latest = max((h[-1]["at"] for h in histories.values() if h), default=begun)
            row.end = RowEnd(
                state=state,
                at=record.ended_at or latest,
                device_seconds=record.device_seconds,
                attempts=record.attempts,
                parameters=record.parameters,
                share=record.share,
                error=record.error,
            )
        return row

    def _add_cells(self, row: TrackedRow, record: TrialRecord) -> dict[str, History]:
        """Cells with what became of them; their histories as far as known."""
        complete = record.state == "complete"
        finished = self._ledger.get_many(record.keys)
        failures = {} if complete else self._ledger.failures(k for k in record.keys if k not in finished)
        histories: dict[str, History] = {}
        for cell in record.cells:
            key = cell["key"]
            told = {**cell, "status": "finished" if complete else "new", "origin": None}
            row.cells.append(told)
            if key in finished:
                found = finished[key]
                origin = {name: found.get(name) for name in ("study", "trial")}
                about = {name: (found.get("cell") or {}).get(name) for name in ("dataset", "backbone")}
                told |= {"status": "finished", "origin": origin, "at": found["finished_at"], **about}
                histories[key] = self._history(row, key)
                if is_its_own(self._store.name, row, origin):
                    at = histories[key][-1]["at"] if histories[key] else found["finished_at"]
                    row.finished[key] = {"seconds": found.get("seconds"), "at": at}
            elif key in failures:
                told["status"] = "failed"
                row.failed[key] = {"error": failures[key]["error"], "at": failures[key]["failed_at"]}
            elif complete:
                self.missing.append(f"{row.name}: cell {key[:12]} can no longer be read")
        if len(finished) < len(record.keys):
            histories |= self._in_flight(record, [k for k in record.keys if k not in finished], row)
        return histories

    def _add_epochs(self, row: TrackedRow, record: TrialRecord, histories: Mapping[str, History]) -> None:
        """Epochs that all cells have reached, as they were told; of others the recorded accuracies."""
        by_key = {key: {report["epoch"]: report for report in history} for key, history in histories.items()}
        whole = bool(row.cells) and all(key in by_key for key in row.keys)
        shared = set.intersection(*(set(by_key[key]) for key in row.keys)) if whole else set()
        recorded = {epoch["epoch"]: epoch for epoch in record.epochs}
        if record.state in ("pruned", "failed"):
            shared &= recorded.keys()
        for epoch in sorted(shared):
            row.add_epoch(epoch, {key: by_key[key][epoch] for key in row.keys})
        lacking = sorted(recorded.keys() - shared)
        if row.cells and lacking:
            which = ", ".join(map(str, lacking))
            self.missing.append(f"{row.name}: epoch {which} but for the validation accuracies")
            at = record.ended_at or record.started_at or record.created_at
            for epoch in lacking:
                values = zip(row.keys, recorded[epoch]["values"], strict=True)
                row.add_epoch(epoch, {key: {"epoch": epoch, "at": at, "accuracy": v} for key, v in values})

    def _history(self, row: TrackedRow, key: str) -> History:
        try:
            return self._ledger.history(key)
        except CorruptError as error:
            self.missing.append(f"{row.name}: the epochs of cell {key[:12]}: {error}")
            return []

    def _in_flight(self, record: TrialRecord, keys: Sequence[str], row: TrackedRow) -> dict[str, History]:
        """Histories of cells that are not finished, from the saved states of the batches they trained in."""
        batches = set(self._ledger.inflight_batches())
        found: dict[str, History] = {}
        for split in dict.fromkeys(cell["split"] for cell in record.cells):
            family = [cell for cell in record.cells if cell["split"] == split]
            for part in _subsets([cell["key"] for cell in family]):
                if batch_key(part) not in batches or all(key in found for key in part):
                    continue
                state = self._ledger.inflight(part)
                if state is None:
                    continue
                for key in keys:
                    history = state.history.get(key, [])
                    if len(history) > len(found.get(key, [])):
                        found[key] = history
                about = {name: state.cells[0].get(name) for name in ("dataset", "backbone")}
                row.cells = [{**about, **cell} if cell["key"] in part else cell for cell in row.cells]
        return found

    def _scored(self, row: TrackedRow, scored: Mapping[str, Any], evaluated: set[str] | None) -> TrackedRow:
        """A complete row with its scores on the test images, if it was scored in this study."""
        by_record = evaluated is not None and row.keys and all(key in evaluated for key in row.keys)
        is_complete = row.end is not None and row.end.state == "complete"
        if is_complete and (row.name in scored or by_record):
            tests = self._ledger.tests(row.keys)
            if missing := [key for key in row.keys if key not in tests]:
                self.missing.append(f"{row.name}: the test score of cell {missing[0][:12]}")
            else:
                row.tests = tests
        return row


def _state(record: TrialRecord) -> str:
    """As a live run tells it."""
    if record.state == "pruned" and record.attributes.get("stopped_by") == "user":
        return "cancelled"
    return "interrupted" if record.state == "running" else record.state


def _subsets(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    """Batches that may have been trained of a family, the largest first; its order is kept."""
    if len(keys) <= MOST_SUBSETS:
        for size in range(len(keys), 0, -1):
            yield from itertools.combinations(keys, size)
        return
    for size in range(len(keys), 0, -1):
        for first in range(len(keys) - size + 1):
            yield keys[first : first + size]
