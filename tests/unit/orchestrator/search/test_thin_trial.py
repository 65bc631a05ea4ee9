"""What a thin trial tells Tune of its item."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from orchestrator.search.thin_trial import ThinTrial


class Pool:
    """Answers ``follow`` from a list; None is an answer without news."""

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self.answers = deque(answers)
        self.asked: list[tuple[str, int]] = []
        self.follow = SimpleNamespace(remote=self._follow)

    def _follow(self, item: str, after: int, timeout: float) -> dict[str, Any]:
        self.asked.append((item, after))
        return self.answers.popleft() or {"epochs": [], "end": None}


@pytest.fixture(autouse=True)
def _answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda answer: answer)


def news(*epochs: tuple[int, float], end: str | None = None) -> dict[str, Any]:
    return {"epochs": list(epochs), "end": end and {"state": end, "error": None}}


def reports(pool: Pool, *, epochs: int = 3) -> list[dict[str, Any]]:
    trial = ThinTrial(pool, {"item": "t0", "epochs": epochs})
    found = [trial.train()]
    while not found[-1]["done"]:
        found.append(trial.train())
    return found


def told(report: dict[str, Any]) -> tuple[Any, ...]:
    return report["training_iteration"], report["epoch"], report.get("mean"), report["state"], report["done"]


def test_the_last_epoch_is_told_with_the_end() -> None:
    pool = Pool(news((1, 0.1)), None, news((2, 0.2), (3, 0.3)), news(end="complete"))
    assert [told(report) for report in reports(pool)] == [
        (1, 1, 0.1, "running", False),
        (2, 2, 0.2, "running", False),
        (3, 3, 0.3, "complete", True),
    ]
    assert pool.asked == [("t0", 0), ("t0", 1), ("t0", 1), ("t0", 3)], "only what is not known is asked for"


@pytest.mark.parametrize("state", ["failed", "lost", "stopped", "cancelled"])
def test_what_ends_before_the_last_epoch_has_no_mean(state: str) -> None:
    assert [told(report) for report in reports(Pool(news((1, 0.1), end=state)))] == [
        (1, 1, 0.1, "running", False),
        (2, 1, None, state, True),
    ]


def test_an_item_that_fails_while_its_last_epoch_is_held_back_keeps_its_mean() -> None:
    assert [told(report) for report in reports(Pool(news((1, 0.5), end="failed")), epochs=1)] == [
        (1, 1, 0.5, "failed", True)
    ]


def test_an_actor_goes_from_one_trial_to_the_next_and_leaves_nothing_of_the_first() -> None:
    pool = Pool(news((1, 0.1), (2, 0.2)), news(end="complete"))
    trial = ThinTrial(pool, {"item": "t0", "epochs": 2})
    assert told(trial.train()) == (1, 1, 0.1, "running", False)
    assert trial.reset({"item": "t1", "epochs": 2})
    assert told(trial.train()) == (1, 0, None, "complete", True)
    assert pool.asked == [("t0", 0), ("t1", 0)]


def test_its_process_imports_neither_tune_nor_pandas(imported: Callable[..., str]) -> None:
    heavy = {"ray.tune", "pandas", "pydantic", "optuna", "torch"}
    assert imported("ray, orchestrator.search.thin_trial", heavy) == "[]"
