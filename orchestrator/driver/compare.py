"""Running a comparison: its missing rows are trained, then its chosen ones scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.compare.plan import ComparePlan
from orchestrator.compare.remaining import CompareTodo, find_work
from orchestrator.driver.invocation import Options, Outcome, run_invocation
from orchestrator.driver.unchanged import require_same_cells, require_same_inputs, require_same_rules
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.work.shown import Progress

if TYPE_CHECKING:
    from orchestrator.driver.session import Agenda, Session


def run_comparison(
    plan: ComparePlan,
    progress: Progress = lambda event: None,
    *,
    retry_failed: bool = False,
    options: Options | None = None,
) -> Outcome:
    """Train the missing cells of a comparison and score them on the test images, from where its records are.

    Args:
        plan: the comparison, checked.
        progress: shown to the user, see ``orchestrator.terminal``.
        retry_failed: train failed cells again; lost ones always are.
        options: how it is run.

    Raises:
        InputError: it was begun with other data or weights, another version trained its cells by other rules,
            or another driver runs it.
    """
    base = plan.base
    store = StudyStore(base.study.storage, base.study.name)
    require_same_inputs(base, store)

    def find(ledger: Ledger) -> CompareTodo:
        require_same_inputs(base, store)  # another driver may have run it before this one got the lease
        todo = find_work(plan, store, ledger, retry_failed=retry_failed)
        require_same_cells(base, store.name, todo.known, todo.readable)
        if todo.anything:
            require_same_rules(base, store.name, todo.known, todo.readable)
        store.save_study(base.study.to_plain(), base.inputs.to_dict())
        store.adopt(())
        return todo

    def agenda(session: Session, todo: CompareTodo) -> Agenda:
        from orchestrator.driver.compare_agenda import CompareAgenda

        return CompareAgenda(session, plan, todo, retry_failed=retry_failed)

    return run_invocation(base, store, find, agenda, progress, options or Options())
