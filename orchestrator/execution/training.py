"""Cells of one item in training: what is unfinished, all splits in step, committed as they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmap_model.cells import Cell
from mmap_model.errors import InputError
from orchestrator.execution.batch import Batch, History, Interruption, Unreadable
from orchestrator.execution.engine import Engine
from orchestrator.execution.epoch_reporter import EpochReporter
from orchestrator.execution.item_cells import ItemCells, Reports
from orchestrator.execution.recorded import Record, RecordedCells
from orchestrator.execution.resuming import companions, halves, starts_of
from orchestrator.ledger import InFlight, Ledger, StudyStore
from orchestrator.work.doing import Doing
from orchestrator.work.events import CellFailure, CellFinished, CellsKnown, Emit, WorkEvent
from orchestrator.work.failures import Failure
from orchestrator.work.item import Control, WorkItem


class Training:
    """Trains cells of an item.

    Args:
        item: what is to be done.
        engine, ledger, store: what trains and what records.
        cells: of the item.
        recorded: what is known of them.
        about: study, trial, invocation: kept with states and records.
        control: asked before every step what is wanted of the item.

    Attributes:
        failures: kind and error of cells that failed, now or before, by key.
        seconds: by what they went into.
    """

    def __init__(
        self,
        item: WorkItem,
        engine: Engine,
        ledger: Ledger,
        store: StudyStore,
        *,
        cells: ItemCells,
        recorded: RecordedCells,
        about: dict[str, Any],
        control: Callable[[], Control],
    ) -> None:
        self._item, self._engine, self._ledger, self._store = item, engine, ledger, store
        self._cells, self._recorded, self._about, self._control = cells, recorded, about, control
        self.failures: dict[str, tuple[Failure, str]] = {}
        self.seconds = {"probe": 0.0, "epochs": 0.0, "save": 0.0, "commit": 0.0, "wait": 0.0, "test": 0.0}
        self._committed: set[str] = set()
        self._training: Batch | None = None

    def train(self, families: Sequence[Sequence[Cell]], emit: Emit, grouping: Reports | None = None) -> None:
        """Train what is unfinished, all splits in step, and commit it.

        Args:
            families: cells, by split.
            emit: takes what happens.
            grouping: how partitions were found.

        Raises:
            Interruption: the item was cancelled, or cells of it.
            CellFailed: a recorded cell cannot be used here.
        """
        grouping = grouping or {}
        cells = [cell for family in families for cell in family]
        history: History = {cell.key: [] for cell in cells}
        finished: dict[str, Record] = {}
        failures: dict[str, Record] = {}
        for cell in cells:
            record = self._recorded.finished(cell.key)
            if record is not None and not (self._item.retrain and record.get("dropped")):
                finished[cell.key] = record
                history[cell.key] = self._ledger.history(cell.key)
            elif (failure := self._recorded.failure(cell.key)) is not None:
                failures[cell.key] = failure
                if not self._item.retry_failed:
                    self.failures[cell.key] = (failure["kind"], failure["error"])
        self._recorded.check_company(finished)
        batches = [
            batch
            for family in families
            if (todo := [c for c in family if c.key not in finished and c.key not in self.failures])
            for batch in self._batches(todo, family, finished, failures, grouping)
        ]
        epochs = {key: batch.epoch for batch in batches for key in batch.keys}
        described = [
            self._cells.describe(
                cell, finished=finished, failed=self.failures, epochs=epochs, grouping=grouping
            )
            for cell in cells
        ]
        emit(CellsKnown(item_id=self._item.item_id, cells=described))
        for key in history:
            if key in self.failures:
                self._tell_failure(key, emit)
        progress = EpochReporter(self._item.item_id, cells, history, emit)
        for batch in batches:
            progress.update(batch)
        progress.report()
        for epoch in range(1, max((c.configuration.recipe.epochs for c in cells), default=0) + 1):
            batches = [part for batch in batches for part in self._advance(batch, epoch, emit, progress)]
            progress.report()
        unfinished = {key for key in history if key not in self.failures} - finished.keys() - self._committed
        if unfinished:
            raise Interruption

    def check(self) -> None:
        """Raise Interruption if the item was cancelled."""
        if self._control().cancel:
            raise Interruption

    @property
    def doing(self) -> Doing | None:
        """What happens at this moment to the cells in training; None if there are none. For other threads."""
        batch = self._training
        return None if batch is None else batch.doing

    def give_up(self, error: str, traceback: str) -> list[WorkEvent]:
        """Record the cells that are trained now as failed because they hang; what is to be told of it."""
        told: list[WorkEvent] = []
        if self._training is not None:
            for key in self._training.active:
                beside = {"epoch": self._training.epoch, "fused_with": self._training.others(key)}
                about = {**beside, **self._about}
                self._ledger.record_failure(key, error, kind="timeout", traceback=traceback, **about)
                told.append(CellFailure(item_id=self._item.item_id, key=key, error=error, failure="timeout"))
        return told

    def _advance(self, batch: Batch, epoch: int, emit: Emit, progress: EpochReporter) -> Iterable[Batch]:
        """Bring one batch to ``epoch`` and commit it if that was its last; what remains to be trained."""
        if not batch.done and batch.epoch < epoch:
            started = time.perf_counter()
            self._training = batch
            try:
                self._obey(batch)
                batch.advance(lambda: self._should_stop(batch))
            except Interruption:
                if self._control().cancel:
                    raise
                return []  # all its cells were cancelled, but not the item
            except Unreadable:
                return self._halve(batch, epoch, emit, progress)  # alone, only the cell concerned fails
            except MemoryError as full:
                if self._may_halve(batch):
                    return self._halve(batch, epoch, emit, progress)
                batch.fail(full)
            finally:
                self.seconds["epochs"] += time.perf_counter() - started
            progress.update(batch)
        if batch.done:
            started = time.perf_counter()
            try:
                records = batch.finish()
            except MemoryError as full:
                if self._may_halve(batch):
                    return self._halve(batch, epoch, emit, progress)
                batch.fail(full)
                records = {}
            for key, record in records.items():
                self._committed.add(key)
                told = {n: record[n] for n in ("metrics", "parameters", "seconds")}
                at = batch.history[key][-1]["at"]
                emit(CellFinished(item_id=self._item.item_id, key=key, at=at, **told))
            self.seconds["commit"] += time.perf_counter() - started
            self.seconds["save"] += batch.save_seconds
        for key, failure in batch.failed.items():
            if key not in self.failures:
                self.failures[key] = failure
                self._tell_failure(key, emit)
        return [] if batch.done else [batch]

    def _tell_failure(self, key: str, emit: Emit) -> None:
        kind, error = self.failures[key]
        emit(CellFailure(item_id=self._item.item_id, key=key, error=error, failure=kind))

    def _may_halve(self, batch: Batch) -> bool:
        return self._item.fuse == "auto" and batch.width > 1

    def _halve(self, batch: Batch, epoch: int, emit: Emit, progress: EpochReporter) -> list[Batch]:
        """Start a batch that could not be trained as one again, as two, and bring them to ``epoch``."""
        parts = [part for half in halves(batch.cells) for part in self._started(half, [], batch.grouping)]
        for earlier in range(1, epoch + 1):
            parts = [p for part in parts for p in self._advance(part, earlier, emit, progress)]
        return parts

    def _batches(
        self,
        todo: Sequence[Cell],
        family: Sequence[Cell],
        finished: Mapping[str, Record],
        failures: Mapping[str, Record],
        grouping: Reports,
    ) -> Iterator[Batch]:
        """Batches of the cells of one split that are to be trained; ``family`` are all of its cells."""
        for group in self._groups(family):
            wanted = [cell for cell in group if cell in todo]
            keys = [cell.key for cell in group]
            told = [companions(k, of[k], keys) for of in (finished, failures) for k in keys if k in of]
            without = [[k for k in keys if k not in of] for of in (finished, failures)]
            yield from self._started(wanted, [keys, *without, *told], grouping)

    def _started(
        self, wanted: Sequence[Cell], batches: Sequence[Sequence[str]], grouping: Reports
    ) -> Iterator[Batch]:
        """Batches of ``wanted`` cells that go on where they, alone or in ``batches``, were interrupted."""
        for start in starts_of(wanted, batches, self._ledger, self._usable) if wanted else ():
            yield Batch(
                start,
                self._engine,
                self._ledger,
                about=self._about,
                grouping=grouping,
                is_valid=lambda: self._store.fence_valid(self._item.fence),
            )

    def _usable(self, state: InFlight, built: Sequence[Cell]) -> bool:
        """Not if it is of other images, or of these cells as one batch though their epochs differ in length,
        as earlier versions trained them."""
        return self._recorded.usable(state) and (len(built) == 1 or len(self._groups(built)) == 1)

    def _groups(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        """Cells that train as one batch each."""
        if self._item.fuse == "off" or not self._engine.fuses(self._cells.point):
            return [[cell] for cell in cells]
        try:
            return self._engine.fusable(cells)
        except (InputError, OSError):
            return [cells]  # the data cannot be read: training meets the same error and records it

    def _obey(self, batch: Batch) -> None:
        wish = self._control()
        if wish.cancel:
            raise Interruption
        batch.cancel(wish.cancelled_keys)

    def _should_stop(self, batch: Batch) -> bool:
        wish = self._control()
        alive = batch.active
        return wish.cancel or (bool(alive) and wish.cancelled_keys.issuperset(alive))
