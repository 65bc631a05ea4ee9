"""Work on Ray: start everything in parallel, do what the agenda says, take everything down."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.commands import command
from orchestrator.driver.budget_meter import BudgetMeter
from orchestrator.driver.crew import Crew
from orchestrator.driver.occupied import Occupied
from orchestrator.driver.pool_client import PoolClient
from orchestrator.driver.silence import SilenceNotes
from orchestrator.driver.surroundings import Surroundings
from orchestrator.driver.timing import Timing
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.ledger.patient import PatientStorage, StorageAway
from orchestrator.redaction import redact
from orchestrator.rows.rows import Rows
from orchestrator.rows.scoring import Named, scoring_rows
from orchestrator.statistics.spending import Budgets
from orchestrator.study.machine import this_machine
from orchestrator.work.events import (
    CellsKnown,
    Done,
    Event,
    ItemEvent,
    Note,
    ProbesKnown,
    Silence,
    SlotEvent,
    Waiting,
    with_error,
)
from orchestrator.work.failures import death_in_words
from orchestrator.work.shown import NoteShown, Phase, PhaseShown

NOTHING_LOST = "Nothing recorded is lost: run the same command again"
WHERE_IT_IS = "What was recorded lies there: once it is back, run the same command again"

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


class Agenda(Protocol):
    """What is to be done, phase by phase."""

    def work(self) -> None:
        """Do everything there is to do."""
        ...

    def after_events(self) -> None:
        """Called after every batch of events, and about once a second while nothing happens."""
        ...

    def stop(self) -> None:
        """The session is over: what still runs was interrupted."""
        ...

    def close(self) -> None:
        """No event comes any more."""
        ...


class Session:
    """Does what is to be done: an agenda queues rows, the session follows their work to its end.

    Args:
        around: what it works with.

        agenda: makes what is to be done.

    Attributes:
        store, ledger: the records, of a storage that is waited for while it is away.
        crew: the slots.
        budget_meter: what is spent.
        failed, lost, unscored: see ``Rows``.
    """

    def __init__(self, around: Surroundings, agenda: Callable[[Session], Agenda]) -> None:
        self.around = around
        self.plan, self.progress = around.plan, around.progress
        patient = PatientStorage(around.store.storage, self.say)
        self.store, self.ledger = StudyStore(patient, around.store.name), Ledger(patient)
        self.budget_meter = BudgetMeter(
            around.store, around.invocation.id, Budgets.of(around.plan.study.search)
        )
        self.crew = Crew(around, lambda: self._pool_fault is not None, self._notify)
        self._pool: PoolClient | None = None
        self._rows: Rows | None = None
        self.failed: list[int] = []
        self.lost: list[int] = []
        self.unscored: dict[str, str] = {}
        self._silence = SilenceNotes(around.progress, around.store, around.invocation)
        self._timing = Timing()
        self._occupied = Occupied()
        self._news = threading.Condition()
        self._owns_ray = False
        self._compiler: subprocess.Popen[bytes] | None = None
        self._storage_fault: str | None = None
        self._reason: Exception | None = None
        self._heard: bool | None = None
        self._said: dict[str, float] = {}
        self._agenda = agenda(self)

    @property
    def pool(self) -> PoolClient:
        """The queue of work, once the session runs."""
        assert self._pool is not None, "the session has not started"
        return self._pool

    @property
    def rows(self) -> Rows:
        """Those in work, once the session runs."""
        assert self._rows is not None, "the session has not started"
        return self._rows

    def run(self) -> None:
        """Do the work.

        Raises:
            Stopped: the user interrupted; everything is recorded, the same command goes on.
            SessionFailed: no slot is left, another driver took over, or the storage stayed away.
        """
        try:
            self._start()
            self._agenda.work()
        except StorageAway as away:
            raise SessionFailed(f"{away.strerror}. {WHERE_IT_IS}") from away
        finally:
            self.phase("stopping")
            self._take_down()
            self.around.invocation.timing.update(self._timing.report())
            self._record_spending(at_once=True)
        if self._storage_fault is not None or self._pool_fault is not None:
            raise (
                self._reason_to_stop() or AssertionError
            )  # met by the last events, after which nobody waited

    # What an agenda uses

    def phase(self, name: Phase) -> None:
        """Tell the user what begins."""
        self.progress(PhaseShown(name=name))

    def say(self, text: str) -> None:
        """Tell the user, once a minute at most, what several workers may tell at the same time."""
        now = time.monotonic()
        if now - self._said.get(text, -SAY_S) >= SAY_S:
            self._said[text] = now
            self.progress(NoteShown(text=text))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that events bring about; raises what ends the session."""
        with self._news:
            while not condition():
                self.check()
                self._news.wait(0.2)

    def check(self) -> None:
        """Raise what ends the session, if anything does."""
        reason = self._reason_to_stop()
        if reason is not None:
            raise reason

    def should_stop(self) -> bool:
        """Whether the session ends. If so, all are told at once: Tune's actors answer when the pool does."""
        self._reason = self._reason_to_stop()
        if self._reason is None:
            return False
        self._tell_end()
        return True

    def score(self, named: Iterable[Named], reason: str, *, retrain: bool = False) -> None:
        """Score rows on the test images, and wait for those that are in work already.

        ``retrain`` cells first whose weights were dropped.
        """
        started = time.monotonic()
        rows = list(scoring_rows(self.rows, self.ledger, named, reason, retrain=retrain))
        if rows or self.rows.live:
            self.phase("finalists")
        self.rows.submit(rows)
        self.until(lambda: not self.rows.live)
        self._timing.confirm += time.monotonic() - started

    # Start and end

    def _start(self) -> None:
        """Start Ray, the pool and the first slots; Train is imported while Ray starts."""
        from orchestrator.slots import environment
        from orchestrator.slots.bytecode import compile_ahead

        self.phase("ray")
        if not environment.joins_cluster():
            self._compiler = compile_ahead()
        environment.prepare()
        imports = threading.Thread(target=_import_train, name="imports", daemon=True)
        imports.start()
        from orchestrator.slots.cluster import start_ray
        from orchestrator.slots.pool_actor import start_pool

        layout, slots = self.plan.slots, self.plan.study.slots
        self._owns_ray = start_ray(
            slots=layout.count if layout else 1,
            cpus=layout.cpus if layout else slots.cpus,
            gpus=layout.gpus if layout else 0.0,
            present=this_machine().gpus,
        )
        self.around.interrupt.install()
        self.check()
        self.phase("slots")
        self.serve(PoolClient(start_pool(), self.take))
        self.crew.open(self.pool, imports)
        self.budget_meter.gpus = self.crew.size.gpus if self.crew.size else 0.0

    def serve(self, pool: PoolClient) -> None:
        """Work with a pool from here on."""
        about = (self.around.tracker, self.progress, self.around.invocation)
        self._pool, self._rows = pool, Rows(self.plan, pool, *about)
        self.failed, self.lost, self.unscored = self._rows.failed, self._rows.lost, self._rows.unscored

    def _take_down(self) -> None:
        import ray

        if self._compiler is not None:
            self._compiler.kill()
            self._compiler.wait()
        self.crew.display.close()
        heard = self._tell_end()
        if self._pool is not None:
            self.crew.leave(heard)
            self._pool.close()
        self._agenda.close()
        if self._rows is not None:
            self._rows.close()
        if self._owns_ray:
            ray.shutdown()
        elif self._pool is not None:
            ray.kill(self._pool.actor)

    def _tell_end(self) -> bool:
        """Tell all that work, once; False if nobody is left to hear it."""
        if self._heard is None:
            self._agenda.stop()
            self.crew.stop()
            try:
                if self._pool is not None:
                    self._pool.stop()
                self._heard = True
            except TimeoutError:
                self._heard = True  # a busy pool; the call arrives
            except Exception:
                self._heard = False  # Ray is going down by itself
        return self._heard

    def _reason_to_stop(self) -> Exception | None:
        if self._reason is not None:
            return self._reason  # what ends with the session is none
        around = self.around
        if around.interrupt.requested.is_set():
            return Stopped()
        if around.lease.lost.is_set():
            return SessionFailed(
                f"this driver did not respond for a while (it was stopped, or cut off from the storage), and "
                f"{around.lease.successor_in_words} took study {around.store.name!r} over; this one ends and "
                "records nothing more",
                fix="leave it to the other: "
                + command("status", around.store.name, storage=around.store.storage.root),
            )
        if (fault := self._pool_fault) is not None:
            why = death_in_words(str(fault)) or type(fault).__name__
            return SessionFailed(f"the work queue crashed: {why}. {NOTHING_LOST}")
        if (error := self.crew.error) is not None:
            return SessionFailed(error)
        if self._storage_fault is not None:
            return SessionFailed(f"{self._storage_fault}. {WHERE_IT_IS}")
        return None

    @property
    def _pool_fault(self) -> BaseException | None:
        return None if self._pool is None else self._pool.fault

    # Events, on the reader's thread

    def take(self, events: list[Event]) -> None:
        """Take the pool's events in."""
        for event in events:
            try:
                self._take_one(event)
            except StorageAway as away:
                self._storage_fault = away.strerror
            except Exception:
                # One bad event must not end the study: the ledger has the work, a rerun tells it again.
                logger.exception("An event could not be recorded: %s", event)
        self._agenda.after_events()
        self._record_spending()
        self._notify()

    def _take_one(self, event: Event) -> None:
        event = with_error(event, redact)
        self._timing.take(event)
        self.budget_meter.take(event)
        self._silence.take(event)
        when = self._occupied.take(event)
        if when is not None and isinstance(event, ItemEvent) and not self.rows.held(event.item_id, when):
            self.around.invocation.held.append(when)
        match event:
            case Silence():
                self.crew.display.take(event)
                return
            case SlotEvent():
                self.crew.take(event)
                return
            case Waiting() | Note():
                self.say(event.text)
                return
            case Done(failure="storage"):
                self._storage_fault = event.error
            case CellsKnown() | ProbesKnown():
                self.around.started.set()
        self.crew.display.take(event)
        self.rows.take(event)

    def _record_spending(self, *, at_once: bool = False) -> None:
        try:
            self.budget_meter.record(at_once=at_once)
        except OSError as error:
            logger.warning("What was spent could not be recorded: %s", error)

    def _notify(self) -> None:
        with self._news:
            self._news.notify_all()


def _import_train() -> None:
    """What the slots need."""
    import orchestrator.slots.resident_run  # noqa: F401
