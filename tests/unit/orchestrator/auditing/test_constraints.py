"""Constraints decide who can win, so an audit computes them again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.auditing.order import winner
from orchestrator.auditing.row import AuditedRow, audit_row
from orchestrator.ledger import TrialRecord
from orchestrator.ledger.trial_record import CONSTRAINTS
from orchestrator.statistics.objectives import Aim

AIM = Aim.of(["accuracy"], ["parameters<=1000", "nll<=0.5"])


def row(number: int, accuracy: float, parameters: int, violations: dict[str, float]) -> AuditedRow:
    cell = {"key": f"k{number}", "split": "3-shot", "seed": "1", "parameters": parameters}
    record = TrialRecord(
        number=number,
        state="complete",
        cells=[cell],
        parameters=parameters,
        value=accuracy,
        attributes={CONSTRAINTS: violations} if violations else {},
    )
    return AuditedRow(name=f"trial {number}", path=f"trials/{number}.json", record=record)


def cells(*accuracies: float) -> dict[str, Any]:
    return {
        f"k{number}": SimpleNamespace(
            key=f"k{number}",
            record={"metrics": {"accuracy": value}},
            cell=None,
            accuracy=value,
            validation={"accuracy": value, "nll": 1 - value},
            test_accuracy=None,
        )
        for number, value in enumerate(accuracies)
    }


@pytest.mark.parametrize(
    ("violations", "found"),
    [
        ({"parameters<=1000": 500.0, "nll<=0.5": -0.1}, []),
        ({"parameters<=1000": -500.0, "nll<=0.5": -0.1}, ["parameters<=1000"]),
        ({"parameters<=1000": 500.0, "nll<=0.5": 0.3}, ["nll<=0.5"]),
        ({}, ["parameters<=1000", "nll<=0.5"]),
    ],
)
def test_a_violation_that_does_not_follow_is_named(violations: dict[str, float], found: list[str]) -> None:
    problems = [str(each) for each in audit_row(row(0, 0.6, 1500, violations), cells(0.6), AIM)]
    assert len(problems) == len(found)
    assert all(label in problem for label, problem in zip(found, problems, strict=True))


def test_a_trial_that_violates_a_constraint_is_not_the_winner() -> None:
    rows = [row(0, 0.9, 1500, {"parameters<=1000": 500.0}), row(1, 0.6, 900, {"parameters<=1000": -100.0})]
    assert winner(rows, cells(0.9, 0.6)) == 1
    assert winner(rows[:1], cells(0.9)) is None
