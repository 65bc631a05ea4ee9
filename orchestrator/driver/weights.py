"""Weights of whole backbones: in-flight cells and finalists keep them, other finished cells only numbers.

A cell of full fine-tuning on ViT-B/16 holds 600 MB, with a CLIP per task 2.4 GB. A complete trial that is not
among the best by validation now will not be later either, so what it trained may go as soon as it is known.
The record says what went; ``confirm --retrain`` brings it back by training the cell again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from mmap_model.methods import get_method
from orchestrator.driver.rows import Row, finalists
from orchestrator.ledger import Ledger, TrialRecord
from orchestrator.ledger.cells import WEIGHTS

logger = logging.getLogger(__name__)


class KeptWeights:
    """Follows the finalists of a study and drops what the others trained.

    Args:
        ledger: where the weights are.
        finalists: how many trials keep theirs, at least the winner.
    """

    def __init__(self, ledger: Ledger, finalists: int) -> None:
        self._ledger = ledger
        self._count = max(1, finalists)
        self._best: list[TrialRecord] = []

    def ended(self, record: TrialRecord) -> None:
        """A trial ended, now or in an earlier invocation; running and failed ones run again and keep all."""
        if keeps_weights(record) or record.state not in ("complete", "pruned"):
            return
        among = [*self._best, record]
        self._best = finalists(among, self._count)
        best = {trial.number for trial in self._best}
        gone = [trial for trial in among if trial.number not in best]
        kept = {key for trial in self._best for key in trial.keys}
        drop_weights(self._ledger, (key for trial in gone for key in trial.keys if key not in kept))

    def scored(self, rows: Iterable[Row], ledger: Ledger) -> None:
        """Rows were scored on the test images: the reference rows among them are no candidates.

        Args:
            rows: with their names.
            ledger: where the scores are read; one that waits for its storage.
        """
        kept = {key for trial in self._best for key in trial.keys}
        for name, record in rows:
            if isinstance(name, str) and not keeps_weights(record):
                scored = ledger.tests(record.keys)
                drop_weights(self._ledger, (key for key in scored if key not in kept))


def keeps_weights(record: TrialRecord) -> bool:
    """Whether every finished cell of the trial's method keeps what it trained."""
    return get_method(record.point["method"]).keeps_weights


def drop_weights(ledger: Ledger, keys: Iterable[str]) -> None:
    """Drop what finished cells trained; what cannot be deleted now is left to a later call."""
    for key in keys:
        try:
            ledger.drop(key, WEIGHTS)
        except OSError as error:
            logger.warning("The weights of cell %s could not be deleted: %s", key, error)
