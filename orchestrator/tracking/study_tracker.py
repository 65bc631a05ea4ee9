"""A driver's tracker: opened with what its records know, closed with a mark of what its backend knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from orchestrator.commands import command
from orchestrator.ledger import Ledger, StudyStore, WriteBehind
from orchestrator.ledger.holding import observe
from orchestrator.ledger.told import ToldStore
from orchestrator.redaction import redact
from orchestrator.study.model import Study, Tracking
from orchestrator.tracking.backend import Backend, Connection
from orchestrator.tracking.backends import find_backend
from orchestrator.tracking.narration import Narration
from orchestrator.tracking.operations import STUDY_RUN, Operation
from orchestrator.tracking.parameters import fixed
from orchestrator.tracking.process import BackendProcess
from orchestrator.tracking.retelling import Retelling
from orchestrator.tracking.row import TrackedRow
from orchestrator.tracking.study_run import REPORT_FILE, StudyRun, WriteReport
from orchestrator.tracking.tracker import Told, Tracker

CLOSE_S = 5.0
"""Seconds to write the last rows."""

logger = logging.getLogger(__name__)


class StudyTracker(Tracker):
    """Tells a backend about a study on behalf of the holder of its lease.

    Args:
        to: where runs are shown.
        study: the study.
        store, ledger: its records.
        outboxes: local folder of its outboxes.
        fence: of the driver; 0 to tell another server than the study's own, beside a driver.
        story: the study's rows from the records.
        before_connect: waits until the backend's client may be imported.
        everything: tell all of the study again, whatever was told already.
        report: writes the study's report; None leaves it out.
    """

    def __init__(
        self,
        to: Tracking,
        study: Study,
        store: StudyStore,
        ledger: Ledger,
        outboxes: Path,
        fence: int,
        *,
        story: Retelling,
        before_connect: Callable[[], object] = lambda: None,
        everything: bool = False,
        report: WriteReport | None = None,
    ) -> None:
        self._fence, self._store, self._running = fence, store, story.running
        if not find_backend(to.resolved_uri, to.backend).keeps_reports:
            report = None
        self._of_study = StudyRun(study, store, ledger, report)
        self._ending: list[Operation] | None = None
        self._told = ToldStore(store.storage, store.name)
        self._behind = WriteBehind(store.storage)
        told_up_to = self._begin()
        tags = {"dataset": study.dataset.name, "backbone": study.backbone.model}
        connection = Connection(
            uri=to.resolved_uri,
            backend=to.backend,
            experiment=store.name,
            study=store.id,
            tags={"study": store.name, **tags},
            varies=self._of_study.varies,
            adopts=store.adopts,
            outbox=str(outboxes / str(fence)),
        )

        def connect() -> Backend:
            before_connect()
            return BackendProcess(connection)

        super().__init__(
            to.resolved_uri,
            outboxes,
            connect=connect,
            narration=Narration(study=store.name, tags=tags, fixed=fixed(study), locate=ledger.locate),
            again=command("track", store.name, storage=store.storage.root),
            fence=fence,
            story=story.rows,
            keep=self._keep_row,
            told_up_to=None if everything else told_up_to,
            is_current=lambda: store.fence_valid(fence),
        )
        self._append(self._about_study(self._of_study.begun))

    def tell_findings(self) -> None:
        """Tell what the study has found, as its records have it now: the end of the study's own run.

        Nothing is told beside a driver at work elsewhere, which will tell it.
        """
        if self._ending is None and not self._running:
            self._ending = self._about_study(lambda: self._of_study.ended(self._outbox.folder))
            self._append(self._ending)

    def close(self, timeout: float = 60.0, hurry: Callable[[], bool] = lambda: False) -> Told:
        """See ``Tracker``; whether all was told is recorded for the next driver.

        In a hurry, as after Ctrl-C, what the study has found is left to the next run: of a large study it
        takes longer than an interrupted process has.
        """
        if self._ending is None and not self._running and hurry():
            self._append(self._of_study.interrupted())
        else:
            self.tell_findings()
        told = super().close(timeout, hurry)
        if told.delivered:
            (self._outbox.folder / REPORT_FILE).unlink(missing_ok=True)
        if self.complete and self._fence:
            try:
                self._told.complete(self._fence)
            except OSError as error:
                logger.warning("The next run sends all of the study again: %s", error)
        if not self._behind.close(CLOSE_S):
            logger.warning("Some rows could not be recorded: they cannot be sent again in full")
        return told

    def _begin(self) -> str | None:
        """Up to where all has been told; nothing is owed of a study without any result."""
        if not self._fence:
            return None
        try:
            mark = self._told.begin(self._fence)
            owed = any(
                self._store.storage.names(f"studies/{self._store.name}/{part}") for part in ("trials", "rows")
            )
            return mark if mark is not None or owed else ""
        except OSError as error:
            logger.warning("All of the study is sent again: %s", error)
            return None

    def _tell_rows(self, runs: Collection[str] | None, own: bool) -> Iterator[list[Operation]]:
        """The study's own run, then its rows."""
        ending = self._ending or []
        if runs is not None:  # to set right what this driver may have overwritten of a later one's
            seen = observe(self._store.storage, f"studies/{self._store.name}/driver")
            over = STUDY_RUN in runs and (seen is None or seen.is_free)
            ending = self._about_study(lambda: self._of_study.ended(None)) if over else []
        if runs is None or STUDY_RUN in runs:
            told = [*self._about_study(self._of_study.begun), *ending]
            if told:  # an empty list would be the end of the story
                yield told
        yield from super()._tell_rows(runs, own)

    def _about_study(self, tell: Callable[[], list[Operation]]) -> list[Operation]:
        """What is to be told of the study as a whole; nothing, with a warning, if its records do not say."""
        try:
            return tell()
        except Exception as error:  # damaged or foreign records must not end a study or hide its trials
            logger.warning("The run of the study itself is not sent: %s", redact(repr(error)))
            return []

    def _keep_row(self, row: TrackedRow) -> None:
        self._told.save_row(row.name, self._fence, row.to_dict(), self._behind)
