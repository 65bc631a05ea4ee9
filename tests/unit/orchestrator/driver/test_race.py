"""A race from its records: fresh seeds, decisions that survive kills and depend on no slots, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from racing import Killed, Workers, searched

from mmap_model.configuration import Seeds
from mmap_model.errors import InputError
from orchestrator.driver import invocation
from orchestrator.driver.invocation import Options, Outcome
from orchestrator.driver.race import run_race
from orchestrator.driver.race_agenda import ahead_of
from orchestrator.driver.race_plan import RaceOptions, RacePlan, fresh_seeds, plan_race
from orchestrator.driver.slot_display import SlotDisplay
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.statistics.race import Race
from orchestrator.statistics.race_records import COURSE, TERMS
from orchestrator.statistics.ranking import build_results
from orchestrator.work.events import Leased, SlotUp
from orchestrator.work.shown import Shown, SlotShown, TrialShown

LEVELS = {0: 0.58, 1: 0.615, 2: 0.615, 3: 0.55, 4: 0.615}
"""Trials 1, 2 and 4 are equal; 3 is far behind."""


@pytest.fixture
def race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Races finalists of a made-up study; gives what its records say."""

    def make(workers: Workers, wanted: RaceOptions, name: str = "one", **options: Any) -> Any:
        overrides = options.pop("overrides", ())
        plan, store, ledger = searched(tmp_path / name, workers, *overrides)
        planned = plan_race(plan, store, ledger, wanted)
        monkeypatch.setattr(invocation, "_work", workers.work)
        outcome = run_race(planned, workers.shown.append, options=Options(tracked=False), **options)
        return Raced(planned, outcome)

    return make


class Raced:
    """The records of a race."""

    def __init__(self, planned: RacePlan, outcome: Outcome) -> None:
        self.planned, self.outcome = planned, outcome
        self.store = StudyStore(planned.base.study.storage, planned.base.study.name)
        self.ledger = Ledger(planned.base.study.storage)

    @property
    def results(self) -> dict[str, Any]:
        found = build_results(self.store, self.ledger)
        json.dumps(found, allow_nan=False)
        return found

    @property
    def course(self) -> dict[str, Any]:
        found = self.store.load_race(COURSE)
        assert found is not None
        return found

    @property
    def told(self) -> Any:
        """What the records say, without times and without who wrote them."""
        terms = self.store.load_race(TERMS)
        assert terms is not None
        terms = {name: value for name, value in terms.items() if name != "study_id"}
        course = {name: value for name, value in self.course.items() if name not in ("ahead", "of")}
        trials = [
            (t.number, t.state, t.cells, t.value, t.epochs, t.attributes) for t in self.store.load_trials()
        ]
        return terms, course, trials


def test_a_race_trains_fresh_seeds_alone_and_in_order(race: Any) -> None:
    found = race(Workers(LEVELS), RaceOptions(budget=60))
    assert found.store.name == "unit-race-1-2-4"
    assert found.planned.terms.seeds[:3] == ("4", "5", "6")
    trained = {cell["seed"] for trial in found.store.load_trials() for cell in trial.cells}
    assert trained == set(found.course["seeds"]) and not trained & {"1", "2", "3"}


def test_fresh_seeds_share_neither_draw_nor_training_with_the_search(tmp_path: Path) -> None:
    plan, _, _ = searched(tmp_path, Workers({0: 0.5}))
    apart = tuple(replace(seed, draw=seed.train + 3) for seed in plan.study.seeds)
    plan = replace(plan, study=plan.study.model_copy(update={"seeds": apart}))
    assert [seed.label for seed in fresh_seeds(plan, 3)] == ["7", "8", "9"]


def test_seeds_of_studies_that_the_search_started_from_are_not_fresh(tmp_path: Path) -> None:
    plan, store, _ = searched(tmp_path, Workers({0: 0.5}))
    for name, seeds, start in (("first", (4, 5), ()), ("second", (7,), ("first",))):
        search = plan.study.search.model_copy(update={"warm_start": start})
        more = {"name": name, "seeds": tuple(Seeds.both(seed) for seed in seeds), "search": search}
        StudyStore(store.storage, name).save_study(plan.study.model_copy(update=more).to_plain())
    search = plan.study.search.model_copy(update={"warm_start": ("second",)})
    plan = replace(plan, study=plan.study.model_copy(update={"search": search}))
    assert [seed.label for seed in fresh_seeds(plan, 3)] == ["6", "8", "9"]
    gone = plan.study.search.model_copy(update={"warm_start": ("third",)})
    with pytest.raises(InputError, match="no study 'third'"):
        fresh_seeds(replace(plan, study=plan.study.model_copy(update={"search": gone})), 3)


