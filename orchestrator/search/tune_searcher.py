"""The search as Ray Tune sees it: a searcher that hands out trials while there are slots for them."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from ray.tune.search import Searcher

from orchestrator.search.thin_trial import EPOCH, OBJECTIVE

logger = logging.getLogger(__name__)


class TrialSource(Protocol):
    """What the driver offers: see ``orchestrator.driver.trials``."""

    @property
    def exhausted(self) -> bool:
        """No further trial will come."""
        ...

    def room(self, live: int) -> bool:
        """Whether another trial may run beside ``live`` ones."""
        ...

    def launch(self) -> dict[str, Any] | None:
        """Start the next trial's work; the configuration of its thin trial, or None if none is left."""
        ...

    def ended(self, number: int, state: str, epochs: dict[int, float]) -> None:
        """A thin trial ended: its state and objective by epoch."""
        ...


class Unsaved:
    """Tune pickles what it is given, to restore it some day. A study is resumed from its records instead."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TuneSearcher(Unsaved, Searcher):  # type: ignore[misc]
    """Asks the source for trials and tells it how they ended.

    When a scheduler stops a trial Tune does not pass its last result on, reaching the last epoch is such a
    stop, and after an actor was restarted epochs come again. So epochs are gathered here, only those that
    advance, the last one from the result that comes with the end. The state is what the thin trial says of
    its work; a trial that still said ``running`` was stopped by the scheduler.
    """

    def __init__(self, source: TrialSource) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self._source = source
        self._live: dict[str, int] = {}
        self._epochs: dict[str, dict[int, float]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._source.exhausted:
            return str(Searcher.FINISHED)
        if not self._source.room(len(self._live)):
            return None
        config = self._source.launch()
        if config is None:
            return str(Searcher.FINISHED)
        self._live[trial_id] = config["number"]
        self._epochs[trial_id] = {}
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._gather(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if trial_id not in self._live:
            return
        self._gather(trial_id, result or {})
        state = "lost" if error or result is None else result.get("state", "running")
        number, epochs = self._live.pop(trial_id), self._epochs.pop(trial_id)
        self._source.ended(number, "pruned" if state == "running" else state, epochs)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records of the study are the search's memory."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is resumed from its records, not from Tune's snapshot")

    def _gather(self, trial_id: str, result: dict[str, Any]) -> None:
        epochs = self._epochs.get(trial_id)
        epoch, mean = result.get(EPOCH), result.get(OBJECTIVE)
        if epochs is None or epoch is None or mean is None:
            return
        if not epochs or epoch > max(epochs):
            epochs[epoch] = mean
