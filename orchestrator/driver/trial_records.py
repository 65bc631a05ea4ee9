"""What is recorded of trials: kept up to date while they run, once and for all when their work is over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from orchestrator.ledger import Ledger, StudyStore, TrialRecord, WriteBehind
from orchestrator.ledger.trial_record import CONSTRAINTS, SAMPLER
from orchestrator.rows.row import End, Ends, Row
from orchestrator.rows.rows import Rows
from orchestrator.search.memory import after_end
from orchestrator.statistics.objectives import measure
from orchestrator.statistics.stages import STOPPED
from orchestrator.work.events import Done

logger = logging.getLogger(__name__)

STOPPED_BY = {"pruned": "scheduler", "cancelled": "user"}


class TrialRecords(Ends):
    """Decides what trials came to and writes their records; what cannot be written now is written later.

    Args:
        rows: of the driver.
        store: takes the records.
        behind: writes the records of trials in work; without it every change is written at once.
        on_end: told of every trial that ended, with its record as written.
        over: told when everyone else was.
        reached: told of trials that reached a further epoch.
        stage_over: told of trials whose first seeds are trained.
    """

    def __init__(
        self,
        rows: Rows,
        store: StudyStore,
        *,
        behind: WriteBehind | None,
        on_end: Callable[[TrialRecord], None],
        over: Callable[[Row], None],
        reached: Callable[[Row], None] = lambda row: None,
        stage_over: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self._rows, self._store, self._behind = rows, store, behind
        self._reached, self._stage_over = reached, stage_over
        self._on_end, self._over = on_end, over
        self._stopped_by: dict[str, End] = {}
        self._unsaved: dict[int, TrialRecord] = {}
        self._killed: dict[int, tuple[TrialRecord, str, str]] = {}

    def begin(self, record: TrialRecord) -> None:
        """Write it before its work is queued: should the driver be killed, the next takes the trial up."""
        try:
            self._store.save_trial(record)
            if record.attempts == 1:
                self._store.save_proposal(record, self._behind)
        except OSError as error:
            logger.error("The record of trial %d could not be written yet: %s", record.number, error)
            with self._rows.lock:
                self._unsaved[record.number] = record

    def stopped(self, item_id: str, reason: End) -> None:
        """A trial is about to be stopped: ``pruned`` or ``cancelled``; the first reason counts."""
        self._stopped_by.setdefault(item_id, reason)

    def flush(self) -> None:
        """Write the records that changed, and failures that nobody else records.

        Called after every batch of events; what fails is tried again.
        """
        with self._rows.lock:
            for number, record in list(self._unsaved.items()):
                try:
                    self._store.save_trial(record, self._behind)
                except OSError as error:
                    logger.error("The record of trial %d could not be written yet: %s", number, error)
                else:
                    del self._unsaved[number]
            for number, killed in list(self._killed.items()):
                try:
                    self._record_failures(*killed)
                except OSError as error:
                    logger.error("Failures of trial %d could not be written yet: %s", number, error)
                else:
                    del self._killed[number]

    def changed(self, row: Row) -> None:
        self._unsaved[row.record.number] = row.record

    def reached(self, row: Row) -> None:
        self._reached(row)

    def stage_over(self, row: Row) -> None:
        self._stage_over(row)

    def settle(self, row: Row, done: Done) -> End:
        end = self._settle(row, done)
        if (
            end != "interrupted"
            and (kept := row.record.attributes.pop(SAMPLER, None))
            and (left := after_end(kept))
        ):
            row.record.attributes[SAMPLER] = left
        return end

    def _settle(self, row: Row, done: Done) -> End:
        record, stopped_by = row.record, self._stopped_by.pop(row.item.item_id, None)
        if done.state == "cancelled" and stopped_by is not None:
            record.state = "pruned"
            record.attributes["stopped_by"] = STOPPED_BY[stopped_by]
            return stopped_by
        end = super().settle(row, done)
        if end == "complete":  # before it could be stopped
            record.attributes.pop(STOPPED, None)
        if end == "complete" and not self._rows.plan.study.search.aim.is_plain and not self._measured(record):
            record.state = "running"
            return "interrupted"
        if end == "complete" and self._rows.plan.study.protocol == "search" and record.value is None:
            record.state, record.error = "failed", "its objective is not a number"
            record.attributes["failure"] = "nan"
            return "failed"
        if end == "failed":
            failure = record.attributes["failure"] = done.failure or "raised"
            if done.killed:
                self._killed[record.number] = record, failure, done.error or ""
        return end

    def _measured(self, record: TrialRecord) -> bool:
        """Enter what else the study searches for or demands; False if the cells cannot be read now.

        What is not a number leaves no value.
        """
        aim = self._rows.plan.study.search.aim
        try:
            cells = Ledger(self._store.storage).get_many(record.keys)
        except OSError as error:
            logger.error("The cells of trial %d cannot be read: %s", record.number, error)
            return False
        found = measure(aim.names, record.cells, cells, record.parameters)
        if any(value is None for value in found.values()):
            record.value = None
            return True
        values = {name: value for name, value in found.items() if value is not None}
        if aim.several:
            record.value = [values[each.name] for each in aim.objectives]
        if aim.constraints:
            record.attributes[CONSTRAINTS] = {
                each.label: each.violation(values[each.name]) for each in aim.constraints
            }
        return True

    def ended(self, row: Row, end: End, done: Done) -> None:
        self._unsaved[row.record.number] = row.record
        self.flush()

    def over(self, row: Row) -> None:
        self._over(row)
        self._on_end(row.record)

    def _record_failures(self, record: TrialRecord, kind: str, error: str) -> None:
        """Of cells whose workers were killed with them; the others have recorded what became of theirs."""
        ledger = Ledger(self._store.storage)
        about: dict[str, Any] = {
            "study": self._rows.plan.study.name,
            "trial": record.number,
            "invocation": self._rows.invocation.id,
            "fence": self._rows.invocation.fence,
            "by": "driver",
        }
        for key in record.keys:
            if ledger.get(key) is None and ledger.failure(key) is None:
                ledger.record_failure(key, error, kind=kind, **about)
