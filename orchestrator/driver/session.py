"""One study on Ray: start everything in parallel, search, score the finalists, take everything down."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mmap_model.configuration import Point
from orchestrator.driver import cancelling
from orchestrator.driver.baselines import Baselines, missing_baselines
from orchestrator.driver.confirmation import Confirmation, unscored
from orchestrator.driver.pool_client import PoolClient
from orchestrator.driver.rows import ZERO_STEP
from orchestrator.driver.slot_display import SlotDisplay
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
from orchestrator.work import Event

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

    Attributes:
        failed, lost: numbers of trials that failed, or whose workers kept dying.
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
        self._workbench, self._started = workbench, started
        self._timing = Timing()
        self._states = SlotStates()
        self._display = SlotDisplay(progress)
        self._news = threading.Condition()
        self._looked = time.monotonic()
        self._owns_ray = False
        self._slot_count = 1
        self._pool: PoolClient | None = None
        self._slots: Slots | None = None
        self._trials: Trials | None = None
        self._baselines: Baselines | None = None
        self._confirmation: Confirmation | None = None
        self.failed: list[int] = []
        self.lost: list[int] = []

    def run(self) -> None:
        """Do the work.

        Raises:
            Stopped: the user interrupted; everything is recorded, the same command goes on.
            SessionFailed: no slot is left, or another driver took over.
        """
        try:
            pool = self._start()
            if self._todo.search:
                self._search(pool)
            self._confirm(pool)
        finally:
            self._progress({"kind": "phase", "name": "stopping"})
            self._take_down()
            self._invocation.timing.update(self._timing.report())

    # Phases

    def _start(self) -> PoolClient:
        """Start Ray, the pool and the slots; Train is imported while Ray starts."""
        from orchestrator.slots import environment

        environment.prepare()
        imports = threading.Thread(target=_import_train, name="imports", daemon=True)
        imports.start()
        from orchestrator.slots.cluster import start_ray
        from orchestrator.slots.pool_actor import start_pool

        layout, slots = self._plan.slots, self._plan.study.slots
        self._owns_ray = start_ray(
            slots=layout.count if layout else 1,
            cpus=layout.cpus if layout else slots.cpus,
            gpus=layout.gpus if layout else 0.0,
        )
        self._interrupt.install()
        self._check()
        self._pool = PoolClient(start_pool(), self._take)
        layout = layout or self._lay_out_on_cluster()
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
        self._slots.start(self._pool.actor, self._on_slot)
        self._progress({"kind": "sweep", "slots": layout.count})
        return self._pool

    def _search(self, pool: PoolClient) -> None:
        """Run the trials and the reference rows."""
        self._progress({"kind": "phase", "name": "search"})
        about = (self._store, self._tracker, self._progress, self._invocation)
        search, space = self._plan.study.search, self._plan.space
        proposals = Proposals(
            space.suggest,
            sampler=search.sampler,
            seed=search.seed,
            first=self._plan.first,
            grid=(lambda: (params for params, _ in space.points())) if search.sampler == "grid" else None,
        )
        trials = Trials(
            self._plan,
            proposals,
            pool,
            *about,
            slots=self._room,
            retry_failed=self._todo.retry_failed,
        )
        self._trials = trials
        self.failed, self.lost = trials.failed, trials.lost
        trials.recall(self._todo.records, self._todo.again)
        trials.launch_ahead(self._slot_count)
        known = self._todo.baselines
        baselines = self._measure(pool, {name: known[name] for name in known if name != ZERO_STEP})
        # Tune's own start would compete with the workers' for the same cores.
        self._until(lambda: bool(self._states.up))
        if not trials.exhausted:
            self._run_tune(trials, pool)
        self._until(lambda: not trials.live and not baselines.live)
        missing = missing_baselines(self._plan, self._store, self._ledger, self._store.load_trials())
        start = self._measure(pool, {name: missing[name] for name in missing if name == ZERO_STEP})
        if start.live:
            self._progress({"kind": "phase", "name": "baselines"})
            self._until(lambda: not start.live)

    def _measure(self, pool: PoolClient, points: Mapping[str, Point]) -> Baselines:
        """Queue reference rows; those before must be done."""
        rows = Baselines(self._plan, points, self._store, self._tracker, self._progress, self._invocation)
        self._baselines = rows
        for item, probe in rows.items():
            if probe is not None:
                pool.submit(probe)
            pool.submit(item, [] if probe is None else [probe.item_id])
        return rows

    def _run_tune(self, trials: Trials, pool: PoolClient) -> None:
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
        try:
            run_tune(
                trials,
                scheduler,
                pool.actor,
                folder=self._folder / "tune",
                should_stop=lambda: self._reason_to_stop() is not None,
                stop_early=trials.stop_early,
            )
        finally:
            self._check()  # of two reasons to end, the first one

    def _confirm(self, pool: PoolClient) -> None:
        """Score rows on the test images."""
        rows = list(self._todo.confirm)
        if self._todo.search:
            rows = unscored(self._plan, self._store, self._ledger, self._store.load_trials())
        if not rows:
            return
        self._progress({"kind": "phase", "name": "finalists"})
        started = time.monotonic()
        confirmation = Confirmation(
            self._plan, rows, self._ledger, self._tracker, self._invocation, self._todo.reason
        )
        self._confirmation = confirmation
        for item in confirmation.items():
            pool.submit(item)
        self._until(lambda: not confirmation.live)
        self._timing.confirm = time.monotonic() - started
        for name, error in confirmation.errors.items():
            self._progress({"kind": "note", "text": f"Test images of {name}: {error}"})

    def _take_down(self) -> None:
        import ray

        self._display.close()
        if self._trials is not None:
            self._trials.stop()
        if self._pool is not None:
            patience = LEAVE_S
            try:
                self._pool.stop()
            except Exception:
                patience = 0.0  # Ray is going down by itself: nobody is left to hear it
            if self._slots is not None and not self._slots.join(patience):
                logger.info("Some slots did not leave in time")
            self._pool.close()
        if self._trials is not None:
            self._trials.close()
        if self._owns_ray:
            ray.shutdown()
        elif self._pool is not None:
            ray.kill(self._pool.actor)

    # Slots

    def _lay_out_on_cluster(self) -> SlotLayout:
        """Slots where Ray, not this machine, says what there is."""
        from orchestrator.slots.cluster import capacity

        slots, room = self._plan.study.slots, capacity()
        gpus = float(min(room.gpus, 1)) if slots.gpus == "auto" else slots.gpus
        count = room.slots(slots.cpus, gpus) if slots.count == "auto" else slots.count
        return SlotLayout(count, slots.cpus, gpus, slots.threads or max(1, int(slots.cpus)))

    def _settings(self, layout: SlotLayout) -> SlotSettings:
        item = self._plan.work_item(self._plan.study.point, item_id="")
        arguments = {
            "dataset": item.dataset,
            "backbone": item.backbone,
            "storage": self._store.storage.root,
            "device": "cuda" if layout.gpus else "cpu",
            "precision": item.precision,
            "threads": layout.threads,
        }
        return SlotSettings(slot="", workbench=self._workbench, arguments=arguments, threads=layout.threads)

    def _room(self) -> int:
        """Trials that may be in work: one per slot that is up, or that is expected before any was."""
        return len(self._states.up) or (0 if self._timing.first_up else self._slot_count)

    # Waiting

    def _until(self, condition: Callable[[], bool]) -> None:
        with self._news:
            while not condition():
                self._check()
                self._news.wait(0.2)

    def _check(self) -> None:
        reason = self._reason_to_stop()
        if reason is not None:
            raise reason

    def _reason_to_stop(self) -> Exception | None:
        if self._interrupt.requested.is_set():
            return Stopped()
        if self._lease.lost.is_set():
            return SessionFailed("another driver took the study over")
        if self._slots is not None and self._slots.all_stopped:
            return SessionFailed(self._slots.error)
        if self._pool is not None and self._pool.fault is not None:
            return SessionFailed(f"the pool of work is gone: {self._pool.fault}")
        return None

    # Events, on the reader's thread

    def _take(self, events: list[Event]) -> None:
        for event in events:
            try:
                self._take_one(event)
            except Exception:
                # One bad event must not end the study: the ledger has the work, a rerun tells it again.
                logger.exception("An event could not be recorded: %s", event)
        if self._trials is not None:
            self._trials.flush()
            if time.monotonic() - self._looked > cancelling.interval(self._store):
                self._looked = time.monotonic()
                self._look_for_cancellations(self._trials)
        with self._news:
            self._news.notify_all()

    def _take_one(self, event: Event) -> None:
        self._timing.take(event)
        if event["kind"] == "slot":
            self._on_slot(event)
            return
        if event["kind"] in ("cells", "probe"):
            self._started.set()
        self._display.take(event)
        for part in (self._trials, self._baselines, self._confirmation):
            if part is not None:
                part.take(event)

    def _on_slot(self, event: Event) -> None:
        self._states.take(event)
        self._display.take(event)
        with self._news:
            self._news.notify_all()

    def _look_for_cancellations(self, trials: Trials) -> None:
        with contextlib.suppress(OSError):
            for number in cancelling.requested(self._store):
                trials.cancel(number)
                cancelling.clear(self._store, number)


def _import_train() -> None:
    """What the slots need."""
    import orchestrator.slots.resident_run  # noqa: F401