def test_who_fell_when_and_with_what_is_recorded_told_and_in_the_results(race: Any) -> None:
    workers = Workers(LEVELS)
    found = race(workers, RaceOptions(trials=(4, 3, 1), budget=90))
    (fallen,) = [f for f in found.course["finalists"] if f["number"] == 3]
    fell = fallen["fell"]
    assert fell["evidence"] >= 20 and fell["against"] in (1, 4)
    assert fell["seed"] == found.course["seeds"][fell["after"] - 1]
    record = found.store.load_trial(3)
    assert (record.state, record.attributes["stopped_by"]) == ("pruned", "race")
    assert record.attributes["fell"] == fell
    assert len(record.cells) == fell["after"], "seeds beyond its fall are not its own"
    assert any(note.startswith("Trial 3 falls after seed") for note in workers.notes)
    assert found.results["race"]["finalists"] == found.course["finalists"]


def test_finalists_are_shown_as_running_until_the_race_decides_on_them(race: Any) -> None:
    workers = Workers(LEVELS)
    race(workers, RaceOptions(trials=(4, 3, 1), budget=24))
    states: dict[int, list[str]] = {}
    for event in workers.shown:
        if isinstance(event, TrialShown):
            states.setdefault(event.number, []).append(event.state)
    assert {number: seen[-1] for number, seen in states.items()} == {
        1: "complete",
        3: "pruned",
        4: "complete",
    }
    assert all(set(seen[:-1]) == {"running"} for seen in states.values())


def test_slots_show_the_finalist_that_they_work_on() -> None:
    shown: list[Shown] = []
    display = SlotDisplay(shown.append)
    display.take(SlotUp(slot="0"))
    display.take(Leased(item_id="trial-12-seeds-3", slot="0"))
    assert shown[-1] == SlotShown(slot="0", state="busy", trial=12)


def test_those_that_stand_are_ranked_and_scored_on_the_test_images(race: Any) -> None:
    found = race(Workers(LEVELS), RaceOptions(budget=30))
    stand = found.course["standing"]
    assert found.course["end"] == "budget" and len(stand) == 3
    results = found.results
    complete = [trial for trial in results["trials"] if trial["state"] == "complete"]
    assert {trial["number"] for trial in complete} == set(stand)
    assert all(trial["val"]["n"] == 10 and trial["test"]["n"] == 10 for trial in complete)
    assert [look["reason"] for look in results["looks"]] == ["end of the race: those that stand"]
    (zero_shot,) = results["baselines"]
    assert zero_shot["val"]["n"] == 10


def test_the_same_command_does_nothing_once_the_race_is_over(race: Any) -> None:
    workers = Workers(LEVELS)
    before = race(workers, RaceOptions(budget=30)).told
    trained = sum(workers.trained.values())
    again = race(workers, RaceOptions(budget=30))
    assert again.told == before and sum(workers.trained.values()) == trained
    assert again.outcome.trained == 0


@pytest.mark.parametrize("moment", [1, 4, 11])
def test_a_race_that_was_killed_goes_on_to_the_same_end(race: Any, moment: int) -> None:
    whole = race(Workers(LEVELS), RaceOptions(trials=(4, 3, 1), budget=36), name="whole")
    workers = Workers(LEVELS, kill_after=moment)
    with pytest.raises(Killed):
        race(workers, RaceOptions(trials=(4, 3, 1), budget=36))
    workers.kill_after = None
    again = race(workers, RaceOptions(trials=(4, 3, 1), budget=36))
    assert again.told == whole.told
    assert set(workers.trained.values()) == {1}


def test_a_race_ends_the_same_whatever_the_number_of_slots(race: Any) -> None:
    one = race(Workers(LEVELS, slots=1), RaceOptions(trials=(4, 3, 1), budget=36), name="slots-1")
    many = race(Workers(LEVELS, slots=16), RaceOptions(trials=(4, 3, 1), budget=36), name="slots-16")
    assert many.told == one.told
    assert one.course["ahead"] == 0


def test_a_larger_budget_prolongs_a_race_and_a_smaller_one_is_refused(race: Any) -> None:
    workers = Workers(LEVELS)
    short = race(workers, RaceOptions(budget=30)).course
    assert short["end"] == "budget"
    long = race(workers, RaceOptions(budget=45)).course
    assert len(long["seeds"]) > len(short["seeds"]) and long["seeds"][:10] == short["seeds"]
    assert set(workers.trained.values()) == {1}
    assert race(workers, RaceOptions()).course["budget"] == 45, "the one of its last run"
    with pytest.raises(InputError, match=r"begun with 45 cells.*now it is 30"):
        race(workers, RaceOptions(budget=30))


