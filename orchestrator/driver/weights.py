"""Weights of whole backbones: in-flight cells and finalists keep them, other finished cells only numbers.

A cell of full fine-tuning on ViT-B/16 holds 600 MB, with a CLIP per task 2.4 GB. A complete trial that is not
among the best by validation now will not be later either, so what it trained may go as soon as it is known,
unless another study of the storage needs it. The record says what went; ``confirm --retrain`` and the end of
a sweep bring it back by training the cell again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from mmap_model.methods import get_method
from orchestrator.driver.needed_weights import UnreadableStudy, needed_by, needed_elsewhere
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.ledger.cells import WEIGHTS
from orchestrator.rows.scoring import Named, finalists

Tell = Callable[[str], None]

logger = logging.getLogger(__name__)


class KeptWeights:
    """Follows the finalists of a study and drops what the others trained.

    Args:
        ledger: where the weights are.
        store: of the study.
        finalists: how many trials keep theirs, at least the winner.
        tell: takes, for the user, why weights stay that nobody seems to need.
    """

    def __init__(
        self, ledger: Ledger, store: StudyStore, finalists: int, tell: Tell = lambda text: None
    ) -> None:
        self._ledger, self._store, self._tell = ledger, store, tell
        self._count = max(1, finalists)
        self._best: list[TrialRecord] = []
        self._ended: set[int] = set()

    def ended(self, *records: TrialRecord) -> None:
        """Trials ended, now or in an earlier invocation; running and failed ones run again and keep all."""
        over = [r for r in records if r.state in ("complete", "pruned") and not keeps_weights(r)]
        among = [*self._best, *over]
        self._best = finalists(among, self._count)
        self._ended |= {record.number for record in over}
        best = {trial.number for trial in self._best}
        gone = [trial for trial in among if trial.number not in best]
        self._drop(self._ledger, (key for trial in gone for key in trial.keys))

    def scored(self, rows: Iterable[Named], ledger: Ledger) -> None:
        """Rows were scored on the test images: the reference rows among them are no candidates.

        Args:
            rows: with their names.
            ledger: where the scores are read; one that waits for its storage.
        """
        over = [record for name, record in rows if isinstance(name, str) and not keeps_weights(record)]
        self._drop(ledger, ledger.tests(key for record in over for key in record.keys))

    def _drop(self, ledger: Ledger, keys: Iterable[str]) -> None:
        def kept() -> set[str]:
            own = {key for trial in self._best for key in trial.keys}
            return own | needed_by(StudyStore(ledger.storage, self._store.name), ledger, ended=self._ended)

        drop_weights(ledger, keys, own=self._store.name, kept=kept, tell=self._tell)


def keeps_weights(record: TrialRecord) -> bool:
    """Whether every finished cell of the trial's method keeps what it trained."""
    return get_method(record.point["method"]).keeps_weights


def drop_weights(
    ledger: Ledger,
    keys: Iterable[str],
    *,
    own: str,
    kept: Callable[[], set[str]] = set,
    tell: Tell = lambda text: None,
) -> None:
    """Drop what finished cells trained, unless a study needs it or cannot be asked.

    What is not dropped now is left to a later call.

    Args:
        ledger: where the weights are.
        keys: of the cells.
        own: the study that needs none of them but ``kept``.
        kept: its cells that keep their weights; asked only if there is something to drop.
        tell: takes, for the user, why weights stay.
    """
    records = ledger.get_many(keys)
    holders = [
        key for key, record in records.items() if WEIGHTS in {**record["files"], **record.get("dropped", {})}
    ]
    if not holders:
        return
    try:
        needed = kept() | needed_elsewhere(ledger, own)
    except UnreadableStudy as unreadable:
        tell(f"Weights are kept that no readable study needs, because another may need them: {unreadable}")
        return
    for key in holders:
        if key not in needed:
            try:
                ledger.drop(key, WEIGHTS)
            except OSError as error:
                logger.warning("The weights of cell %s could not be deleted: %s", key, error)
