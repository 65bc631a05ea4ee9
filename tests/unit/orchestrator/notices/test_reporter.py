"""What is told of a run, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.notices.notice import Notice
from orchestrator.notices.reporter import About, Ended, Reporter
from orchestrator.study.notify import Notify
from orchestrator.work.doing import Doing
from orchestrator.work.shown import (
    BudgetShown,
    EpochShown,
    NoteShown,
    PhaseShown,
    SlotShown,
    SweepShown,
    TrialShown,
    WorkShown,
)

ABOUT = About(
    study="demo",
    study_id="s1",
    run="r1",
    again="orchestrator sweep demo",
    status="orchestrator status demo",
    results="orchestrator results demo",
)
ALL = ("finished", "failed", "stalled", "budget", "slot_lost", "improved")


class Told:
    """A reporter with a made clock, and what it put."""

    def __init__(self, **notify: Any) -> None:
        self.now, self.notices = 0.0, list[Notice]()
        wanted = Notify.model_validate({"to": "A", "events": list(ALL), **notify})
        at = "2026-01-01T00:00:00+00:00"
        self.reporter = Reporter(wanted, ABOUT, self.notices.append, lambda: self.now, lambda: at)
        self.reporter.take(SweepShown(study="demo", trials=10, epochs=5))

    @property
    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.notices]


def complete(number: int, mean: float) -> TrialShown:
    return TrialShown(number=number, state="complete", values={"lr": 0.1}, mean=mean, low=0.4, high=0.6, n=3)


def test_a_finished_study_says_what_it_found_and_what_goes_on() -> None:
    told = Told()
    told.reporter.take(complete(0, 0.5))
    told.reporter.ended(Ended(state="complete", winner="Winner: trial 0"))
    notice = told.notices[0]
    assert notice.kind == "finished" and notice.title == "demo: finished"
    for part in ("Winner: trial 0", "1 of 10 trials", "Go on with: orchestrator results demo", notice.id):
        assert part in notice.text


def test_without_words_for_the_winner_the_best_trial_is_named_with_its_interval() -> None:
    told = Told()
    told.reporter.take(complete(0, 0.5))
    told.reporter.ended(Ended(state="complete"))
    assert "Best so far: 50.0 % (40.0 to 60.0), trial 0" in told.notices[0].text


def test_a_finish_with_flaws_names_them_and_the_command_that_tries_again() -> None:
    told = Told()
    told.reporter.ended(Ended(state="complete", failed=2, unscored=1))
    assert told.notices[0].title == (
        "demo: finished, but 2 trials failed or were lost and 1 rows lack a test score"
    )
    assert "Go on with: orchestrator sweep demo" in told.notices[0].text


@pytest.mark.parametrize("state", ["failed", "crashed", "terminated"])
def test_a_run_that_did_not_reach_its_end_has_failed(state: Any) -> None:
    told = Told()
    told.reporter.ended(Ended(state=state, reason="no slot is left"))
    assert told.kinds == ["failed"] and "no slot is left" in told.notices[0].text


def test_a_spent_budget_and_a_lost_slot_are_told() -> None:
    told = Told()
    told.reporter.take(SlotShown(slot="0", state="idle"))
    told.reporter.take(BudgetShown(budget="search.hours = 2", running=1))
    told.reporter.take(SlotShown(slot="1", state="stopped", what="CUDA error: ECC"))
    assert told.kinds == ["budget", "slot_lost"]
    assert "search.hours = 2" in told.notices[0].title
    assert "CUDA error: ECC" in told.notices[1].text and "1 slots are left" in told.notices[1].text


def test_only_a_trial_better_than_one_before_is_an_improvement() -> None:
    told = Told()
    for number, mean in enumerate((0.5, 0.4, 0.6, 0.6)):
        told.reporter.take(complete(number, mean))
    assert told.kinds == ["improved"] and "trial 2 is better" in told.notices[0].title


def test_a_run_in_which_nothing_moves_is_told_once_until_it_moves_again() -> None:
    told = Told(stalled_after_s=600.0)
    doing = Doing(stage="training", epoch=1, step=4)
    told.reporter.take(WorkShown(slot="0", doing=doing))
    for told.now in (300.0, 599.0, 601.0, 900.0):
        told.reporter.take(NoteShown(text="the storage is away"))
        told.reporter.take(WorkShown(slot="0", doing=Doing(stage="training", epoch=1, step=4, gpu_busy=0.1)))
        told.reporter.look()
    assert told.kinds == ["stalled"] and "nothing has moved for 10 min" in told.notices[0].title
    told.reporter.take(WorkShown(slot="0", doing=Doing(stage="training", epoch=1, step=5)))
    told.now = 1600.0
    told.reporter.look()
    assert told.kinds == ["stalled", "stalled"] and told.notices[0].id != told.notices[1].id


def test_a_run_at_work_is_never_stalled() -> None:
    told = Told(stalled_after_s=600.0)
    for step in range(100):
        told.now = 300.0 * step
        told.reporter.take(EpochShown(trial=step, epoch=1, mean=None))
        told.reporter.look()
    assert told.kinds == []


def test_what_is_not_wanted_is_not_told() -> None:
    told = Told(events=["finished"])
    told.reporter.take(BudgetShown(budget="search.hours = 2", running=1))
    told.reporter.take(PhaseShown(name="stopping"))
    told.reporter.ended(Ended(state="failed"))
    assert told.kinds == []
    told.reporter.ended(Ended(state="complete"))
    assert told.kinds == ["finished"]


def test_secrets_stay_out_of_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "tops3cret")
    told = Told()
    told.reporter.ended(Ended(state="failed", reason="refused: tops3cret"))
    assert "tops3cret" not in told.notices[0].text and "***" in told.notices[0].text
