"""The test images of rows that are final whatever the last trials come to, by slots that would idle."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable

from orchestrator.driver.session import Session
from orchestrator.ledger import TrialRecord
from orchestrator.rows.scoring import Named, finalists, scoring_rows


class EarlyScores:
    """Scores what no trial in work can displace, once no further trial will come.

    While the last trials are in work some slots have nothing else to do. No test image is read before the
    last trial was proposed, and no row is scored that would not be at the end. What fails is told, and left
    to the next run of the study.

    Args:
        session: does the work.
        reason: recorded with each look at the test images.
        retrain: see ``scoring_rows``.
        ended: trials of earlier invocations that do not run again.

    Attributes:
        named: rows that were claimed, by name: they were scored in this run, or are being scored.
    """

    def __init__(
        self, session: Session, reason: str, *, retrain: bool, ended: Iterable[TrialRecord] = ()
    ) -> None:
        self._session, self._reason, self._retrain = session, reason, retrain
        self._finalists = session.plan.study.finalists
        self._best = finalists(ended, self._finalists)
        self._references: dict[str, TrialRecord] = {}
        self._seen: set[int | str] = set()
        self._lock = threading.Lock()
        self.named: dict[int | str, TrialRecord] = {}

    def claim(self, name: int | str, record: TrialRecord) -> bool:
        """Whether a row is to be scored now; False if it was claimed before."""
        with self._lock:
            claimed = name not in self.named
            self.named.setdefault(name, record)
        return claimed

    def ended(self, record: TrialRecord) -> None:
        """A trial ended."""
        self._best = finalists([*self._best, record], self._finalists)

    def measured(self, name: str, record: TrialRecord) -> None:
        """A reference row was measured during the search."""
        self._references[name] = record

    def score(self, name: int | str, record: TrialRecord) -> None:
        """Score a row now, unless the study has no finalists or it was claimed before."""
        session, named = self._session, [(name, record)]
        if self._finalists and self.claim(name, record):
            rows = scoring_rows(session.rows, session.ledger, named, self._reason, retrain=self._retrain)
            session.rows.submit(rows)

    def look(self, in_work: int | None) -> None:
        """Score the reference rows and the finalists that are certain.

        Args:
            in_work: how many trials are, where no further one will come; None where others may. After the
                last one the search is over, and what is left is scored in the order of its end.
        """
        if not in_work or not self._best:
            return
        certain = self._best[: max(0, self._finalists - in_work)]
        final: list[Named] = [*self._references.items(), *((trial.number, trial) for trial in certain)]
        for name, record in final:
            if name not in self._seen:
                self._seen.add(name)
                with contextlib.suppress(OSError):  # the end of the search reads again
                    scored = self._session.ledger.tests(record.keys)
                    if any(key not in scored for key in record.keys):
                        self.score(name, record)
