"""One work item on its way: probes first, then its cells, then the test images; how it ended is told last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from mmap_model.cells import Cell
from mmap_model.configuration import Split
from orchestrator.execution.batch import Interruption, Superseded
from orchestrator.execution.engine import Engine
from orchestrator.execution.item_cells import ORIGIN, ItemCells, Reports
from orchestrator.execution.recorded import RecordedCells
from orchestrator.execution.scoring import Scoring
from orchestrator.execution.training import Training
from orchestrator.ledger import Ledger, StudyStore, batch_key
from orchestrator.ledger.patient import StorageAway
from orchestrator.work.doing import Doing
from orchestrator.work.events import (
    CellFinished,
    CellsKnown,
    Done,
    Emit,
    EndState,
    Note,
    ProbeFinished,
    ProbesKnown,
    Waiting,
    WorkEvent,
)
from orchestrator.work.failures import CellFailed, Failure, failure_of, is_device_failure
from orchestrator.work.item import Control, WorkItem

logger = logging.getLogger(__name__)

GRAM = "gram.safetensors"
POLL = 0.2
"""Seconds between looks at a cell that another worker computes."""

WAIT_NEWS_S = 60.0
"""Seconds between two words about a storage that does not answer."""


class ItemRun:
    """One item on its way.

    Args:
        engine, ledger: what trains and what records.
        item: what is to be done.
        emit: takes what happens.
        control: asked before every step what is wanted of the item.

    Attributes:
        over: the last event was told.
    """

    def __init__(
        self, engine: Engine, ledger: Ledger, item: WorkItem, emit: Emit, control: Callable[[], Control]
    ) -> None:
        self._engine, self._ledger, self._item = engine, ledger, item
        self._id, self._emit = item.item_id, emit
        self._store = StudyStore(ledger.storage, item.study)
        self._cells, self._recorded = ItemCells(item, engine), RecordedCells(ledger, item)
        self._about: dict[str, Any] = {name: getattr(item, name) for name in ORIGIN}
        if self._recorded.pixels:
            self._about["pixels"] = self._recorded.pixels
        self._training = Training(
            item,
            engine,
            ledger,
            self._store,
            cells=self._cells,
            recorded=self._recorded,
            about=self._about,
            control=control,
        )
        self._seconds = self._training.seconds
        self._began = time.perf_counter()
        self._waited = -WAIT_NEWS_S
        self._waits_for_probe = self.over = False
        self._scoring: Scoring | None = None

    def run(self) -> None:
        """Do the item. The last thing told is ``Done``."""
        state: EndState = "complete"
        error: str | None = None
        failure: Failure | Literal["storage"] | None = None
        known = len(self._ledger.damaged)
        try:
            self._work()
            if self._training.failures:
                state, (failure, error) = "failed", next(iter(self._training.failures.values()))
        except Interruption:
            state = "cancelled"
        except Superseded:
            state, error = "cancelled", "another driver took the study over"
        except CellFailed as failed:
            state, error, failure = "failed", str(failed), failed.kind
        except StorageAway as away:
            state, error, failure = "lost", str(away.strerror), "storage"
        except Exception as raised:
            if is_device_failure(raised):
                raise  # this process can do nothing more: its slot starts another, which takes the item up
            logger.exception("Work item %s failed outside of its cells", self._id)
            state, error, failure = "failed", f"{type(raised).__name__}: {raised}", failure_of(raised)
        for line in self._ledger.damaged[known:]:
            self._emit(Note(item_id=self._id, text=f"Damaged record: {line}"))
        self._seconds["total"] = time.perf_counter() - self._began
        seconds = {name: round(value, 4) for name, value in self._seconds.items()}
        self._emit(Done(item_id=self._id, state=state, error=error, failure=failure, seconds=seconds))
        self.over = True

    def give_up(self, error: str, traceback: str) -> list[WorkEvent]:
        """The thread that runs this job hangs. Record the cells it is at as failed; the events to tell.

        Called from another thread; the process ends afterwards.
        """
        seconds = {"total": round(time.perf_counter() - self._began, 4)}
        end = Done(item_id=self._id, state="failed", error=error, failure="timeout", seconds=seconds)
        return [*self._training.give_up(error, traceback), end]

    @property
    def doing(self) -> Doing:
        """What it does at this moment; for other threads."""
        if self._waits_for_probe:
            return Doing(stage="waiting")
        if (scoring := self._scoring) is not None and scoring.batches:
            return Doing(stage="test", step=scoring.batches, cells=len(self._item.cells))
        return self._training.doing or Doing(stage="preparing")

    def waits(self, reason: str) -> None:
        """Tell that the storage does not answer. Once a minute is enough."""
        now = time.perf_counter()
        if now - self._waited > WAIT_NEWS_S:
            self._waited = now
            self._emit(Waiting(item_id=self._id, text=reason))

    def _work(self) -> None:
        if self._item.purpose == "confirm":
            self._score(self._item.cells)
            return
        if self._item.purpose == "probe":
            for split in self._cells.splits:
                self._training.train([self._cells.probes(split)], self._emit)
            return
        cells, grouping = self._resolve()
        self._training.train(cells, self._emit, grouping)
        if self._item.test and not self._training.failures:
            self._score([cell.key for family in cells for cell in family])

    def _resolve(self) -> tuple[list[list[Cell]], Reports]:
        """The cells, one list per split, and by key how the partition was found."""
        families, grouping = [], Reports()
        for split in self._cells.splits:
            cells, found = self._cells.of_split(split, self._grams(split))
            families.append(cells)
            grouping |= found
        return families, grouping

    def _grams(self, split: Split) -> list[bytes | None]:
        """What the probes of one split measured, per seed; computed here or waited for where missing."""
        if not self._cells.need_probes:
            return [None] * len(self._cells.seeds)
        started, before = time.perf_counter(), dict(self._seconds)
        cells = self._cells.probes(split)
        keys = [cell.key for cell in cells]
        claim = self._ledger.claim(batch_key(keys), invocation=self._item.invocation)
        while any(self._recorded.finished(key) is None for key in keys):
            if claim.try_acquire() is None:  # the same claim each time: it watches who else holds it
                self._waits_for_probe = False
                with claim:
                    self._training.train([cells], self._emit_probe)
                claim = self._ledger.claim(batch_key(keys), invocation=self._item.invocation)
            else:
                self._waits_for_probe = True
                time.sleep(POLL)
                self._training.check()
                before["wait"] += POLL
            failed = [key for key in keys if key in self._training.failures]
            if failed:
                kind, error = self._training.failures[failed[0]]
                raise CellFailed(f"the probe of {split.label} failed: {error}", kind)
        self._waits_for_probe = False
        self._recorded.check_company(self._ledger.get_many(keys))
        grams: list[bytes | None] = [self._ledger.read_file(key, GRAM) for key in keys]
        elsewhere = before["wait"] - self._seconds["wait"]
        before["probe"] += time.perf_counter() - started - elsewhere
        self._seconds.update(before)
        return grams

    def _score(self, keys: Sequence[str]) -> None:
        """Score finished cells on the test images, once."""
        started = time.perf_counter()
        self._scoring = Scoring(
            self._item,
            self._engine,
            self._ledger,
            self._store,
            about=self._about,
            train=self._train_again,
            resolve=self._resolve,
            check=self._training.check,
            emit=self._emit,
        )
        self._scoring.run(keys)
        self._seconds["test"] += time.perf_counter() - started

    def _train_again(self, cells: Sequence[Cell], grouping: Reports) -> None:
        """Train cells that were finished before, each by itself."""
        self._training.train([[cell] for cell in cells], self._emit, grouping)
        if self._training.failures:
            kind, error = next(iter(self._training.failures.values()))
            raise CellFailed(error, kind)

    def _emit_probe(self, event: WorkEvent) -> None:
        """Tell of probe cells what cannot be taken for the item's own cells."""
        match event:
            case CellsKnown(cells=cells):
                self._emit(ProbesKnown(item_id=self._id, cells=cells))
            case CellFinished(key=key):
                self._emit(ProbeFinished(item_id=self._id, key=key))
