"""What a driver says of a run before it that did not end as it should have."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.driver.resumption import last_run_in_words
from orchestrator.ledger import Invocation, StudyStore

STARTED = "2026-01-01T12:00:00.000000+00:00"


def left(outcome: str) -> Invocation:
    return Invocation(id="20260101120000-abcd", started_at=STARTED, outcome=outcome)


@pytest.mark.parametrize(
    ("outcome", "how"),
    [("running", "was killed"), ("interrupted", "was interrupted"), ("failed", "could not go on")],
)
def test_the_next_run_says_how_the_last_one_ended_and_that_it_resumes(outcome: str, how: str) -> None:
    said = last_run_in_words([left("complete"), left(outcome)], "20260101120000-abcd", work_left=True)
    assert said == f"The last run, started 2026-01-01T12:00:00 UTC, {how}: resuming what it left"


@pytest.mark.parametrize(("outcome", "work_left"), [("complete", True), ("failed", False)])
def test_there_is_nothing_to_say_of_a_run_that_left_nothing(outcome: str, work_left: bool) -> None:
    assert last_run_in_words([left(outcome)], "20260101120000-abcd", work_left=work_left) is None
    assert last_run_in_words([], "", work_left=True) is None


def test_a_run_killed_in_its_first_second_is_named_by_the_next_one(tmp_path: Path) -> None:
    for invocation, words in (("20260101120001-0001", None), ("20260101120002-0002", "was killed before it")):
        store = StudyStore(tmp_path, "unit")
        with store.driver_lease(invocation=invocation) as lease:
            lease.take()
            store.take_over(lease, invocation, {})
            said = last_run_in_words(store.load_invocations(), store.predecessor, work_left=True)
        assert (said is None) if words is None else (said is not None and words in said)
