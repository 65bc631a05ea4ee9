"""Running a study. What there is to do is read from its records; if nothing is, Ray stays untouched."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mmap_model.errors import InputError
from orchestrator.commands import command
from orchestrator.driver.draws import check_draws, keep_draws
from orchestrator.driver.invocation import Options, Outcome, run_invocation
from orchestrator.driver.todo import Todo, find_todo
from orchestrator.driver.unchanged import require_same_cells, require_same_inputs, require_same_rules
from orchestrator.driver.warm_start import recorded_or_found
from orchestrator.ledger import DroppedError, Ledger, StudyStore, TrialRecord
from orchestrator.ledger.cells import WEIGHTS
from orchestrator.rows.scoring import Named, final_rows, finalists
from orchestrator.study import StudyPlan, check_rerun, continued, study_from_plain
from orchestrator.work.shown import Progress

if TYPE_CHECKING:
    from orchestrator.driver.session import Agenda, Session

BY_CONFIRM = "by the confirm command"
END_OF_SWEEP = "end of the sweep: the best by validation"


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
    plan = _continued(store, plan)
    _check_stored(store, plan)

    def todo(ledger: Ledger) -> Todo:
        _check_stored(store, plan)  # another driver may have run it before this one got the lease
        todo = find_todo(plan, store, ledger, reason=END_OF_SWEEP, retry_failed=retry_failed)
        warm_start, is_kept = recorded_or_found(plan, store)  # refused before the study is on record
        store.save_study(plan.study.to_plain(), plan.inputs.to_dict())
        keep_draws(store, plan.study, plan.dataset)
        store.adopt(todo.records)
        if not is_kept:
            store.save_warm_start(warm_start.to_dict())
        return replace(todo, warm_start=warm_start)

    return run_invocation(plan, store, todo, _agenda, progress, options or Options())


def confirm_study(
    plan: StudyPlan,
    progress: Progress = lambda event: None,
    *,
    numbers: Sequence[int] = (),
    reason: str = BY_CONFIRM,
    retrain: bool = False,
    options: Options | None = None,
) -> Outcome:
    """Score trials of a study on the test images; what was scored is not looked at again.

    All files of their cells are read; cells with broken ones are trained again, scored or not.

    Args:
        plan: the study.
        progress: shown to the user.
        numbers: of complete trials; none: the finalists and the reference rows.
        reason: recorded with the test-set evaluation.
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

    return run_invocation(plan, store, todo, _agenda, progress, options or Options())


def _agenda(session: Session, todo: Todo) -> Agenda:
    from orchestrator.driver.study_agenda import StudyAgenda

    return StudyAgenda(session, todo)


def _continued(store: StudyStore, plan: StudyPlan) -> StudyPlan:
    """The plan as what is stored goes on: by the rule of its scheduler that it was begun with."""
    stored = store.load_study()
    if stored is None:
        return plan
    study = continued(plan.study, study_from_plain(stored, f"stored study {store.name}"))
    return plan if study == plan.study else replace(plan, study=study)


def _check_stored(store: StudyStore, plan: StudyPlan) -> None:
    stored = store.load_study()
    if stored is not None:
        check_rerun(study_from_plain(stored, f"stored study {store.name}"), plan.study)
        require_same_inputs(plan, store)


def _refuse_dropped(ledger: Ledger, study: str, rows: Sequence[Named], scored: Collection[str]) -> None:
    for name, row in rows:
        for key, record in ledger.get_many(key for key in row.keys if key not in scored).items():
            if WEIGHTS in record.get("dropped", {}):
                which = ("--trial", str(name)) if isinstance(name, int) else ()
                again = command("confirm", study, *which, "--retrain", storage=ledger.storage.root)
                raise InputError(
                    f"{name}: {DroppedError(key, WEIGHTS, record['dropped'][WEIGHTS]['dropped_at'])}",
                    where="--trial",
                    fix=f"train it again and score it: {again}",
                )


def _check_finalists(plan: StudyPlan, trials: Sequence[TrialRecord]) -> None:
    """A study without finalists leaves nothing to score, which must not look like success."""
    name = plan.study.name
    if not finalists(trials, 1):
        raise InputError(
            f"none of the {len(trials)} trials of study {name!r} is complete, so there is nothing to score",
            where="STUDY",
            fix="run its sweep; how it stands: " + command("status", name, storage=plan.study.storage),
        )
    if not plan.study.finalists:
        raise InputError(
            f"study {name!r} has finalists: 0, so there is nothing to score",
            where="finalists",
            fix=f"name trials: {command('confirm', name, storage=plan.study.storage)} --trial N",
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
