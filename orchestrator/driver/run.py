"""Running a study. What there is to do is read from its records; if nothing is, Ray stays untouched."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from mmap_model.errors import InputError
from orchestrator.driver.confirmation import final_rows
from orchestrator.driver.draws import check_draws, keep_draws
from orchestrator.driver.interrupt import Interrupt
from orchestrator.driver.last_news import deliver_rest, open_tracker, tell_left
from orchestrator.driver.resumption import last_run_in_words
from orchestrator.driver.rows import Row, finalists
from orchestrator.driver.todo import Todo, find_todo
from orchestrator.driver.trials import Progress
from orchestrator.driver.unchanged import require_same_cells, require_same_inputs, require_same_rules
from orchestrator.ledger import DriverLease, DroppedError, Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.ledger.cells import WEIGHTS
from orchestrator.ledger.documents import now
from orchestrator.ledger.lease import WaitEnded
from orchestrator.ledger.local_state import RAY_FOLDER, local_state
from orchestrator.ledger.told import ToldStore
from orchestrator.redaction import shown_uri
from orchestrator.statistics.spending import spent_before
from orchestrator.study import StudyPlan, check_rerun, study_from_plain
from orchestrator.tracking.tracker import NoTracker, Told, Tracker
from orchestrator.work.provenance import provenance

if TYPE_CHECKING:
    from orchestrator.driver.session import Session, Surroundings

WORKBENCH = "orchestrator.execution.workbench:Workbench"

END_OF_SWEEP = "end of the sweep: the best by validation"

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
        workbench: ``module:attribute`` of what workers run.
    """

    command: str = ""
    tracked: bool = True
    interrupt: Interrupt | None = None
    workbench: str = WORKBENCH


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
    def scoring(self) -> list[str]:
        """Keys of the cells that are to be scored on the test images, as far as known."""
        ...

    def session(self, around: Surroundings) -> Session:
        """Who does it. Imports Ray."""
        ...


def run_study(
    plan: StudyPlan,
    progress: Progress = lambda event: None,
    *,
    retry_failed: bool = False,
    options: Options | None = None,
) -> Outcome:
    """Run a study to the end of its budget, from wherever its records are.

    Args:
        plan: the study, checked.
        progress: shown to the user, see ``orchestrator.terminal``.
        retry_failed: train failed cells again; lost ones always are.
        options: how it is run.

    Raises:
        InputError: the records are of another study of this name or of other data or weights, or another
            driver runs it.
    """
    store = StudyStore(plan.study.storage, plan.study.name)
    _check_stored(store, plan)

    def todo(ledger: Ledger) -> Todo:
        _check_stored(store, plan)  # another driver may have run it before this one got the lease
        todo = find_todo(plan, store, ledger, reason=END_OF_SWEEP, retry_failed=retry_failed)
        store.save_study(plan.study.to_plain(), plan.inputs.to_dict())
        keep_draws(store, plan.study, plan.dataset)
        store.adopt(todo.records)
        return todo

    return drive(plan, store, todo, progress, options or Options())


def confirm_study(
    plan: StudyPlan,
    progress: Progress = lambda event: None,
    *,
    numbers: Sequence[int] = (),
    reason: str = "asked for by confirm",
    retrain: bool = False,
    options: Options | None = None,
) -> Outcome:
    """Score trials of a study on the test images; what was scored is not looked at again.

    All files of their cells are read; cells with broken ones are trained again, scored or not.

    Args:
        plan: the study.
        progress: shown to the user.
        numbers: of complete trials; none: the finalists and the reference rows.
        reason: recorded with the look.
        retrain: train cells again whose weights were dropped when they were no finalists.
        options: how it is run.

    Raises:
        InputError: no such study or trial, a trial that is not complete, none at all, or one without weights;
            or the data or weights of the study were replaced.
    """
    store = StudyStore(plan.study.storage, plan.study.name)
    stored = store.load_study()
    if stored is None:
        raise InputError(
            f"there is no study {store.name!r} in {store.storage.locate('')}",
            where="STUDY",
            fix="run its sweep first",
        )
    require_same_inputs(plan, store)
    check_draws(store, plan.study, plan.dataset)

    def todo(ledger: Ledger) -> Todo:
        trials = store.load_trials()
        if not numbers:
            _check_finalists(plan, trials)
            rows = final_rows(plan, store, trials)
        else:
            rows = [(number, _complete(store, number)) for number in numbers]
        scored = ledger.tests(key for _, record in rows for key in record.keys)
        if not retrain:
            _refuse_dropped(ledger, store.name, rows, scored)
        rows = [row for row in rows if not all(k in scored and ledger.is_whole(k) for k in row[1].keys)]
        named = [(f"trial {name}" if isinstance(name, int) else name, record.keys) for name, record in rows]
        finished = ledger.get_many(key for _, keys in named for key in keys)
        require_same_cells(plan, store.name, named, finished)
        require_same_rules(plan, store.name, named, finished)
        store.save_study(stored, plan.inputs.to_dict())
        store.adopt(trials)
        return Todo(search=False, confirm=tuple(rows), reason=reason, retrain=retrain)

    return drive(plan, store, todo, progress, options or Options())


def _check_stored(store: StudyStore, plan: StudyPlan) -> None:
    stored = store.load_study()
    if stored is not None:
        check_rerun(study_from_plain(stored, f"stored study {store.name}"), plan.study)
        require_same_inputs(plan, store)


