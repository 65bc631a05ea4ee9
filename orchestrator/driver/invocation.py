"""One run of a study or a comparison by one process: its lease, its record, its tracker, its outcome."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from mmap_model.errors import InputError
from orchestrator.commands import command
from orchestrator.driver.interrupt import Interrupt
from orchestrator.driver.last_news import deliver_rest, open_tracker, tell_left
from orchestrator.driver.notifying import NoNotices, open_notices, unasked
from orchestrator.driver.resumption import last_run_in_words
from orchestrator.driver.showing_live import ShowingLive
from orchestrator.ledger import DriverLease, Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.ledger.documents import now
from orchestrator.ledger.lease import WaitEnded
from orchestrator.ledger.live_record import LiveRecord
from orchestrator.ledger.local_state import RAY_FOLDER, local_state
from orchestrator.ledger.told import ToldStore
from orchestrator.notices.reporter import Ended
from orchestrator.redaction import shown_uri
from orchestrator.rows.showing import trial_shown
from orchestrator.statistics.spending import spent_before
from orchestrator.study import StudyPlan
from orchestrator.tracking.study_run import WriteReport
from orchestrator.tracking.tracker import NoTracker, Told, Tracker
from orchestrator.work.provenance import provenance
from orchestrator.work.shown import NoteShown, PhaseShown, Progress, SweepShown

if TYPE_CHECKING:
    from orchestrator.driver.session import Agenda, Session

EXECUTOR = "orchestrator.execution.executor:Executor"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an invocation ended.

    Attributes:
        state: ``complete``; ``interrupted`` by the user; ``failed``: it could not go on.
        error: why it failed.
        fix: what the user can do about it.
        failed: numbers of trials that failed in it.
        lost: numbers of trials whose workers kept dying; they run again with the next invocation.
        unscored: rows that could not be scored on the test images, and reference rows that could not be
            measured, with the reason by name; the next invocation tries again.
        trained: cells finished by it.
        exit_code: by the signal that interrupted it.
        note: what the user should know in the end.
        told: how MLflow was told.
    """

    state: Literal["complete", "interrupted", "failed"] = "complete"
    error: str | None = None
    fix: str = "the same command continues it"
    failed: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    unscored: Mapping[str, str] = field(default_factory=dict)
    trained: int = 0
    exit_code: int | None = None
    note: str | None = None
    told: Told = field(default_factory=Told)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a study is run, apart from what it is.

    Attributes:
        command: recorded with the invocation.
        tracked: tell MLflow.
        interrupt: ends the run in order; by default Ctrl-C, SIGTERM and SIGHUP.
        executor: ``module:attribute`` of what workers run.
        winner: says in words what the study found, for those who are told of its end.
        report: writes the report of the study, for the page of its runs; None leaves it out.
    """

    command: str = ""
    tracked: bool = True
    interrupt: Interrupt | None = None
    executor: str = EXECUTOR
    winner: Callable[[StudyStore, Ledger], str] = lambda store, ledger: ""
    report: WriteReport | None = None


class Work(Protocol):
    """What a driver finds to be done."""

    @property
    def anything(self) -> bool:
        """Whether Ray is needed at all."""
        ...

    @property
    def trials(self) -> int:
        """How many there are in all, and how many of them are done."""
        ...

    @property
    def done(self) -> int: ...
    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial of earlier runs."""
        ...

    @property
    def scoring(self) -> list[str]:
        """Keys of the cells that are to be scored on the test images, as far as known."""
        ...


Found = TypeVar("Found", bound=Work)


def run_invocation(
    plan: StudyPlan,
    store: StudyStore,
    find: Callable[[Ledger], Found],
    agenda: Callable[[Session, Found], Agenda],
    progress: Progress,
    options: Options,
) -> Outcome:
    """Run what is left of a study or a comparison, as the only driver of it.

    Args:
        plan: the study.
        store: its records.
        find: what is left; called once this is the only driver.
        agenda: does it; called only if there is anything.
        progress: shown to the user.
        options: how it is run.

    Raises:
        InputError: another driver runs it, or ``find`` refused.
    """
    invocation = Invocation(command=options.command, provenance=provenance())
    interrupt = options.interrupt or Interrupt()
    with store.driver_lease(invocation=invocation.id) as lease, interrupt:
        assert isinstance(lease, DriverLease)
        try:
            invocation.fence = lease.take(
                tell=lambda text: progress(NoteShown(text=text)), pause=interrupt.requested.wait
            )
        except WaitEnded:
            return Outcome(state="interrupted", exit_code=interrupt.exit_code)
        store.take_over(lease, invocation.id, spent_before(store).to_dict())
        ledger = Ledger(store.storage)
        todo = find(ledger)
        before = store.load_invocations()
        if said := last_run_in_words(before, store.predecessor, work_left=todo.anything):
            progress(NoteShown(text=said))
        store.load_test_evaluations()  # damaged ones are named with the others
        for damage in (*store.damaged, *ledger.damaged):
            progress(NoteShown(text=f"Damaged record: {damage}"))
        invocation.scoring = todo.scoring
        store.save_invocation(invocation)

        def end(state: str) -> None:
            invocation.outcome, invocation.ended_at = state, now()
            try:
                store.save_invocation(invocation)
            except OSError as error:
                logger.error("The end of this run could not be recorded: %s", error)

        notices = NoNotices()
        if todo.anything:
            again = options.command or command("sweep", store.name)
            notices = open_notices(plan.study.notify, store, invocation.id, again)
        live = ShowingLive(LiveRecord(store.storage, store.name), invocation.fence)
        progress = live.beside(notices.beside(progress))

        def quit() -> None:
            end("interrupted")
            if unasked(interrupt.signal):
                notices.ended(Ended(state="terminated"))

        interrupt.before_quitting = quit
        progress(_header(plan, store, todo))
        outcome = Outcome(state="failed")
        try:
            if todo.anything:
                about = (plan, store, ledger, progress, invocation, lease, interrupt, options)
                outcome = _work(lambda session: agenda(session, todo), *about)
            else:
                told = Told()
                if options.tracked:
                    fence, report = invocation.fence, options.report
                    told = tell_left(plan, store, ledger, fence, progress, interrupt, report)
                outcome = Outcome(note=told.note, told=told)
        finally:
            end(outcome.state)
            progress(PhaseShown(name="done"))
            live.close()
            if (told_of := _end_of(outcome, interrupt, lambda: options.winner(store, ledger))) is not None:
                notices.ended(told_of)
            rest = notices.close(interrupt.requested.is_set)
        if rest is not None:
            outcome = replace(outcome, note="\n".join(filter(None, (outcome.note, rest))))
        return outcome


