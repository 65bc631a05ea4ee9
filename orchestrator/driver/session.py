"""One study on Ray: start everything in parallel, search, score the finalists, take everything down."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmap_model.configuration import Point
from orchestrator.driver import cancelling
from orchestrator.driver.baselines import Baselines, missing_baselines
from orchestrator.driver.confirmation import Confirmation, unscored
from orchestrator.driver.rows import ZERO_STEP
from orchestrator.driver.timing import Timing
from orchestrator.driver.todo import Todo
from orchestrator.driver.trials import Progress, Trials, epochs_of
from orchestrator.interrupt import Interrupt
from orchestrator.ledger import DriverLease, Invocation, Ledger, StudyStore
from orchestrator.search.proposals import Proposals
from orchestrator.slots.slots import Slots, SlotStates
from orchestrator.slots.worker import SlotSettings
from orchestrator.study import StudyPlan
from orchestrator.study.machine import SlotLayout
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work import Event, WorkItem

POLL_S = 1.0
"""Seconds that the reader of events waits for some."""

STOP_S = 3.0
"""Seconds for the pool to hear that everything stops."""

LEAVE_S = 7.0
"""Seconds that the slots get to save and leave."""

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The user wants the study to stop."""


class SessionFailed(Exception):
    """The study cannot go on; the message says why."""


