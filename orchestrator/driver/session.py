"""Work on Ray: start everything in parallel, do it, take everything down. Subclasses say what it is."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmap_model.plain import to_plain
from orchestrator.driver.confirmation import Confirmation
from orchestrator.driver.interrupt import Interrupt
from orchestrator.driver.pool_client import PoolClient
from orchestrator.driver.purse import Purse
from orchestrator.driver.rows import Row
from orchestrator.driver.silence import SilenceNotes
from orchestrator.driver.slot_display import SlotDisplay
from orchestrator.driver.slot_memory import SlotMemory
from orchestrator.driver.timing import Timing
from orchestrator.driver.trials import Progress
from orchestrator.ledger import DriverLease, Invocation, Ledger, StudyStore
from orchestrator.ledger.documents import now
from orchestrator.ledger.patient import PatientStorage, StorageAway
from orchestrator.redaction import redact
from orchestrator.slots.membership import Membership
from orchestrator.slots.placement import Place, SlotSize
from orchestrator.slots.slots import Slots, SlotStates
from orchestrator.slots.worker import SlotSettings
from orchestrator.statistics.spending import Limits
from orchestrator.study import StudyPlan
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work.failures import death_in_words
from orchestrator.work.item import Event

LEAVE_S = 7.0
"""Seconds that the slots get to save and leave."""

NOTHING_LOST = "Nothing recorded is lost: run the same command again"

SAY_S = 60.0
"""Seconds in which the user is told the same thing once."""

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The user wants the study to stop."""


class SessionFailed(Exception):
    """The study cannot go on.

    Args:
        why: for the user.
        fix: what the user can do.
    """

    def __init__(self, why: str, fix: str = "the same command continues it") -> None:
        super().__init__(why)
        self.fix = fix


