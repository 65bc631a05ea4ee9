"""The trials of a study with a queue that only remembers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.driver.todo import find_todo
from orchestrator.driver.trials import Trials
from orchestrator.ledger import Invocation, Ledger, StudyStore
from orchestrator.rows.rows import Rows
from orchestrator.search.proposals import Proposals
from orchestrator.study import StudyPlan
from orchestrator.tracking.tracker import NoTracker
from orchestrator.work.events import (
    CellsKnown,
    CellState,
    CellStatus,
    Done,
    EndState,
    EpochReached,
)
from orchestrator.work.item import WorkItem
from orchestrator.work.shown import Shown

KEYS = ("k1", "k2", "k3")


class Queue:
    """Remembers."""

    def __init__(self) -> None:
        self.submitted: dict[str, tuple[WorkItem, list[str]]] = {}
        self.parts: dict[str, list[WorkItem]] = {}
        self.cancelled: list[str] = []
        self.further: list[WorkItem] = []
        self.forgotten: list[str] = []

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
        self.submitted.setdefault(item.item_id, (item, list(needs)))
        self.parts[item.item_id] = list(parts)

    def go_on(self, item: WorkItem) -> None:
        self.further.append(item)

    def cancel(self, item_id: str) -> None:
        self.cancelled.append(item_id)

    def forget(self, item_id: str) -> None:
        self.forgotten.append(item_id)


class Harness:
    """The trials of one invocation and everything around them."""

    def __init__(self, plan: StudyPlan, *, slots: int = 2, **options: Any) -> None:
        self.plan = plan
        self.store = StudyStore(plan.study.storage, plan.study.name)
        self.queue = Queue()
        self.shown: list[Shown] = []
        self.invocation = Invocation(fence=1)
        self.rows = Rows(plan, self.queue, NoTracker(), self.shown.append, self.invocation)
        self.trials = Trials(
            self.rows,
            Proposals(plan.space.suggest, first=plan.first),
            self.store,
            slots=lambda: slots,
            **options,
        )

    def recall(self, **options: Any) -> Harness:
        todo = find_todo(
            self.plan,
            self.store,
            Ledger(self.store.storage),
            reason="",
            retry_failed=options.get("retry_failed", False),
        )
        self.trials.recall(todo.records, todo.again, todo.lost)
        return self

    def cells(self, number: int, status: CellStatus = "new") -> None:
        cells = [
            CellState(key=f"{k}-{number}", split="6-shot", seed=str(i), parameters=10, status=status)
            for i, k in enumerate(KEYS)
        ]
        self.rows.take(CellsKnown(item_id=f"trial-{number}", cells=cells))

    def epochs(self, number: int, means: Sequence[float]) -> None:
        item = f"trial-{number}"
        for epoch, mean in enumerate(means, 1):
            self.rows.take(EpochReached(item_id=item, epoch=epoch, mean=mean, values=[mean] * 3, reports={}))

    def done(self, number: int, state: EndState = "complete", error: str | None = None, **more: Any) -> None:
        seconds = {"total": 2.0}
        self.rows.take(Done(item_id=f"trial-{number}", state=state, error=error, seconds=seconds, **more))

    def commit(self, number: int, **metrics: Any) -> None:
        for key in KEYS:
            Ledger(self.store.storage).commit(f"{key}-{number}", {"metrics": metrics}, {})

    def complete(self, number: int, mean: float = 0.5) -> None:
        self.cells(number)
        self.epochs(number, [mean - 0.1, mean])
        self.commit(number)
        self.done(number)
        self.trials.ended(number, "complete", {1: mean - 0.1, 2: mean})

    def record(self, number: int) -> Any:
        return self.store.load_trial(number)
