"""Scoring of finished cells on test images: files are read and mended first, then it is on record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmap_model.cells import Cell
from mmap_model.revisions import reasons_between, revisions_of
from orchestrator.commands import command
from orchestrator.execution.batch import Superseded
from orchestrator.execution.engine import Engine
from orchestrator.ledger import CorruptError, DroppedError, Ledger, StudyStore
from orchestrator.ledger.cells import WEIGHTS
from orchestrator.work.events import CellFailure, CellScored, Emit, Note
from orchestrator.work.failures import CellFailed, Failure
from orchestrator.work.item import WorkItem

Record = dict[str, Any]
GroupingRecords = dict[str, dict[str, Any]]


class Scoring:
    """Scores the cells of one item, each once.

    A cell whose files are broken or gone is trained again first. Training repeats its numbers, to rounding
    where it ran fused with others before; if its validation accuracy differs all the same, the user is told,
    and the new record counts, because its weights are the ones that are scored.

    Attributes:
        batches: of test images that were begun.

    Args:
        item: asks for it.
        engine, ledger, store: what scores and what records.
        about: study, trial, invocation: kept with the scores.
        train: trains cells and commits them; takes how their partitions were found, by key.
        resolve: the cells of the item, for those of which no record is left, with the same.
        check: raises to stop.
        emit: takes events.
    """

    def __init__(
        self,
        item: WorkItem,
        engine: Engine,
        ledger: Ledger,
        store: StudyStore,
        *,
        about: Mapping[str, Any],
        train: Callable[[Sequence[Cell], GroupingRecords], None],
        resolve: Callable[[], tuple[list[list[Cell]], GroupingRecords]],
        check: Callable[[], None],
        emit: Emit,
    ) -> None:
        self._item, self._engine, self._ledger, self._store = item, engine, ledger, store
        self._about, self._train, self._resolve = about, train, resolve
        self._check, self._emit = check, emit
        self._recorded = False
        self.batches = 0

    def run(self, keys: Sequence[str]) -> None:
        """Mend the cells that are broken, score those that are not scored yet; tell the scores of all.

        Raises:
            CellFailed: a cell cannot be scored. No evaluation is recorded of test images that were not read.
            Superseded: another driver took over.
        """
        whole = self._ready(keys, self._ledger.tests(keys))
        scored = self._ledger.tests(keys)  # without those that came back with other weights
        for key, test in scored.items():
            self._tell_score(key, test["metrics"])
        todo = [key for key in keys if key not in scored]
        records = {key: whole[key] for key in todo}
        failed: dict[str, str] = {}
        kind: Failure = "raised"
        for family in _families(records):
            files = {key: self._read(key, records) for key in family}
            cells = [self._cell(records[key]) for key in family]
            scores = self._engine.score_test(cells, files, lambda: self._evaluated(todo))
            self._evaluated(todo)
            for key, score in scores.items():
                if error := score.get("error"):
                    failed[key], kind = error, "nan"
                    self._emit(CellFailure(item_id=self._item.item_id, key=key, error=error, failure="nan"))
                    continue
                weights = records[key]["files"].get(WEIGHTS, {}).get("sha256")
                document = {"metrics": score["metrics"], "weights": weights, **self._about}
                if self._ledger.commit_test(key, document, score["files"]):
                    self._tell_score(key, score["metrics"])
                else:
                    failed[key] = f"cell {key[:12]} was trained again while it was scored"
        if failed:
            raise CellFailed(next(iter(failed.values())), kind)

    def _read(self, key: str, records: dict[str, Record]) -> dict[str, bytes]:
        """Files of a cell, trained again if another study has dropped them since they were verified."""
        try:
            return self._ledger.read_files(key, records[key])
        except CorruptError:
            records |= self._ready([key], ())
            return self._ledger.read_files(key, records[key])

    def _evaluated(self, keys: Sequence[str]) -> None:
        """Called before every batch of test images: the first one is recorded as an evaluation."""
        self._check()
        self.batches += 1
        if not self._recorded:
            if not self._store.fence_valid(self._item.fence):
                raise Superseded
            reason = self._item.reason or self._item.purpose
            self._store.record_test_evaluation(
                reason=reason, keys=list(keys), invocation=self._item.invocation
            )
            self._recorded = True

    def _ready(self, keys: Sequence[str], scored: Collection[str]) -> dict[str, Record]:
        """Records of cells with all their files; those that lack one are trained again.

        Cells that are ``scored`` already may have dropped their weights, but what is there must be whole.
        """
        before = self._ledger.get_many(keys)
        records = self._whole(keys, scored)
        broken = [key for key in keys if key not in records]
        self._check_revisions({k: r for k, r in before.items() if k not in scored or k in broken})
        if broken:
            self._check_dropped(broken, before)
            named = ", ".join(key[:12] for key in broken)
            self._note(f"Files are damaged or gone, so the cells are trained again: {named}")
            self._train_again(broken, before)
            records |= self._whole(broken, ())
            if lost := [key for key in broken if key not in records]:
                where = self._ledger.locate(lost[0])
                raise CellFailed(f"the files in {where} cannot be read though they were just written")
        for key in broken:
            if key in before:
                self._compare(key, before[key], records[key])
        return records

    def _check_revisions(self, records: Mapping[str, Record]) -> None:
        for key, record in records.items():
            if reasons := reasons_between(record.get("revisions", {}), revisions_of(self._cell(record))):
                raise CellFailed(f"cell {key[:12]} is of an earlier version: {'; '.join(reasons)}")

    def _cell(self, record: Record) -> Cell:
        return replace(Cell.from_dict(record["cell"]), **self._item.known_from_dataset)

    def _whole(self, keys: Iterable[str], scored: Collection[str]) -> dict[str, Record]:
        """Records of those of ``keys`` that have all their files, weights included unless they are scored."""
        found = {key: self._ledger.get(key, verify=True) for key in keys}
        whole = {key: record for key, record in found.items() if record is not None}
        return {k: r for k, r in whole.items() if k in scored or WEIGHTS not in r.get("dropped", {})}

    def _check_dropped(self, keys: Iterable[str], before: Mapping[str, Record]) -> None:
        """Weights that were dropped come back only where that is wanted: they take as long as before."""
        for key in keys if not self._item.retrain else ():
            if WEIGHTS in before.get(key, {}).get("dropped", {}):
                at = before[key]["dropped"][WEIGHTS]["dropped_at"]
                trial = () if self._item.trial is None else ("--trial", str(self._item.trial))
                again = command("confirm", self._item.study, *trial, "--retrain", storage=self._item.storage)
                raise CellFailed(f"{DroppedError(key, WEIGHTS, at)}; train it again with: {again}")

    def _train_again(self, keys: Sequence[str], before: Mapping[str, Record]) -> None:
        cells: dict[str, Cell] = {}
        grouping: GroupingRecords = {}
        if any(key not in before for key in keys):
            families, grouping = self._resolve()
            cells = {cell.key: cell for family in families for cell in family}
        for key in keys:
            if key in before:
                cells[key] = self._cell(before[key])
                if found := before[key].get("grouping"):
                    grouping[key] = found
            if key not in cells:
                raise CellFailed(f"cell {key} is not finished, so it cannot be scored on test images")
            if cells[key].key != key:
                raise CellFailed(f"cell {key[:12]} was trained by another version of its method or recipe")
        try:
            self._train([cells[key] for key in keys], grouping)
        except CellFailed:
            for key in keys:  # they were finished once: the trial is no failure, and the next try starts anew
                self._ledger.clear_failure(key)
            raise

    def _compare(self, key: str, before: Record, now: Record) -> None:
        old, new = (record["metrics"].get("accuracy") for record in (before, now))
        if old != new:
            devices = [record.get("provenance", {}).get("device") for record in (before, now)]
            where = "" if devices[0] == devices[1] else f" ({devices[0]} then, {devices[1]} now)"
            self._note(
                f"Cell {key[:12]} was trained again and reaches {_percent(new)} on validation images, "
                f"where {_percent(old)} was recorded{where}. The new numbers count: its test score is of the "
                "new weights"
            )

    def _note(self, text: str) -> None:
        self._emit(Note(item_id=self._item.item_id, text=text))

    def _tell_score(self, key: str, metrics: Mapping[str, Any]) -> None:
        self._emit(CellScored(item_id=self._item.item_id, key=key, metrics=metrics))


def _families(records: Mapping[str, Record]) -> list[list[str]]:
    """Keys of cells that differ in seed and partition only."""
    families: dict[str, list[str]] = {}
    for key, record in records.items():
        cell = record["cell"]
        configuration = {**cell["configuration"], "partition": None}
        families.setdefault(repr((configuration, cell["split"], cell["precision"])), []).append(key)
    return list(families.values())


def _percent(value: float | None) -> str:
    return "no accuracy" if value is None else f"{100 * value:.2f} %"