class Part(Protocol):
    """Something that learns from the pool's events; it ignores those of items that are not its own."""

    def take(self, event: Event) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a session works with.

    Attributes:
        plan: the study.
        store, ledger: its records.
        tracker, progress: told of everything.
        invocation: filled with what was trained and where the time went.
        lease: of the driver; losing it ends the session.
        interrupt: ends the session when the user wants it.
        folder: local, for what Ray writes.
        workbench: factory of what the workers run.
        started: set once a worker is at work.
    """

    plan: StudyPlan
    store: StudyStore
    ledger: Ledger
    tracker: Tracker | NoTracker
    progress: Progress
    invocation: Invocation
    lease: DriverLease
    interrupt: Interrupt
    folder: Path
    workbench: str
    started: threading.Event


class Session(ABC):
    """Does what is to be done.

    Attributes:
        failed, lost: numbers of trials that failed, or whose workers kept dying.
        unscored: why rows could not be scored on the test images, or reference rows not be measured, by name.
    """

    def __init__(self, around: Surroundings) -> None:
        self._plan, self._store, self._ledger = around.plan, around.store, around.ledger
        self._tracker, self._progress, self._invocation = around.tracker, around.progress, around.invocation
        self._lease, self._interrupt, self._folder = around.lease, around.interrupt, around.folder
        self._workbench, self._started = around.workbench, around.started
        patient = PatientStorage(around.store.storage, self._say)
        self._patient_store = StudyStore(patient, around.store.name)
        self._patient_ledger = Ledger(patient)
        self._timing = Timing()
        search = around.plan.study.search
        limits = Limits.of(search)
        self._purse = Purse(around.store, around.invocation.id, limits)
        self._states = SlotStates()
        self._display = SlotDisplay(around.progress)
        self._silence = SilenceNotes(around.progress, around.store, around.invocation)
        self._news = threading.Condition()
        self._owns_ray = False
        self._storage_fault: str | None = None
        self._reason: Exception | None = None
        self._heard: bool | None = None
        self._said: dict[str, float] = {}
        self._memory = SlotMemory()
        self._pool: PoolClient | None = None
        self._slots: Slots | None = None
        self._membership: Membership | None = None
        self._confirmation: Confirmation | None = None
        self.failed: list[int] = []
        self.lost: list[int] = []
        self.unscored: dict[str, str] = {}

    # What the work is

    @abstractmethod
    def _work(self, pool: PoolClient) -> None:
        """Do everything there is to do."""

    @abstractmethod
    def _parts(self) -> Iterable[Part]:
        """Who learns from events, besides the confirmation."""

    def _after_events(self) -> None:  # noqa: B027 - optional
        """Called after every batch of events, and about once a second while nothing happens."""

    def _stop_work(self) -> None:  # noqa: B027 - optional
        """The session is over: what still runs was interrupted."""

    def _close_work(self) -> None:  # noqa: B027 - optional
        """No event comes any more."""

    def run(self) -> None:
        """Do the work.

        Raises:
            Stopped: the user interrupted; everything is recorded, the same command goes on.
            SessionFailed: no slot is left, another driver took over, or the storage stayed away.
        """
        try:
            self._work(self._start())
        except StorageAway as away:
            raise SessionFailed(f"{away.strerror}. {NOTHING_LOST}") from away
        finally:
            self._progress({"kind": "phase", "name": "stopping"})
            self._take_down()
            self._invocation.timing.update(self._timing.report())
            self._record_spending(at_once=True)
        if self._storage_fault is not None or self._pool_fault is not None:
            raise (
                self._reason_to_stop() or AssertionError
            )  # met by the last events, after which nobody waited

    # Phases

    def _start(self) -> PoolClient:
        """Start Ray, the pool and the first slots; Train is imported while Ray starts."""
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
        if layout is not None:
            self._slots = self._make_slots(SlotSize(layout.cpus, layout.gpus), layout.threads, self._pool)
            imports.join()
            for number in range(layout.count):
                self._slots.open(Place(str(number)))
            self._progress({"kind": "sweep", "slots": layout.count})
        else:
            self._follow_nodes(self._pool, imports)
        return self._pool

    def _follow_nodes(self, pool: PoolClient, imports: threading.Thread) -> None:
        """Slots where Ray, not this machine, says what there is: they come and go with its nodes."""
        from cluster.nodes import living_nodes
        from orchestrator.slots.demand import Demand

        wanted = self._plan.study.slots
        size = SlotSize.of(wanted.cpus, wanted.gpus, living_nodes())
        self._slots = self._make_slots(size, wanted.threads or max(1, int(wanted.cpus)), pool)
        self._membership = Membership(
            self._slots,
            nodes=living_nodes,
            free=_room_now,
            size=size,
            count=wanted.count,
            demand=Demand(size),
            note=lambda text: self._progress({"kind": "note", "text": text}),
        )
        imports.join()
        self._membership.start()

    def _make_slots(self, size: SlotSize, threads: int, pool: PoolClient) -> Slots:
        import ray

        self._memory = SlotMemory(size.gpus)
        self._purse.gpus = size.gpus
        return Slots(
            self._settings(size, threads),
            size=size,
            storage=self._folder / "train",
            states=self._states,
            pool=pool.actor,
            tell=self._on_slot,
            here=ray.get_runtime_context().get_node_id(),
        )

    def _score(self, pool: PoolClient, rows: list[Row], reason: str, *, retrain: bool = False) -> None:
        """Score rows on the test images; ``retrain`` cells first whose weights were dropped."""
        if not rows:
            return
        self._progress({"kind": "phase", "name": "finalists"})
        started = time.monotonic()
        about = (self._patient_ledger, self._tracker, self._invocation)
        confirmation = Confirmation(self._plan, rows, *about, reason, retrain=retrain)
        self._confirmation = confirmation
        for item in confirmation.items():
            pool.submit(item)
        self._until(lambda: not confirmation.live)
        self._timing.confirm += time.monotonic() - started
        self.unscored |= {str(name): error for name, error in confirmation.errors.items()}
        for name, error in confirmation.errors.items():
            self._progress({"kind": "note", "text": f"Test images of {name}: {error}"})

    def _take_down(self) -> None:
        import ray

        self._display.close()
        heard = self._tell_end()
        if self._pool is not None:
            patience = LEAVE_S if heard else 0.0
            if self._slots is not None and not self._slots.join(patience):
                logger.info("Some slots did not leave in time")
            self._pool.close()
        self._close_work()
        if self._owns_ray:
            ray.shutdown()
        elif self._pool is not None:
            ray.kill(self._pool.actor)

    def _should_stop(self) -> bool:
        """Whether the session ends. If so, all are told at once: Tune's actors answer when the pool does."""
        self._reason = self._reason_to_stop()
        if self._reason is None:
            return False
        self._tell_end()
        return True

    def _tell_end(self) -> bool:
        """Tell all that work, once; False if nobody is left to hear it."""
        if self._heard is None:
            self._stop_work()
            if self._membership is not None:
                self._membership.stop()
            try:
                if self._pool is not None:
                    self._pool.stop()
                self._heard = True
            except TimeoutError:
                self._heard = True  # a busy pool; the call arrives
            except Exception:
                self._heard = False  # Ray is going down by itself
        return self._heard

    # Slots

    def _settings(self, size: SlotSize, threads: int) -> SlotSettings:
        item = self._plan.work_item(self._plan.study.point, item_id="")
        arguments = {
            "dataset": item.dataset,
            "backbone": item.backbone,
            "storage": self._store.storage.root,
            "device": "cuda" if size.gpus else "cpu",
            "precision": item.precision,
            "threads": threads,
            "compute": to_plain(self._plan.study.compute),
        }
        return SlotSettings(
            slot="",
            workbench=self._workbench,
            arguments=arguments,
            threads=threads,
            cell_timeout_s=self._plan.study.slots.cell_timeout_s,
        )

    @property
    def _slot_count(self) -> int:
        """Slots that are up or may come up."""
        return 0 if self._slots is None else len(self._slots.places())

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
        if self._reason is not None:
            return self._reason  # what ends with the session is none
        if self._interrupt.requested.is_set():
            return Stopped()
        if self._lease.lost.is_set():
            return SessionFailed(
                f"this driver showed no life for a while (it was stopped, or cut off from the storage), and "
                f"{self._lease.successor_in_words} took study {self._store.name!r} over; this one ends and "
                "records nothing more",
                fix=f"leave it to the other: orchestrator status {self._store.name}",
            )
        if (fault := self._pool_fault) is not None:
            why = death_in_words(str(fault)) or type(fault).__name__
            return SessionFailed(f"the pool of work is gone: {why}. {NOTHING_LOST}")
        if self._slots is not None and self._slots.all_stopped:
            return SessionFailed(self._slots.error)
        if self._storage_fault is not None:
            return SessionFailed(f"{self._storage_fault}. {NOTHING_LOST}")
        return None

    @property
    def _pool_fault(self) -> BaseException | None:
        return None if self._pool is None else self._pool.fault

    # Events, on the reader's thread

    def _take(self, events: list[Event]) -> None:
        for event in events:
            try:
                self._take_one(event)
            except StorageAway as away:
                self._storage_fault = away.strerror
            except Exception:
                # One bad event must not end the study: the ledger has the work, a rerun tells it again.
                logger.exception("An event could not be recorded: %s", event)
        self._after_events()
        self._record_spending()
        with self._news:
            self._news.notify_all()

    def _take_one(self, event: Event) -> None:
        if event.get("error"):
            event = {**event, "error": redact(event["error"])}
        self._timing.take(event)
        self._purse.take(event)
        self._silence.take(event)
        if event["kind"] == "silence":
            self._display.take(event)
            return
        if event["kind"] == "slot":
            self._on_slot(event)
            return
        if event["kind"] in ("waiting", "note"):
            self._say(event["text"])
            return
        if event.get("failure") == "storage":
            self._storage_fault = event["error"]
        if event["kind"] in ("cells", "probe"):
            self._started.set()
        self._display.take(event)
        for part in self._parts():
            part.take(event)
        if self._confirmation is not None:
            self._confirmation.take(event)

    def _record_spending(self, *, at_once: bool = False) -> None:
        try:
            self._purse.record(at_once=at_once)
        except OSError as error:
            logger.warning("What was spent could not be recorded: %s", error)

    def _say(self, text: str) -> None:
        """Tell the user, once a minute at most, what several workers may tell at the same time."""
        now = time.monotonic()
        if now - self._said.get(text, -SAY_S) >= SAY_S:
            self._said[text] = now
            self._progress({"kind": "note", "text": text})

    def _on_slot(self, event: Event) -> None:
        known = event["slot"] in self._states.stopped
        self._states.take(event)
        if event["state"] == "stopped" and known:
            return  # the pool and the slot's run both tell of it
        if event["state"] == "stopped" and self._pool_fault is not None:
            return  # all slots end with the pool: none of them is to blame
        self._display.take(event)
        if event["state"] == "stopped":
            self._quarantine(event["slot"])
        elif event["state"] == "measured" and (warning := self._memory.take(event)):
            self._progress({"kind": "note", "text": warning})
        with self._news:
            self._news.notify_all()

    def _quarantine(self, slot: str) -> None:
        """Keep with the invocation, for ``status``, that a slot takes no more work, and why."""
        places = {} if self._slots is None else {place.name: place for place in self._slots.places()}
        node = places[slot].shown if slot in places else ""
        reason = self._states.stopped[slot]
        self._invocation.quarantined.append({"slot": slot, "node": node, "reason": reason, "at": now()})
        self._store.save_invocation(self._invocation)


def _room_now(size: SlotSize) -> Mapping[str, int]:
    """How many more slots each node carries beside what is used of it."""
    from cluster.nodes import free_resources

    return {
        node: size.fit(free.get("CPU", 0.0), free.get("GPU", 0.0)) for node, free in free_resources().items()
    }


def _import_train() -> None:
    """What the slots need."""
    import orchestrator.slots.resident_run  # noqa: F401
