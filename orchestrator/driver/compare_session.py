"""A comparison on Ray: the columns at every rate, the chosen rates on all seeds, the test images."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.driver.column_rows import ColumnRows
from orchestrator.driver.compare import REASON, CompareTodo, find_work, needless_weights
from orchestrator.driver.pool_client import PoolClient
from orchestrator.driver.rows import Row
from orchestrator.driver.session import Part, Session, Surroundings
from orchestrator.driver.weights import drop_weights, keeps_weights
from orchestrator.ledger import TrialRecord


class CompareSession(Session):
    """Does what is to be done of a comparison.

    Args:
        around: what it works with.
        todo: what is to be done.
    """

    def __init__(self, around: Surroundings, todo: CompareTodo) -> None:
        super().__init__(around)
        self._todo = todo
        self._rows: ColumnRows | None = None

    def _work(self, pool: PoolClient) -> None:
        self._progress({"kind": "phase", "name": "columns"})
        rows = ColumnRows(
            self._todo.plan,
            pool,
            self._patient_store,
            self._tracker,
            self._progress,
            self._invocation,
            retry_failed=self._todo.retry_failed,
            on_end=self._drop_weights,
        )
        self._rows = rows
        self.failed, self.lost = rows.failed, rows.lost
        todo = self._todo
        while todo.rows and not rows.lost:
            self._check()
            rows.submit(todo.rows)
            self._until(lambda: not rows.live)
            todo = find_work(self._todo.plan, self._patient_store, self._patient_ledger)
        unscored: list[Row] = [(rows.tracked_as(row), record) for row, record in todo.unscored]
        self._score(pool, unscored, REASON, retrain=True)
        for _, record in unscored:
            self._drop_weights(record)

    def _drop_weights(self, record: TrialRecord) -> None:
        """A row was trained or scored: of whole backbones only weights that are still to be scored stay."""
        if not keeps_weights(record):
            known = self._patient_store.load_rows()
            needless = needless_weights(self._todo.plan, known, self._patient_ledger)
            drop_weights(self._patient_ledger, needless, own=self._store.name, tell=self._say)

    def _parts(self) -> Iterable[Part]:
        return [] if self._rows is None else [self._rows]

    def _close_work(self) -> None:
        if self._rows is not None:
            self._rows.close()
