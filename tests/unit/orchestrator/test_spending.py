"""Budgets: what counts as spent, over how many invocations, and who is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.driver.budget_meter import BudgetMeter
from orchestrator.driver.todo import find_todo
from orchestrator.ledger import Invocation, Ledger, StudyStore
from orchestrator.statistics.spending import HOUR, Budgets, Spent, budgets, in_words, spent_before
from orchestrator.study import check_rerun, load_plan
from orchestrator.work.events import Done, Leased, PartDone, Requeued


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    return StudyStore(tmp_path / "runs", "unit")


def leased(item: str, part: str | None = None) -> Leased:
    return Leased(item_id=item, part=part, slot="0")


def test_slots_at_work_are_counted_also_while_they_work(store: StudyStore) -> None:
    clock = Clock()
    meter = BudgetMeter(store, "a", Budgets(), clock)
    meter.gpus = 0.5
    meter.take(leased("trial-0"))
    meter.take(leased("trial-1", part="trial-1.0"))
    clock.now += 10
    assert meter.spent == Spent(seconds=10, device_seconds=20, gpu_seconds=10)
    meter.take(Requeued(item_id="trial-0"))
    meter.take(PartDone(item_id="trial-1", part="trial-1.0", state="complete"))
    meter.take(Done(item_id="trial-1", state="complete"))
    clock.now += 10
    assert meter.spent == Spent(seconds=20, device_seconds=20, gpu_seconds=10)


def test_earlier_invocations_count_and_the_time_between_them_does_not(store: StudyStore) -> None:
    store.save_invocation(Invocation(id="1", started_at="2030-01-01T00:00:00+00:00"))
    store.save_spending("1", Spent(seconds=1.5 * HOUR, device_seconds=HOUR, gpu_seconds=HOUR).to_dict())
    store.save_invocation(Invocation(id="2", started_at="2031-01-01T00:00:00+00:00"))
    clock = Clock()
    meter = BudgetMeter(store, "2", Budgets(hours=2), clock)
    assert meter.exhausted() is None
    clock.now += 0.5 * HOUR
    assert meter.exhausted() == "search.hours = 2"


def test_what_is_spent_survives_a_driver_that_is_killed(store: StudyStore) -> None:
    clock = Clock()
    store.save_invocation(Invocation(id="1"))
    meter = BudgetMeter(store, "1", Budgets(), clock)
    for _ in range(100):
        clock.now += 1
        meter.record()
    assert 85 <= spent_before(store).seconds <= 100


def test_records_of_earlier_versions_count_by_their_wall_clock(store: StudyStore) -> None:
    times = {"started_at": "2030-01-01T00:00:00+00:00", "ended_at": "2030-01-01T00:30:00+00:00"}
    store.save_invocation(Invocation(id="1", **times))
    store.save_invocation(Invocation(id="2", timing={"total": 60.0}))
    assert spent_before(store) == Spent(seconds=1860.0)
    assert budgets({"search": {"trials": 3}}, 1, Spent())["hours"] == {"spent": 0.0, "limit": None}


def test_gpu_hours_are_limited_by_themselves() -> None:
    limits = Budgets(hours=5, gpu_hours=1)
    assert limits.reached(Spent(seconds=HOUR, gpu_seconds=HOUR)) == "search.gpu_hours = 1"
    assert limits.reached(Spent(seconds=HOUR, device_seconds=9 * HOUR)) is None


def test_budgets_in_words() -> None:
    study = {"search": {"trials": 20, "hours": 2.0}}
    assert in_words(budgets(study, 12, Spent(seconds=1872.0))) == "12 of 20 trials, 0.52 of 2 hours"
    assert "0.4 GPU-hours" in in_words(budgets(study, 12, Spent(gpu_seconds=1440.0)))


def test_a_spent_budget_leaves_no_new_trial_and_may_be_raised(tmp_path: Path) -> None:
    overrides = [f"storage={tmp_path / 'runs'}", "name=unit", "search.trials=4"]
    store = StudyStore(tmp_path / "runs", "unit")
    store.save_invocation(Invocation(id="1"))
    store.save_spending("1", Spent(seconds=2 * HOUR).to_dict())
    spent, raised = (load_plan("demo", [*overrides, f"search.hours={hours}"]) for hours in (2, 3))
    check_rerun(spent.study, raised.study)
    ledger = Ledger(store.storage)
    assert [find_todo(p, store, ledger, reason="", retry_failed=False).new for p in (spent, raised)] == [0, 4]