def drive(
    plan: StudyPlan,
    store: StudyStore,
    find: Callable[[Ledger], Work],
    progress: Progress,
    options: Options,
) -> Outcome:
    invocation = Invocation(command=options.command, provenance=provenance())
    interrupt = options.interrupt or Interrupt()
    with store.driver_lease(invocation=invocation.id) as lease, interrupt:
        assert isinstance(lease, DriverLease)
        try:
            invocation.fence = lease.take(
                tell=lambda text: progress({"kind": "note", "text": text}), pause=interrupt.requested.wait
            )
        except WaitEnded:
            return Outcome(state="interrupted", exit_code=interrupt.exit_code)
        store.take_over(lease, invocation.id, spent_before(store).to_dict())
        ledger = Ledger(store.storage)
        todo = find(ledger)
        before = store.load_invocations()
        if said := last_run_in_words(before, store.predecessor, work_left=todo.anything):
            progress({"kind": "note", "text": said})
        store.load_looks()  # damaged ones are named with the others
        for damage in (*store.damaged, *ledger.damaged):
            progress({"kind": "note", "text": f"Damaged record: {damage}"})
        invocation.scoring = todo.scoring
        store.save_invocation(invocation)

        def end(state: str) -> None:
            invocation.outcome, invocation.ended_at = state, now()
            try:
                store.save_invocation(invocation)
            except OSError as error:
                logger.error("How this run ended could not be recorded: %s", error)

        interrupt.before_quitting = lambda: end("interrupted")
        progress(_header(plan, store, todo))
        outcome = Outcome(state="failed")
        try:
            if todo.anything:
                outcome = _work(plan, todo, store, ledger, progress, invocation, lease, interrupt, options)
            else:
                told = Told()
                if options.tracked:
                    told = tell_left(plan, store, ledger, invocation.fence, progress, interrupt)
                outcome = Outcome(note=told.note, told=told)
        finally:
            end(outcome.state)
            progress({"kind": "phase", "name": "done"})
        return outcome


def _work(
    plan: StudyPlan,
    todo: Work,
    store: StudyStore,
    ledger: Ledger,
    progress: Progress,
    invocation: Invocation,
    lease: DriverLease,
    interrupt: Interrupt,
    options: Options,
) -> Outcome:
    from orchestrator.driver.session import SessionFailed, Stopped, Surroundings

    state = local_state(store.storage, store.name)
    state.mkdir(parents=True, exist_ok=True)
    for left in state.glob(f"{RAY_FOLDER}*"):  # by a driver that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=RAY_FOLDER, dir=state))
    gate = threading.Event()
    tracker: Tracker | NoTracker = NoTracker()
    if options.tracked:
        tracker = open_tracker(plan, store, ledger, invocation.fence, gate)
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
        workbench=options.workbench,
        started=gate,
    )
    session = todo.session(around)
    outcome = Outcome()
    try:
        session.run()
    except Stopped:
        outcome = Outcome(state="interrupted", exit_code=interrupt.exit_code)
    except SessionFailed as failure:
        outcome = Outcome(state="failed", error=str(failure), fix=failure.fix)
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


def _header(plan: StudyPlan, store: StudyStore, todo: Work) -> dict[str, object]:
    study = plan.study
    return {
        "kind": "sweep",
        "study": store.name,
        "trials": todo.trials,
        "epochs": study.recipe.epochs,
        "cells_per_trial": plan.cells_per_trial,
        "slots": plan.slots.count if plan.slots else 0,
        "done": todo.done,
        "storage": store.storage.locate(""),
        "tracking": shown_uri(study.tracking.resolved_uri),
    }


def _refuse_dropped(ledger: Ledger, study: str, rows: Sequence[Row], scored: Collection[str]) -> None:
    for name, row in rows:
        for key, record in ledger.get_many(key for key in row.keys if key not in scored).items():
            if WEIGHTS in record.get("dropped", {}):
                which = f" --trial {name}" if isinstance(name, int) else ""
                raise InputError(
                    f"{name}: {DroppedError(key, WEIGHTS, record['dropped'][WEIGHTS]['dropped_at'])}",
                    where="--trial",
                    fix=f"train it again and score it: orchestrator confirm {study}{which} --retrain",
                )


def _check_finalists(plan: StudyPlan, trials: Sequence[TrialRecord]) -> None:
    """A study without finalists leaves nothing to score, which must not look like success."""
    name = plan.study.name
    if not finalists(trials, 1):
        raise InputError(
            f"none of the {len(trials)} trials of study {name!r} is complete, so there is nothing to score",
            where="STUDY",
            fix=f"run its sweep: orchestrator sweep {name}; how it stands: orchestrator status {name}",
        )
    if not plan.study.finalists:
        raise InputError(
            f"study {name!r} has finalists: 0, so there is nothing to score",
            where="finalists",
            fix=f"name trials: orchestrator confirm {name} --trial N",
        )


def _complete(store: StudyStore, number: int) -> TrialRecord:
    record = store.load_trial(number)
    if record is None or record.state != "complete":
        raise InputError(
            f"trial {number} is {record.state if record else 'unknown'}",
            where="--trial",
            fix="give numbers of complete trials; orchestrator results lists them",
        )
    return record