def test_splits_are_averaged_within_a_seed(race: Any) -> None:
    workers = Workers({0: 0.6, 1: 0.61})
    found = race(workers, RaceOptions(budget=8, top=2), overrides=["splits=[{shots: 3}, {shots: 6}]"])
    assert found.course["seeds"] == ["4", "5"] and found.course["cells"] == 8
    seeds = [(workers.value(1, "3-shot", seed) + workers.value(1, "6-shot", seed)) / 2 for seed in ("4", "5")]
    (first,) = [f for f in found.course["finalists"] if f["number"] == 1]
    assert first["fresh"]["mean"] == pytest.approx(sum(seeds) / 2)


def test_a_finalist_whose_cell_failed_leaves_and_races_again_if_wanted(race: Any) -> None:
    workers = Workers(LEVELS, broken={(2, "5")})
    found = race(workers, RaceOptions(budget=12))
    (left,) = [f for f in found.course["finalists"] if f["fell"]]
    assert (left["number"], left["fell"]["seed"], left["fell"]["evidence"]) == (2, "5", None)
    assert found.outcome.failed == (2,)
    assert race(workers, RaceOptions(budget=12)).told == found.told, "it stays out"
    workers.broken = set()
    again = race(workers, RaceOptions(budget=12), retry_failed=True)
    assert again.course["standing"] and not any(f["fell"] for f in again.course["finalists"])
    clean = race(Workers(LEVELS), RaceOptions(budget=12), name="clean")
    assert again.told[1] == clean.told[1]


def test_the_optimism_of_the_search_is_reported_with_interval_and_power(race: Any) -> None:
    found = race(Workers(LEVELS), RaceOptions(budget=30)).results["race"]["optimism"]
    assert found["winner"] in LEVELS and found["seeds"] == 10
    assert found["mean"] == pytest.approx(found["search"] - found["fresh"])
    assert found["low"] < found["mean"] < found["high"]
    assert 0.05 < found["power"] < 1 and found["detectable"] > 0


def test_seeds_are_trained_ahead_only_as_far_as_slots_and_budget_go(race: Any) -> None:
    terms = race(Workers(LEVELS), RaceOptions(budget=30)).planned.terms
    assert ahead_of(Race(standing=(1, 2, 4)), terms, 2) == 1
    assert ahead_of(Race(standing=(1, 2, 4)), terms, 12) == 4
    assert ahead_of(Race(standing=(1, 4), seeds=2, cells=6), terms, 12) == 6
    assert ahead_of(Race(standing=(1, 4), seeds=8, cells=26), terms, 12) == 2


REFUSED = {
    "one finalist": (RaceOptions(top=1), r"needs two finalists.*(?s:.*)--top 2"),
    "an unfinished trial": (RaceOptions(trials=(1, 9)), r"trial 9 is unknown"),
    "a level of one": (RaceOptions(alpha=1.0), r"1 is not between 0 and 1"),
    "a level of nothing": (RaceOptions(alpha=0.0), r"0 is not between 0 and 1"),
    "no points": (RaceOptions(within=0.0), r"0 points"),
    "a budget below one seed": (
        RaceOptions(budget=2),
        r"2 cells are too few for one fresh seed of 3 finalists(?s:.*)give 3 or more",
    ),
    "both ways to choose": (RaceOptions(trials=(1, 2), top=2), r"--trial"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_no_race_is_refused_before_anything_starts(name: str, tmp_path: Path) -> None:
    wanted, said = REFUSED[name]
    plan, store, ledger = searched(tmp_path, Workers(LEVELS))
    with pytest.raises(InputError, match=said):
        plan_race(plan, store, ledger, wanted)
    assert ledger.storage.names("studies") == ["unit"]


def test_a_search_without_complete_trials_is_refused_and_says_how_it_stands(tmp_path: Path) -> None:
    plan, store, ledger = searched(tmp_path, Workers({0: 0.5, 1: 0.5}), states={1: "running"})
    with pytest.raises(InputError, match=r"of 1 complete trial(?s:.*)orchestrator status unit"):
        plan_race(plan, store, ledger, RaceOptions(top=3))


def test_a_race_keeps_the_level_that_it_was_begun_with(race: Any) -> None:
    workers = Workers(LEVELS)
    race(workers, RaceOptions(budget=12))
    with pytest.raises(InputError, match=r"level 0\.05, now it is 0\.1"):
        race(workers, RaceOptions(budget=12, alpha=0.1))
    with pytest.raises(InputError, match=r"within nothing, now it is 0\.01"):
        race(workers, RaceOptions(budget=12, within=0.01))


def test_damaged_terms_are_named_with_what_to_do(race: Any) -> None:
    workers = Workers(LEVELS)
    found = race(workers, RaceOptions(budget=12))
    folder = f"studies/{found.store.name}/race"
    for name in found.ledger.storage.names(folder):
        found.ledger.storage.write(f"{folder}/{name}", b"torn")
    with pytest.raises(InputError, match=r"terms of race 'unit-race-1-2-4' cannot be read(?s:.*)restore"):
        race(workers, RaceOptions(budget=12))
