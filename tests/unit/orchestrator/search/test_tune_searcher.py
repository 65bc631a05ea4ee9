"""The searcher that Tune calls."""

from __future__ import annotations

from typing import Any

import pytest
from ray.tune.search import Searcher

from orchestrator.search.tune_searcher import TuneSearcher


class Source:
    """A driver with two slots and three trials."""

    def __init__(self) -> None:
        self.left = 3
        self.told: list[tuple[int, str, dict[int, float]]] = []

    @property
    def exhausted(self) -> bool:
        return not self.left

    def room(self, live: int) -> bool:
        return live < 2

    def launch(self) -> dict[str, Any] | None:
        self.left -= 1
        return {"number": 2 - self.left, "item": f"trial-{2 - self.left}", "epochs": 2}

    def ended(self, number: int, state: str, epochs: dict[int, float]) -> None:
        self.told.append((number, state, epochs))


def test_trials_are_handed_out_while_there_are_slots_and_then_no_more() -> None:
    source = Source()
    searcher = TuneSearcher(source)
    assert searcher.suggest("a")["number"] == 0  # type: ignore[index]
    assert searcher.suggest("b")["number"] == 1  # type: ignore[index]
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", {"epoch": 2, "mean": 0.5, "state": "complete"})
    assert searcher.suggest("c")["number"] == 2  # type: ignore[index]
    assert searcher.suggest("d") == Searcher.FINISHED
    assert source.told == [(0, "complete", {2: 0.5})]


@pytest.mark.parametrize(
    ("result", "error", "state"),
    [
        ({"epoch": 3, "mean": 0.3, "state": "complete"}, False, "complete"),
        ({"epoch": 3, "mean": 0.3, "state": "running"}, False, "pruned"),
        ({"epoch": 2, "state": "failed"}, False, "failed"),
        (None, True, "lost"),
    ],
)
def test_the_last_result_counts_and_a_trial_still_running_was_pruned(
    result: dict[str, Any] | None, error: bool, state: str
) -> None:
    source = Source()
    searcher = TuneSearcher(source)
    searcher.suggest("a")
    searcher.on_trial_result("a", {"epoch": 1, "mean": 0.1, "state": "running"})
    searcher.on_trial_result("a", {"epoch": 2, "mean": 0.2, "state": "running"})
    searcher.on_trial_complete("a", result, error)
    last = {3: 0.3} if result and "mean" in result else {}
    assert source.told == [(0, state, {1: 0.1, 2: 0.2, **last})]


def test_epochs_told_again_after_a_restarted_actor_change_nothing() -> None:
    source = Source()
    searcher = TuneSearcher(source)
    searcher.suggest("a")
    for epoch in (1, 2, 1, 2):
        searcher.on_trial_result("a", {"epoch": epoch, "mean": epoch / 10, "state": "running"})
    searcher.on_trial_result("a", {"epoch": 1, "mean": 9.9, "state": "running"})
    searcher.on_trial_complete("a", {"epoch": 3, "mean": 0.3, "state": "complete"})
    assert source.told == [(0, "complete", {1: 0.1, 2: 0.2, 3: 0.3})]
