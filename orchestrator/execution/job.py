"""One work item on its way: its cells, what they depend on, in which order they train, what is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Seeds, Split
from mmap_model.errors import InputError
from mmap_model.plain import from_plain
from orchestrator.execution.batch import Batch, History, Interruption, Superseded, Unreadable
from orchestrator.execution.company import outpaced
from orchestrator.execution.engine import Engine
from orchestrator.execution.progress import Progress
from orchestrator.execution.resuming import companions, halves, starts_of
from orchestrator.execution.scoring import Scoring
from orchestrator.ledger import InFlight, Ledger, StudyStore, batch_key
from orchestrator.ledger.patient import StorageAway
from orchestrator.work.events import (
    CellFailure,
    CellFinished,
    CellsKnown,
    CellState,
    CellStatus,
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
from orchestrator.work.inputs import pixels_apart, pixels_of
from orchestrator.work.item import Control, WorkItem

logger = logging.getLogger(__name__)

ORIGIN = ("study", "trial", "invocation")
"""What is told of who finished a cell."""

GRAM = "gram.safetensors"
POLL = 0.2
"""Seconds between looks at a cell that another worker computes."""

WAIT_NEWS_S = 60.0
"""Seconds between two words about a storage that does not answer."""


class Job:
    """One item on its way."""

    def __init__(
        self, engine: Engine, ledger: Ledger, item: WorkItem, emit: Emit, control: Callable[[], Control]
    ) -> None:
        self._engine, self._ledger, self._item = engine, ledger, item
        self._id, self._emit, self._control = item.item_id, emit, control
        self._store = StudyStore(ledger.storage, item.study)
        self._about = {name: getattr(item, name) for name in ORIGIN}
        self._pixels = pixels_of(item.inputs)
        if self._pixels:
            self._about["pixels"] = self._pixels
        self._point = Point.from_dict(item.point)
        self._splits = [from_plain(Split, split, "split") for split in item.splits]
        self._seeds = [from_plain(Seeds, seed, "seeds") for seed in item.seeds]
        self._seconds = {"probe": 0.0, "epochs": 0.0, "save": 0.0, "commit": 0.0, "wait": 0.0, "test": 0.0}
        self._failures: dict[str, tuple[Failure, str]] = {}
        self._committed: set[str] = set()
        self._training: Batch | None = None
        self._began = time.perf_counter()
        self._waited = -WAIT_NEWS_S

    def run(self) -> None:
        state: EndState = "complete"
        error: str | None = None
        failure: Failure | Literal["storage"] | None = None
        known = len(self._ledger.damaged)
        try:
            self._work()
            if self._failures:
                state, (failure, error) = "failed", next(iter(self._failures.values()))
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
            logger.exception("Work item %s failed outside of its cells", self._item.item_id)
            state, error, failure = "failed", f"{type(raised).__name__}: {raised}", failure_of(raised)
        for line in self._ledger.damaged[known:]:
            self._emit(Note(item_id=self._id, text=f"Damaged record: {line}"))
        self._seconds["total"] = time.perf_counter() - self._began
        seconds = {name: round(value, 4) for name, value in self._seconds.items()}
        self._emit(Done(item_id=self._id, state=state, error=error, failure=failure, seconds=seconds))

    def _work(self) -> None:
        if self._item.purpose == "confirm":
            self._score(self._item.cells)
            return
        if self._item.purpose == "probe":
            for split in self._splits:
                self._train([self._probe_cells(split)], self._emit)
            return
        cells, grouping = self._resolve()
        self._train(cells, self._emit, grouping)
        if self._item.test and not self._failures:
            self._score([cell.key for family in cells for cell in family])

    def _resolve(self) -> tuple[list[list[Cell]], dict[str, dict[str, Any]]]:
        """The cells, one list per split, and by key how the partition was found."""
        cells, reports = [], {}
        for split in self._splits:
            grams = self._grams(split)
            family = []
            for seeds, gram in zip(self._seeds, grams, strict=True):
                partition, report = None, None
                if self._point.grouping is not None:
                    partition, report = self._engine.resolve(self._point.grouping, gram, seeds.train)
                configuration = Configuration(
                    method=self._point.method,
                    settings=self._point.settings,
                    recipe=self._point.recipe,
                    partition=partition,
                )
                cell = self._cell(configuration, split, seeds)
                family.append(cell)
                if report is not None:
                    reports[cell.key] = report
            cells.append(family)
        return cells, reports

    def _grams(self, split: Split) -> list[bytes | None]:
        """What the probes of one split measured, per seed; computed here or waited for where missing."""
        grouping = self._point.grouping
        if grouping is None or grouping.mode != "gradient" or self._engine.tasks == 1:
            return [None] * len(self._seeds)
        started, before = time.perf_counter(), dict(self._seconds)
        cells = self._probe_cells(split)
        keys = [cell.key for cell in cells]
        claim = self._ledger.claim(batch_key(keys), invocation=self._item.invocation)
        while any(self._finished(key) is None for key in keys):
            if claim.try_acquire() is None:  # the same claim each time: it watches who else holds it
                with claim:
                    self._train([cells], self._emit_probe)
                claim = self._ledger.claim(batch_key(keys), invocation=self._item.invocation)
            else:
                time.sleep(POLL)
                self._check()
                before["wait"] += POLL
            failed = [key for key in keys if key in self._failures]
            if failed:
                kind, error = self._failures[failed[0]]
                raise CellFailed(f"the probe of {split.label} failed: {error}", kind)
        self._check_company(self._ledger.get_many(keys))
        grams: list[bytes | None] = [self._ledger.read_file(key, GRAM) for key in keys]
        elsewhere = before["wait"] - self._seconds["wait"]
        before["probe"] += time.perf_counter() - started - elsewhere
        self._seconds = before
        return grams

    def _probe_cells(self, split: Split) -> list[Cell]:
        grouping = self._point.grouping
        assert grouping is not None, "a probe item has a grouped point"
        configuration = self._engine.probe(self._point)
        return [
            replace(
                self._cell(configuration, split, seeds),
                kind="probe",
                snapshot_every=grouping.probe.snapshot_every,
            )
            for seeds in self._seeds
        ]

    def _finished(self, key: str) -> dict[str, Any] | None:
        """The whole record of a finished cell.

        Raises:
            CellFailed: another study trained it on images of the same names and sizes that are others.
        """
        record = self._ledger.get(key, verify=True)
        if record is not None and (tasks := pixels_apart(record.get("pixels", {}), self._pixels)):
            raise CellFailed(
                f"study {record.get('study')!r} trained cell {key[:12]} in this storage on images of "
                f"{', '.join(tasks)} that have the same names and sizes as these and are others; give this "
                "study a storage of its own (storage=…), or the images other names",
                "data",
            )
        return record

    def _check_company(self, finished: Mapping[str, dict[str, Any]]) -> None:
        """Take over no cell that an earlier version trained for as many steps as another seed asked for."""
        beside = {
            key for record in finished.values() for key in record.get("fused_with", ())
        } - finished.keys()
        records = {**finished, **(self._ledger.get_many(beside) if beside else {})}
        for key, record in finished.items():
            if (reason := outpaced(record, records)) is not None:
                raise CellFailed(
                    f"cell {key[:12]} in this storage cannot be used: {reason}; give this study a storage of "
                    "its own (storage=…)",
                    "data",
                )

    def _cell(self, configuration: Configuration, split: Split, seeds: Seeds) -> Cell:
        return Cell(
            kind="untrained" if self._item.untrained else "train",
            configuration=configuration,
            split=split,
            seeds=seeds,
            protocol=self._item.protocol,
            largest_shots=self._item.largest_shots,
            largest_percent=self._item.largest_percent,
            **self._item.known_from_dataset,
            precision=self._item.precision,
            dataset=self._engine.manifest,
            backbone=self._engine.fingerprint,
        )

    def _train(
        self,
        families: Sequence[Sequence[Cell]],
        emit: Emit,
        grouping: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Train what is unfinished, all splits in step, and commit it."""
        cells = [cell for family in families for cell in family]
        history: History = {cell.key: [] for cell in cells}
        finished: dict[str, dict[str, Any]] = {}
        failures: dict[str, dict[str, Any]] = {}
        for cell in cells:
            record = self._finished(cell.key)
            if record is not None and not (self._item.retrain and record.get("dropped")):
                finished[cell.key] = record
                history[cell.key] = self._ledger.history(cell.key)
            elif (failure := self._failure(cell.key)) is not None:
                failures[cell.key] = failure
                if not self._item.retry_failed:
                    self._failures[cell.key] = (failure["kind"], failure["error"])
        self._check_company(finished)
        batches = [
            batch
            for family in families
            if (todo := [c for c in family if c.key not in finished and c.key not in self._failures])
            for batch in self._batches(todo, family, finished, failures, grouping or {})
        ]
        epochs = {key: batch.epoch for batch in batches for key in batch.keys}
        described = [self._describe(c, finished, epochs, grouping or {}) for c in cells]
        emit(CellsKnown(item_id=self._id, cells=described))
        for key in history:
            if key in self._failures:
                self._tell_failure(key, emit)
        progress = Progress(self._id, cells, history, emit)
        for batch in batches:
            progress.update(batch)
        progress.report()
        for epoch in range(1, max((c.configuration.recipe.epochs for c in cells), default=0) + 1):
            batches = [part for batch in batches for part in self._advance(batch, epoch, emit, progress)]
            progress.report()
        unfinished = {key for key in history if key not in self._failures} - finished.keys() - self._committed
        if unfinished:
            raise Interruption

    def _failure(self, key: str) -> dict[str, Any] | None:
        """How a cell failed before; None if it did not.

        What an earlier driver of this study recorded of workers that were killed does not count: it may have
        been recorded late, of a trial that has begun anew since.
        """
        failure = self._ledger.failure(key)
        if failure is None or failure.get("by") != "driver" or failure.get("study") != self._item.study:
            return failure
        return failure if failure.get("fence") == self._item.fence else None

    def _advance(self, batch: Batch, epoch: int, emit: Emit, progress: Progress) -> Iterable[Batch]:
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
                self._seconds["epochs"] += time.perf_counter() - started
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
                emit(CellFinished(item_id=self._id, key=key, at=batch.history[key][-1]["at"], **told))
            self._seconds["commit"] += time.perf_counter() - started
            self._seconds["save"] += batch.save_seconds
        for key, failure in batch.failed.items():
            if key not in self._failures:
                self._failures[key] = failure
                self._tell_failure(key, emit)
        return [] if batch.done else [batch]

    def give_up(self, error: str, traceback: str) -> list[WorkEvent]:
        """The thread that runs this job hangs. Record the cells it is at as failed; the events to tell.

        Called from another thread; the process ends afterwards.
        """
        told: list[WorkEvent] = []
        if self._training is not None:
            for key in self._training.active:
                beside = {"epoch": self._training.epoch, "fused_with": self._training.others(key)}
                about = {**beside, **self._about}
                self._ledger.record_failure(key, error, kind="timeout", traceback=traceback, **about)
                told.append(CellFailure(item_id=self._id, key=key, error=error, failure="timeout"))
        seconds = {"total": round(time.perf_counter() - self._began, 4)}
        end = Done(item_id=self._id, state="failed", error=error, failure="timeout", seconds=seconds)
        return [*told, end]

    def waits(self, reason: str) -> None:
        """Tell that the storage does not answer. Once a minute is enough."""
        now = time.perf_counter()
        if now - self._waited > WAIT_NEWS_S:
            self._waited = now
            self._emit(Waiting(item_id=self._id, text=reason))

    def _tell_failure(self, key: str, emit: Emit) -> None:
        kind, error = self._failures[key]
        emit(CellFailure(item_id=self._id, key=key, error=error, failure=kind))

    def _may_halve(self, batch: Batch) -> bool:
        return self._item.fuse == "auto" and batch.width > 1

    def _halve(self, batch: Batch, epoch: int, emit: Emit, progress: Progress) -> list[Batch]:
        """Start a batch that could not be trained as one again, as two, and bring them to ``epoch``."""
        parts = [part for half in halves(batch.cells) for part in self._started(half, [], batch.grouping)]
        for earlier in range(1, epoch + 1):
            parts = [p for part in parts for p in self._advance(part, earlier, emit, progress)]
        return parts

    def _batches(
        self,
        todo: Sequence[Cell],
        family: Sequence[Cell],
        finished: Mapping[str, dict[str, Any]],
        failures: Mapping[str, dict[str, Any]],
        grouping: dict[str, dict[str, Any]],
    ) -> Iterator[Batch]:
        """Batches of the cells of one split that are to be trained; ``family`` are all of its cells."""
        for group in self._groups(family):
            wanted = [cell for cell in group if cell in todo]
            keys = [cell.key for cell in group]
            told = [companions(k, of[k], keys) for of in (finished, failures) for k in keys if k in of]
            without = [[k for k in keys if k not in of] for of in (finished, failures)]
            yield from self._started(wanted, [keys, *without, *told], grouping)

    def _started(
        self,
        wanted: Sequence[Cell],
        batches: Sequence[Sequence[str]],
        grouping: dict[str, dict[str, Any]],
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
        """Not if another study trained it on other images of the same names and sizes, or these cells as one
        batch though their epochs differ in length, as earlier versions did."""
        if pixels_apart(state.about.get("pixels", {}), self._pixels):
            return False
        return len(built) == 1 or len(self._groups(built)) == 1

    @property
    def _fused(self) -> bool:
        return self._item.fuse != "off" and self._engine.fuses(self._point)

    def _groups(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        """Cells that train as one batch each."""
        if not self._fused:
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

    def _score(self, keys: Sequence[str]) -> None:
        """Score finished cells on the test images, once."""
        started = time.perf_counter()
        Scoring(
            self._item,
            self._engine,
            self._ledger,
            self._store,
            about=self._about,
            train=self._train_again,
            resolve=self._resolve,
            check=self._check,
            emit=self._emit,
        ).run(keys)
        self._seconds["test"] += time.perf_counter() - started

    def _train_again(self, cells: Sequence[Cell], grouping: dict[str, dict[str, Any]]) -> None:
        """Train cells that were finished before, each by itself."""
        self._train([[cell] for cell in cells], self._emit, grouping)
        if self._failures:
            kind, error = next(iter(self._failures.values()))
            raise CellFailed(error, kind)

    def _check(self) -> None:
        if self._control().cancel:
            raise Interruption

    def _describe(
        self,
        cell: Cell,
        finished: dict[str, dict[str, Any]],
        epochs: dict[str, int],
        grouping: dict[str, dict[str, Any]],
    ) -> CellState:
        epoch = epochs.get(cell.key, 0)
        status: CellStatus = "resumed" if epoch else "new"
        if cell.key in finished:
            status, epoch = "finished", finished[cell.key]["epochs"]
        elif cell.key in self._failures:
            status = "failed"
        record = finished.get(cell.key)
        origin = None if record is None else {name: record[name] for name in ORIGIN}
        partition = cell.configuration.partition
        return CellState(
            key=cell.key,
            split=cell.split.label,
            seed=cell.seeds.label,
            partition=None if partition is None else [list(group) for group in partition],
            parameters=self._engine.count(cell.configuration),
            grouping=grouping.get(cell.key),
            status=status,
            epoch=epoch,
            origin=origin,
            dataset=cell.dataset,
            backbone=cell.backbone,
        )

    def _emit_probe(self, event: WorkEvent) -> None:
        """Tell of probe cells what cannot be taken for the item's own cells."""
        match event:
            case CellsKnown(cells=cells):
                self._emit(ProbesKnown(item_id=self._id, cells=cells))
            case CellFinished(key=key):
                self._emit(ProbeFinished(item_id=self._id, key=key))