class Session:
    """Does what is to be done of a study.

    Args:
        plan: the study.
        todo: what is to be done.
        store, ledger: its records.
        tracker, progress: told of everything.
        invocation: filled with what was trained and where the time went.
        lease: of the driver; losing it ends the session.
        interrupt: ends the session when the user wants it.
        folder: local, for what Ray writes.
        workbench: factory of what the workers run.
        started: set once a worker is at work.
    """

    def __init__(
        self,
        plan: StudyPlan,
        todo: Todo,
        store: StudyStore,
        ledger: Ledger,
        tracker: Tracker | NoTracker,
        progress: Progress,
        invocation: Invocation,
        lease: DriverLease,
        interrupt: Interrupt,
        *,
        folder: Path,
        workbench: str,
        started: threading.Event,
    ) -> None:
        self._plan, self._todo, self._store, self._ledger = plan, todo, store, ledger
        self._tracker, self._progress, self._invocation = tracker, progress, invocation
        self._lease, self._interrupt, self._folder = lease, interrupt, folder
        self._workbench = workbench
        self._started = started
        self._clock = Timing()
        self._states = SlotStates()
        self._pool: Any = None
        self._slots: Slots | None = None
        self._slot_count = 1
        self._cursor = 0
        self._fault: Exception | None = None
        self._leaving = False
        self._owns_ray = False
        self._reader_stop = threading.Event()
        self._news = threading.Condition()
        self._item_slot: dict[str, str] = {}
        self._confirmation: Confirmation | None = None
        search = plan.study.search
        self.trials = Trials(
            plan,
            Proposals(
                plan.space.suggest,
                sampler=search.sampler,
                seed=search.seed,
                first=plan.first,
                grid=(lambda: (params for params, _ in plan.space.points()))
                if search.sampler == "grid"
                else None,
            ),
            store,
            self,
            tracker,
            progress,
            invocation,
            slots=self._room,
            retry_failed=todo.retry_failed,
        )
        self._baselines = self._reference_rows({})

    def run(self) -> None:
        """Do the work.

        Raises:
            Stopped: the user interrupted; everything is recorded, the same command goes on.
            SessionFailed: no slot is left, or another driver took over.
        """
        reader: threading.Thread | None = None
        try:
            self._start()
            reader = threading.Thread(target=self._read, name="pool-events", daemon=True)
            reader.start()
            self._search()
            self._confirm()
        finally:
            self._progress({"kind": "phase", "name": "stopping"})
            self._take_down(reader)
            self._invocation.timing.update(self._clock.timing())

    # The pool as trials see it: orchestrator.driver.trials.Queue

    def submit(self, item: WorkItem, needs: Sequence[str] = ()) -> None:
        self._ask("submit", item.to_dict(), list(needs))

    def cancel(self, item_id: str) -> None:
        self._ask("cancel", item_id)

    def forget(self, item_id: str) -> None:
        self._pool.forget.remote(item_id)

    def _start(self) -> None:
        from orchestrator.slots import environment

        environment.prepare()
        imports = threading.Thread(target=_import_train, name="imports", daemon=True)
        imports.start()
        from orchestrator.slots.cluster import capacity, start_ray
        from orchestrator.slots.pool_actor import start_pool

        slots = self._plan.study.slots
        layout = self._plan.slots
        self._owns_ray = start_ray(
            slots=layout.count if layout else 1,
            cpus=layout.cpus if layout else slots.cpus,
            gpus=layout.gpus if layout else 0.0,
        )
        self._interrupt.install()
        self._check()
        self._pool = start_pool()
        if layout is None:
            room = capacity()
            gpus = float(min(room.gpus, 1)) if slots.gpus == "auto" else slots.gpus
            count = room.slots(slots.cpus, gpus) if slots.count == "auto" else slots.count
            layout = SlotLayout(count, slots.cpus, gpus, slots.threads or max(1, int(slots.cpus)))
        self._slot_count = layout.count
        imports.join()
        self._slots = Slots(
            self._settings(layout),
            count=layout.count,
            cpus=layout.cpus,
            gpus=layout.gpus,
            storage=self._folder / "train",
            states=self._states,
        )
        self._slots.start(self._pool, self._on_slot)
        self._progress({"kind": "sweep", "slots": layout.count})

    def _settings(self, layout: SlotLayout) -> SlotSettings:
        any_item = self._plan.work_item(self._plan.study.point, item_id="")
        return SlotSettings(
            slot="",
            workbench=self._workbench,
            arguments={
                "dataset": any_item.dataset,
                "backbone": any_item.backbone,
                "storage": self._store.storage.root,
                "device": "cuda" if layout.gpus else "cpu",
                "precision": any_item.precision,
                "threads": layout.threads,
            },
            threads=layout.threads,
        )

    def _search(self) -> None:
        if not self._todo.search:
            return
        self._progress({"kind": "phase", "name": "search"})
        self.trials.recall(self._todo.records, self._todo.again)
        if not self.trials.exhausted:
            self.trials.launch_ahead(self._slot_count)
        known = self._todo.baselines
        self._measure({name: point for name, point in known.items() if name != ZERO_STEP})
        # Tune's own start would compete with the workers' for the same cores.
        self._until(lambda: bool(self._states.up))
        if not self.trials.exhausted:
            self._run_tune()
        self._until(lambda: not self.trials.live)
        self._await_baselines()
        missing = missing_baselines(self._plan, self._store, self._ledger, self._store.load_trials())
        self._measure({name: point for name, point in missing.items() if name == ZERO_STEP})
        self._await_baselines()

    def _reference_rows(self, points: Mapping[str, Point]) -> Baselines:
        return Baselines(self._plan, points, self._store, self._tracker, self._progress, self._invocation)

    def _measure(self, points: Mapping[str, Point]) -> None:
        """Queue reference rows."""
        self._baselines = rows = self._reference_rows(points)
        for item, probe in rows.items():
            if probe is not None:
                self.submit(probe)
            self.submit(item, [] if probe is None else [probe.item_id])

    def _await_baselines(self) -> None:
        if self._baselines.live:
            self._progress({"kind": "phase", "name": "baselines"})
            self._until(lambda: not self._baselines.live)

    def _run_tune(self) -> None:
        from orchestrator.driver.tune_run import run_tune
        from orchestrator.search.stopping import make_scheduler, replay

        study = self._plan.study
        scheduler = make_scheduler(
            study.search.scheduler,
            epochs=study.recipe.epochs,
            reduction_factor=study.search.reduction_factor,
        )
        ended = (r for r in self._todo.records if r.state in ("complete", "pruned"))
        replay(scheduler, ((record.number, epochs_of(record)) for record in ended))
        run_tune(
            self.trials,
            scheduler,
            self._pool,
            folder=self._folder / "tune",
            should_stop=lambda: self._reason_to_stop() is not None,
            stop_early=self.trials.stop_early,
        )
        self._check()

    def _confirm(self) -> None:
        rows = list(self._todo.confirm)
        if self._todo.search:
            rows = unscored(self._plan, self._store, self._ledger, self._store.load_trials())
        if not rows:
            return
        self._progress({"kind": "phase", "name": "finalists"})
        started = time.monotonic()
        self._confirmation = Confirmation(
            self._plan, rows, self._ledger, self._tracker, self._invocation, self._todo.reason
        )
        for item in self._confirmation.items():
            self.submit(item)
        self._until(lambda: self._confirmation is None or not self._confirmation.live)
        self._clock.confirm = time.monotonic() - started
        for name, error in self._confirmation.errors.items():
            self._progress({"kind": "note", "text": f"Test images of {name}: {error}"})

    def _take_down(self, reader: threading.Thread | None) -> None:
        import ray

        self._leaving = True
        self.trials.stop()
        with contextlib.suppress(Exception):
            self._ask("stop", timeout=STOP_S)
        if self._slots is not None and not self._slots.join(LEAVE_S):
            logger.info("Some slots did not leave in time")
        self._reader_stop.set()
        if reader is not None:
            reader.join(2 * POLL_S)
        self.trials.close()
        if self._owns_ray:
            ray.shutdown()
        elif self._pool is not None:
            ray.kill(self._pool)

    # Waiting

    def _room(self) -> int:
        """Trials that may be in work: one per slot that is up, or that is expected before any was."""
        return len(self._states.up) or (0 if self._clock.first_up else self._slot_count)

    def _reason_to_stop(self) -> Exception | None:
        if self._interrupt.requested.is_set():
            return Stopped()
        if self._fault is not None:
            return SessionFailed(f"the pool of work is gone: {self._fault}")
        if self._lease.lost.is_set():
            return SessionFailed("another driver took the study over")
        if self._slots is not None and self._slots.all_stopped:
            return SessionFailed(self._slots.error)
        return None

    def _check(self) -> None:
        reason = self._reason_to_stop()
        if reason is not None:
            raise reason

    def _until(self, condition: Callable[[], bool]) -> None:
        with self._news:
            while not condition():
                self._check()
                self._news.wait(0.2)

    def _ask(self, method: str, *arguments: Any, timeout: float = 60.0) -> Any:
        import ray

        return ray.get(getattr(self._pool, method).remote(*arguments), timeout=timeout)

    # Events

    def _read(self) -> None:
        """Read the pool's events until told to stop, and then what is left."""
        looked = time.monotonic()
        while True:
            last = self._reader_stop.is_set()
            try:
                batch = self._ask("events", self._cursor, 0.0 if last else POLL_S)
            except Exception as error:
                if not last:
                    self._fault = error
                return
            for number, event in batch:
                self._cursor = number
                self._take(event)
            self.trials.flush()
            with self._news:
                self._news.notify_all()
            if last:
                return
            if time.monotonic() - looked > cancelling.interval(self._store):
                looked = time.monotonic()
                self._look_for_cancellations()

    def _take(self, event: Event) -> None:
        try:
            self._clock.take(event)
            if event["kind"] == "slot":
                self._on_slot(event)
                return
            if event["kind"] in ("cells", "probe"):
                self._started.set()
            self._follow_slot(event)
            self.trials.take(event)
            self._baselines.take(event)
            if self._confirmation is not None:
                self._confirmation.take(event)
        except Exception:
            # One bad event must not end the study: the ledger has the work, a rerun tells it again.
            logger.exception("An event could not be recorded: %s", event)

    def _on_slot(self, event: Event) -> None:
        self._states.take(event)
        state = {"up": "idle", "down": "restarting", "stopped": "stopped"}.get(event["state"])
        if state is not None and not self._leaving:
            self._progress({"kind": "slot", "slot": event["slot"], "state": state})
        if event["state"] == "stopped" and not self._leaving:
            text = f"Slot {event['slot']} stopped: {event.get('error')}"
            self._progress({"kind": "note", "text": text})
        with self._news:
            self._news.notify_all()

    def _follow_slot(self, event: Event) -> None:
        """Show which slot works on what."""
        item_id = event.get("item_id", "")
        if event["kind"] == "leased":
            self._item_slot[item_id] = event["slot"]
            what = item_id.partition("-")[0]
            if what != "trial":
                told = {"kind": "slot", "slot": event["slot"], "state": "busy", "what": what}
                self._progress(told)
        elif event["kind"] in ("done", "stopped", "requeued"):
            slot = self._item_slot.pop(item_id, None)
            if slot is not None and slot in self._states.up:
                self._progress({"kind": "slot", "slot": slot, "state": "idle"})

    def _look_for_cancellations(self) -> None:
        with contextlib.suppress(OSError):
            for number in cancelling.requested(self._store):
                self.trials.cancel(number)
                cancelling.clear(self._store, number)


def _import_train() -> None:
    """What the slots need, imported while Ray starts."""
    import orchestrator.slots.resident_run  # noqa: F401
