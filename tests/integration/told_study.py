"""A study that trains nothing but leaves real records and tells a real MLflow, without Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import stand_in

from orchestrator.compare.columns import recorded_run_name
from orchestrator.compare.plan import plan_comparison
from orchestrator.compare.remaining import find_work
from orchestrator.driver.compare_agenda import Columns
from orchestrator.driver.todo import find_todo
from orchestrator.driver.trials import Trials
from orchestrator.execution.executor import Executor
from orchestrator.ledger import Invocation, Ledger, StudyStore
from orchestrator.rows.reference import missing_references, reference_rows
from orchestrator.rows.row import Row
from orchestrator.rows.rows import Rows
from orchestrator.rows.scoring import Named, scoring_rows, unscored
from orchestrator.search.proposals import Proposals
from orchestrator.statistics.spending import spent_before
from orchestrator.study import load_plan
from orchestrator.tracking.retelling import Retelling
from orchestrator.tracking.study_run import WriteReport
from orchestrator.tracking.study_tracker import StudyTracker
from orchestrator.tracking.tracker import Told
from orchestrator.work.events import WorkEvent
from orchestrator.work.item import Control, WorkItem

SMALL = ("search.trials=3", "recipe.epochs=3", "seeds=[1,2]", "finalists=1")
"""Overrides of the demo."""


class Inline:
    """In place of the pool: items are done by whoever asks, one after the other."""

    def __init__(self) -> None:
        self.waiting: list[WorkItem] = []
        self.cancelled: set[str] = set()

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
        self.waiting.append(item)

    def go_on(self, item: WorkItem) -> None: ...
    def cancel(self, item_id: str) -> None:
        self.cancelled.add(item_id)

    def forget(self, item_id: str) -> None: ...


class ToldStudy:
    """One driver of a study: trials one after the other, the reference rows, the finalists.

    Args:
        folder: of the records.
        uri: of MLflow.
        name: of the study.
        after: called after every event, with its item's id.
        report: writes the study's report.
        study: packaged study that it is.
        small: overrides that make it small.
        overrides: of the study.

    Attributes:
        executor: does the work; another one may be put in its place.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        *overrides: str,
        name: str = "told",
        after: Callable[[ToldStudy, WorkEvent], None] = lambda study, event: None,
        report: WriteReport | None = None,
        study: str = "demo",
        small: Sequence[str] = SMALL,
    ) -> None:
        self.given = [f"storage={folder}", f"name={name}", f"tracking.uri={uri}", *small, *overrides]
        self.plan = load_plan(study, self.given)
        self.store = StudyStore(folder, name)
        self.lease = self.store.driver_lease()
        self.invocation = Invocation(fence=self.lease.take())
        self.store.take_over(self.lease, self.invocation.id, spent_before(self.store).to_dict())
        self.ledger = Ledger(self.store.storage)
        self.store.save_study(self.plan.study.to_plain(), self.plan.inputs.to_dict())
        self.queue, self.after = Inline(), after
        self.executor: Executor = stand_in.make({}, {}, str(folder))
        self.outboxes = folder / "outbox"
        self.tracker = self._track(report)
        self.rows = Rows(self.plan, self.queue, self.tracker, lambda event: None, self.invocation)
        proposals = Proposals(self.plan.space.suggest, first=self.plan.first)
        self.trials = Trials(self.rows, proposals, self.store, slots=lambda: 1)
        todo = find_todo(self.plan, self.store, self.ledger, reason="", retry_failed=False)
        self.store.adopt(todo.records)
        self.trials.recall(todo.records, todo.again)

    def _track(self, report: WriteReport | None) -> StudyTracker:
        fence = self.invocation.fence
        story = Retelling(self.store, self.ledger, label=recorded_run_name)
        about = (self.plan.study.tracking, self.plan.study, self.store, self.ledger, self.outboxes, fence)
        return StudyTracker(*about, story=story, report=report)

    def train(self) -> None:
        """Have a real executor do the work, in this process."""
        item = self.plan.work_item(self.plan.study.point, item_id="any")
        self.executor = Executor(
            item.dataset, item.backbone, item.storage, precision=item.precision, threads=1
        )

    def search(self, count: int) -> None:
        """Run so many trials."""
        for _ in range(count):
            if self.trials.launch() is not None:
                self._work()

    def finish(self) -> None:
        """The reference rows and the best trial on the test images."""
        points = missing_references(self.plan, self.store, self.ledger, self.store.load_trials())
        self._do(reference_rows(self.rows, self.store, points))
        self._score(unscored(self.plan, self.store, self.ledger, self.store.load_trials()))

    def close(self, timeout: float = 300) -> Told:
        """The driver ends."""
        self.trials.close()
        told = self.tracker.close(timeout)
        self.lease.release()
        return told

    def compare(self, *methods: str) -> Told:
        """In place of all that: a comparison of methods, scored."""
        name = self.store.name.removeprefix("compare-")
        further = [f"name={name}", "settings.source_rows=2", "settings.source_cols=16"]
        plan = plan_comparison("demo", [*self.given, *further], methods=methods)
        columns = Columns(plan, self.rows, self.store)
        while missing := find_work(plan, self.store, self.ledger).rows:
            self._do(columns.of(missing))
        todo = find_work(plan, self.store, self.ledger)
        self._score([(columns.tracked_as(row), record) for row, record in todo.unscored])
        return self.close()

    def _score(self, chosen: Sequence[Named]) -> None:
        self._do(scoring_rows(self.rows, self.ledger, chosen, "test"))

    def _do(self, rows: Iterable[Row]) -> None:
        self.rows.submit(rows)
        self._work()

    def _work(self) -> None:
        while self.queue.waiting:
            item = self.queue.waiting.pop(0)
            if item.purpose == "search" and item.point["grouping"] is not None:
                item = item.with_(
                    point={**item.point, "grouping": {**item.point["grouping"], "mode": "random"}}
                )

            def emit(event: WorkEvent) -> None:
                self.rows.take(event)
                self.after(self, event)

            def control(item_id: str = item.item_id) -> Control:
                return Control(cancel=item_id in self.queue.cancelled)

            self.executor.run(item, emit, control)


Story = dict[str, dict[str, Any]]
"""By run: what can be said about it, apart from ids and the clock."""


def story_of(uri: str, name: str, study: str) -> Story:
    """Everything that MLflow shows of a study; fails on a run or a metric's step that is there twice."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    found = [
        run
        for run in client.search_runs([experiment.experiment_id], max_results=5000)
        if run.data.tags.get("mmap.study") == study
    ]
    names = {run.info.run_id: run.data.tags["mmap.run"] for run in found}
    assert max(Counter(names.values()).values(), default=1) == 1, "a run is there twice"
    story = {}
    for run in found:
        metrics = {}
        for metric in run.data.metrics:
            points = client.get_metric_history(run.info.run_id, metric)
            assert len({point.step for point in points}) == len(points), (
                names[run.info.run_id],
                metric,
                points,
            )
            metrics[metric] = [(point.step, point.value, point.timestamp) for point in points]
        tags = dict(run.data.tags)
        if "mlflow.parentRunId" in tags:
            tags["mlflow.parentRunId"] = names[tags["mlflow.parentRunId"]]
        story[names[run.info.run_id]] = {
            "name": run.info.run_name,
            "status": run.info.status,
            "tags": tags,
            "params": run.data.params,
            "metrics": metrics,
        }
    return story
