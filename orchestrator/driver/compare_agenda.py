"""A comparison on Ray: the columns at every rate, the chosen rates on all seeds, the test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestrator.compare.columns import run_name
from orchestrator.compare.plan import ComparePlan, PlannedRow
from orchestrator.compare.remaining import CompareTodo, find_work, needless_weights
from orchestrator.driver.recorded_search import trial_item
from orchestrator.driver.session import Session
from orchestrator.driver.weights import drop_weights, keeps_weights
from orchestrator.ledger import StudyStore, TrialRecord
from orchestrator.rows.row import End, Ends, Row
from orchestrator.rows.rows import Rows
from orchestrator.work.events import Done

REASON = "compare: every column's cells, once trained"


class ColumnEnds(Ends):
    """A row of a column is recorded under its key, unless it is to be taken up again.

    Args:
        planned: what it trains.
        store: takes the record.
        rows: of the driver.
        on_end: told of the end.
    """

    def __init__(
        self, planned: PlannedRow, store: StudyStore, rows: Rows, on_end: Callable[[TrialRecord], None]
    ) -> None:
        self._planned, self._store, self._rows, self._on_end = planned, store, rows, on_end

    def ended(self, row: Row, end: End, done: Done) -> None:
        planned, record = self._planned, row.record
        if end == "interrupted":
            return
        record.epochs = record.epochs[-1:]
        record.attributes = {
            "column": planned.column,
            "split": planned.split.label,
            "lr": planned.lr,
            "tracked_as": row.run,
        }
        self._store.save_row(planned.key, record)

    def over(self, row: Row) -> None:
        self._rows.queue.forget(row.item.item_id)
        self._on_end(row.record)


class Columns:
    """Makes rows of what a comparison trains, numbered as they come.

    Args:
        plan: the comparison.
        rows: of the driver.
        store: takes the records.
        retry_failed: train failed cells again.
        on_end: told of every row that ended, with its record as written.
    """

    def __init__(
        self,
        plan: ComparePlan,
        rows: Rows,
        store: StudyStore,
        *,
        retry_failed: bool = False,
        on_end: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        self._plan, self._rows, self._store = plan, rows, store
        self._retry_failed, self._on_end = retry_failed, on_end
        self._columns = {column.name: column for column in plan.columns}
        self._next = 0

    def of(self, planned: Sequence[PlannedRow]) -> Iterator[Row]:
        """Rows; one that shares cells with another waits for it instead of training them twice."""
        items: dict[str, str] = {}
        for one in sorted(planned, key=lambda row: len(row.seeds)):  # what a row waits for comes before it
            number, self._next = self._next, self._next + 1
            driver = {"fence": self._rows.invocation.fence, "invocation": self._rows.invocation.id}
            item = self._plan.work_item(
                one, item_id=trial_item(number), retry_failed=self._retry_failed, **driver
            )
            about = {"column": one.column, "split": one.split.label}
            yield Row(
                item=item,
                record=self._rows.record(one.point, number),
                ends=ColumnEnds(one, self._store, self._rows, self._on_end),
                run=self.tracked_as(one),
                values=self._shown(one),
                tags={"kind": "column", **about},
                needs=[items[other.key] for other in planned if other.key in items and _within(other, one)],
            )
            items[one.key] = item.item_id

    def tracked_as(self, planned: PlannedRow) -> str:
        """Name of the row's run in MLflow: seeds that are added later join it, other recipes do not."""
        column = self._columns[planned.column]
        name = run_name(column.label, column.regime, planned.split.label, planned.lr)
        recipe = "shared" if planned.lr is None else self._plan.recipe_of(planned)
        return name if recipe == "shared" else f"{name} · {recipe}"

    def _shown(self, planned: PlannedRow) -> dict[str, object]:
        column = self._columns[planned.column]
        values = {"column": column.label, "regime": column.regime, "split": planned.split.label}
        return {name: value for name, value in {**values, "lr": planned.lr}.items() if value is not None}


class CompareAgenda:
    """Does what is to be done of a comparison.

    Args:
        session: does it.
        plan: the comparison.
        todo: what is to be done.
        retry_failed: train failed cells again.
    """

    def __init__(
        self, session: Session, plan: ComparePlan, todo: CompareTodo, *, retry_failed: bool = False
    ) -> None:
        self._session, self._plan, self._todo, self._retry_failed = session, plan, todo, retry_failed

    def work(self) -> None:
        """Train in turns, because the rates decide what comes next; then score."""
        session, todo = self._session, self._todo
        session.phase("columns")
        columns = Columns(
            self._plan,
            session.rows,
            session.store,
            retry_failed=self._retry_failed,
            on_end=self._drop_weights,
        )
        while todo.rows and not session.rows.lost:
            session.check()
            session.rows.submit(columns.of(todo.rows))
            session.until(lambda: not session.rows.live)
            todo = find_work(self._plan, session.store, session.ledger)
        unscored = [(columns.tracked_as(row), record) for row, record in todo.unscored]
        session.score(unscored, REASON, retrain=True)
        for _, record in unscored:
            self._drop_weights(record)

    def after_events(self) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def _drop_weights(self, record: TrialRecord) -> None:
        """A row was trained or scored: of whole backbones only weights that are still to be scored stay."""
        session = self._session
        if not keeps_weights(record):
            needless = needless_weights(self._plan, session.store.load_rows(), session.ledger)
            drop_weights(session.ledger, needless, own=session.store.name, tell=session.say)


def _within(small: PlannedRow, large: PlannedRow) -> bool:
    """Whether all cells of one row are among those of another with more seeds."""
    return (
        small.point == large.point
        and small.split == large.split
        and len(small.seeds) < len(large.seeds)
        and set(small.seeds) <= set(large.seeds)
    )