def _end_of(outcome: Outcome, interrupt: Interrupt, winner: Callable[[], str]) -> Ended | None:
    """The end of a run as others are told of it; None where somebody at its terminal ended it."""
    if outcome.state == "interrupted":
        return Ended(state="terminated") if unasked(interrupt.signal) else None
    if outcome.state == "failed":
        error = sys.exc_info()[1]
        if isinstance(error, KeyboardInterrupt):
            return None
        if error is None:
            return Ended(state="failed", reason=f"{outcome.error}\nWhat to do: {outcome.fix}")
        return Ended(state="crashed", reason=f"{type(error).__name__}: {error}")
    found = ""
    try:
        found = winner()
    except Exception:
        logger.exception("The summary of the study could not be written")
    failed = len(outcome.failed) + len(outcome.lost)
    return Ended(state="complete", failed=failed, unscored=len(outcome.unscored), winner=found)


def _work(
    agenda: Callable[[Session], Agenda],
    plan: StudyPlan,
    store: StudyStore,
    ledger: Ledger,
    progress: Progress,
    invocation: Invocation,
    lease: DriverLease,
    interrupt: Interrupt,
    options: Options,
) -> Outcome:
    from orchestrator.driver.session import Session, SessionFailed, Stopped
    from orchestrator.driver.surroundings import Surroundings
    from orchestrator.slots.cluster import RayNotUp

    state = local_state(store.storage, store.name)
    state.mkdir(parents=True, exist_ok=True)
    for left in state.glob(f"{RAY_FOLDER}*"):  # by a driver that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=RAY_FOLDER, dir=state))
    gate = threading.Event()
    tracker: Tracker | NoTracker = NoTracker()
    if options.tracked:
        tracker = open_tracker(plan, store, ledger, invocation.fence, gate, options.report)
    else:
        ToldStore(store.storage, store.name).begin(invocation.fence)  # the next tracked run tells it
    around = Surroundings(
        plan=plan,
        store=store,
        ledger=ledger,
        tracker=tracker,
        progress=progress,
        invocation=invocation,
        lease=lease,
        interrupt=interrupt,
        folder=folder,
        executor=options.executor,
        started=gate,
    )
    session = Session(around, agenda)
    outcome = Outcome()
    try:
        session.run()
    except Stopped:
        outcome = Outcome(state="interrupted", exit_code=interrupt.exit_code)
    except SessionFailed as failure:
        outcome = Outcome(state="failed", error=str(failure), fix=failure.fix)
    except RayNotUp as failure:
        fix = "run the same command again when this machine has processor time to spare"
        outcome = Outcome(state="failed", error=str(failure), fix=fix)
    finally:
        gate.set()
        shutil.rmtree(folder, ignore_errors=True)
        told = deliver_rest(tracker, progress, interrupt)
    return replace(
        outcome,
        failed=tuple(session.failed),
        lost=tuple(session.lost),
        unscored=dict(session.unscored),
        trained=len(invocation.trained),
        note=told.note,
        told=told,
    )


def _header(plan: StudyPlan, store: StudyStore, todo: Work) -> SweepShown:
    study, best = plan.study, todo.best
    return SweepShown(
        study=store.name,
        trials=todo.trials,
        epochs=study.recipe.epochs,
        cells_per_trial=plan.cells_per_trial,
        slots=plan.slots.count if plan.slots else 0,
        done=todo.done,
        storage=store.storage.locate(""),
        tracking=shown_uri(study.tracking.resolved_uri),
        best=None if best is None else trial_shown(best, _values(plan, best), "complete"),
    )


def _values(plan: StudyPlan, record: TrialRecord) -> dict[str, Any]:
    """What was searched, by name, to show; nothing where the record names other parameters than the space."""
    try:
        return dict(plan.space.values(record.params))
    except InputError:
        return {}
