"""What is scored on test images while the last trials are in work: what is final whatever they come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver.early_scores import EarlyScores
from orchestrator.driver.session import Session
from orchestrator.ledger import TrialRecord
from orchestrator.rows.row import Row
from orchestrator.study import load_plan


@pytest.fixture
def session(idle_session: Callable[..., Session], tmp_path: Path) -> Session:
    """Of a study with three finalists; its slots do nothing."""
    return idle_session(load_plan("demo", [f"storage={tmp_path / 'runs'}", "name=unit"]), lambda shown: None)


@pytest.fixture
def queued(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the items that were queued."""
    found: list[str] = []

    def submit(rows: Any) -> None:
        found.extend(row.item.item_id for row in rows if isinstance(row, Row))

    monkeypatch.setattr(session.rows, "submit", submit)
    return found


def trial(session: Session, number: int, accuracy: float, state: str = "complete") -> TrialRecord:
    return TrialRecord(
        number=number,
        point=session.plan.study.point.to_dict(),
        state=state,
        value=accuracy,
        epochs=[{"epoch": 5, "mean": accuracy}],
        cells=[{"key": f"k{number}", "split": "3-shot", "seed": "1"}],
    )


def test_a_trial_is_scored_once_those_in_work_cannot_displace_it(session: Session, queued: list[str]) -> None:
    early = EarlyScores(session, "", retrain=False)
    for number, accuracy in enumerate([0.5, 0.8, 0.6, 0.7]):
        early.ended(trial(session, number, accuracy))
    early.ended(trial(session, 4, 0.9, "pruned"))
    seen = {}
    for in_work in (None, 4, 3, 2, 2, 1, 0):
        early.look(in_work)
        seen[in_work] = list(queued)
    assert seen == {
        None: [],
        4: [],
        3: [],
        2: ["confirm-1"],
        1: ["confirm-1", "confirm-3"],
        0: ["confirm-1", "confirm-3"],
    }, "the end of the search scores the rest"
    assert list(early.named) == [1, 3]


def test_the_last_trial_may_still_take_the_last_place(session: Session, queued: list[str]) -> None:
    early = EarlyScores(
        session, "", retrain=False, ended=[trial(session, n, 0.5 + n / 100) for n in range(3)]
    )
    early.look(2)
    early.ended(trial(session, 3, 0.9))
    early.look(1)
    assert queued == ["confirm-2", "confirm-3"], "trial 4 may displace trial 1, which is the third by now"


def test_a_reference_row_waits_for_the_last_trial_to_be_proposed(session: Session, queued: list[str]) -> None:
    early = EarlyScores(session, "", retrain=False)
    early.measured("zero_shot", trial(session, -1, 0.48))
    early.look(None)
    early.look(4)
    assert queued == [], "and for one that is complete, as at the end"
    early.ended(trial(session, 0, 0.5))
    early.look(4)
    early.look(4)
    assert queued == ["confirm-zero_shot"]


def test_after_the_search_a_reference_row_is_scored_at_once(session: Session, queued: list[str]) -> None:
    early = EarlyScores(session, "", retrain=False)
    early.score("zero_step", trial(session, -1, 0.48))
    assert queued == ["confirm-zero_step"] and list(early.named) == ["zero_step"]


def test_without_finalists_nothing_is_scored(session: Session, queued: list[str]) -> None:
    session.plan = replace(session.plan, study=session.plan.study.model_copy(update={"finalists": 0}))
    early = EarlyScores(session, "", retrain=False, ended=[trial(session, 0, 0.5)])
    early.measured("zero_shot", trial(session, -1, 0.48))
    early.look(1)
    early.score("zero_step", trial(session, -1, 0.48))
    assert queued == []


def test_what_was_scored_in_an_earlier_run_is_left_alone(session: Session, queued: list[str]) -> None:
    trials = [trial(session, number, 0.5 + number / 100) for number in range(3)]
    session.ledger.commit("k2", {"metrics": {}}, {})
    session.ledger.commit_test("k2", {"metrics": {"accuracy": 0.5}, "weights": None}, {})
    early = EarlyScores(session, "", retrain=False, ended=trials)
    early.look(1)
    assert queued == ["confirm-1"] and list(early.named) == [1]


def test_a_row_is_claimed_once(session: Session, queued: list[str]) -> None:
    early = EarlyScores(session, "", retrain=False, ended=[trial(session, 0, 0.5)])
    assert early.claim(0, trial(session, 0, 0.5))
    early.look(1)
    assert queued == [] and not early.claim(0, trial(session, 0, 0.5))
