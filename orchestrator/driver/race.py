"""Running a race: from its records to its end, seed after seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.driver.invocation import Options, Outcome, run_invocation
from orchestrator.driver.race_plan import RacePlan
from orchestrator.driver.race_todo import SURVIVORS, RaceTodo, find_race
from orchestrator.driver.unchanged import require_same_inputs
from orchestrator.ledger import CorruptError, Ledger, StudyStore
from orchestrator.statistics.race_records import TERMS, Terms, load_terms
from orchestrator.study.errors import StudyError
from orchestrator.work.shown import Progress

if TYPE_CHECKING:
    from orchestrator.driver.session import Agenda, Session


def run_race(
    plan: RacePlan,
    progress: Progress = lambda event: None,
    *,
    reason: str = SURVIVORS,
    retry_failed: bool = False,
    options: Options | None = None,
) -> Outcome:
    """Race the finalists on fresh seeds until the race ends, then score those that stand on the test images.

    Args:
        plan: the race, checked.
        progress: shown to the user, see ``orchestrator.terminal``.
        reason: recorded with the look at the test images.
        retry_failed: finalists that left because a cell failed race again.
        options: how it is run.

    Raises:
        InputError: it was begun on other terms, data or weights, or another driver runs it.
    """
    base = plan.base
    store = StudyStore(base.study.storage, base.study.name)
    require_same_inputs(base, store)
    _on_recorded_terms(plan, store)

    def find(ledger: Ledger) -> RaceTodo:
        require_same_inputs(base, store)  # another driver may have run it before this one got the lease
        agreed = _on_recorded_terms(plan, store)
        store.save_study(agreed.base.study.to_plain(), agreed.base.inputs.to_dict())
        if store.load_race(TERMS) != agreed.terms.to_dict():
            store.save_race(TERMS, agreed.terms.to_dict(), fence=store.fence)
        return find_race(agreed, store, ledger, retry_failed, reason)

    def agenda(session: Session, todo: RaceTodo) -> Agenda:
        from orchestrator.driver.race_agenda import RaceAgenda

        return RaceAgenda(session, todo)

    return run_invocation(base, store, find, agenda, progress, options or Options())


def _on_recorded_terms(plan: RacePlan, store: StudyStore) -> RacePlan:
    """The race as it was begun, with the budget wanted now.

    Raises:
        StudyError: its terms cannot be read, or others are wanted; says which.
    """
    try:
        known = load_terms(store)
    except CorruptError as error:
        known = _refuse_damaged(store, str(error))
    if known is None:
        if store.damaged and store.exists():
            _refuse_damaged(store, store.damaged[0])
        return plan
    wanted = plan.terms
    same: Sequence[tuple[str, str, Any, Any]] = (
        ("STUDY", "the study with id", known.study_id, wanted.study_id),
        ("--alpha", "level", known.alpha, wanted.alpha),
        ("--within", "within", known.within, wanted.within),
    )
    for where, what, before, now in same:
        if before != now:
            raise StudyError(
                f"race {store.name!r} was begun with {what} {_shown(before)}, now it is {_shown(now)}",
                where=where,
                fix="leave it as it was: what is decided would change. Other finalists race by themselves "
                "(--top, --trial)",
            )
    if wanted.budget < known.budget:
        raise StudyError(
            f"race {store.name!r} was begun with {known.budget} cells, now it is {wanted.budget}",
            where="--budget",
            fix=f"give {known.budget} or more",
        )
    shared = min(len(wanted.seeds), len(known.seeds))
    if wanted.seeds[:shared] != known.seeds[:shared]:
        raise StudyError(
            f"race {store.name!r} was begun on seeds {', '.join(known.seeds[:3])} …, now the first that the "
            f"search has not seen are {', '.join(wanted.seeds[:3])} …",
            where="search.warm_start",
            fix="put back the studies that the search started from",
        )
    return RacePlan(
        plan.base, dataclasses.replace(known, budget=wanted.budget, seeds=wanted.seeds), plan.records
    )


def _shown(value: Any) -> str:
    return "nothing" if value in (None, "") else f"{value}"


def _refuse_damaged(store: StudyStore, why: str) -> Terms:
    raise StudyError(
        f"the terms of race {store.name!r} cannot be read: {why}",
        where="STUDY",
        fix=f"restore studies/{store.name}/race from a backup; or remove the study's folder and race again: "
        "finished cells are found",
    )
