"""What a study takes from others when it begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmap_model.errors import InputError
from orchestrator.cli.plan_search import describe_search, search_rows
from orchestrator.driver.run import run_study
from orchestrator.driver.taken import WarmStart
from orchestrator.driver.warm_start import find_warm_start, recorded_or_found
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.search.proposals import Proposals
from orchestrator.search.samplers import Samplers
from orchestrator.study import StudyPlan, load_plan

Plan = Callable[..., StudyPlan]
COUNT = 6


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    def make(*overrides: str, name: str = "next") -> StudyPlan:
        return load_plan("demo", [f"storage={tmp_path / 'runs'}", f"name={name}", *overrides])

    return make


@pytest.fixture
def earlier(plan: Plan) -> StudyStore:
    """A study of the same space with complete trials, of which the fourth is the best; and a pruned one."""
    source = plan(name="earlier")
    store, ledger = StudyStore(source.study.storage, "earlier"), Ledger(source.study.storage)
    store.save_study(source.study.to_plain())
    proposals = Proposals(source.space.suggest, samplers=Samplers(name="random"))
    for number in range(COUNT + 1):
        proposal = proposals.propose(number)
        assert proposal is not None
        value = 0.5 - 0.01 * abs(number - 3)
        key = f"earlier-{number}"
        tasks = {"clipart": {"accuracy": value}}
        ledger.commit(key, {"metrics": {"accuracy": value, "nll": 1 - value, "tasks": tasks}}, {})
        store.save_trial(
            TrialRecord(
                number=number,
                state="complete" if number < COUNT else "pruned",
                params=proposal.params,
                distributions=proposal.distributions,
                point=proposal.point.to_dict(),
                cells=[{"key": key, "split": "3-shot", "seed": "1"}],
                epochs=[{"epoch": 1, "mean": value}],
                value=value if number < COUNT else None,
                parameters=1000 + number,
            )
        )
    return store


def test_the_best_points_are_tried_and_complete_trials_teach_the_sampler(
    plan: Plan, earlier: StudyStore
) -> None:
    found = find_warm_start(plan("search.warm_start=[earlier]", "search.warm_start_best=2"))
    (taken,) = found.sources
    assert [point["trial"] for point in taken.enqueued] == [3, 2]
    assert taken.enqueued[0]["params"] == earlier.load_trials()[3].params
    assert [trial["trial"] for trial in taken.fed] == list(range(COUNT)) and not taken.notes
    assert [known.values for known in found.known("tpe")] == [
        [t.value] for t in earlier.load_trials()[:COUNT]
    ]


def test_where_a_parameter_differs_it_is_named_and_valid_points_are_tried(
    plan: Plan, earlier: StudyStore
) -> None:
    rates = [trial.params["lr"] for trial in earlier.load_trials()]
    low = sorted(rates[:COUNT])[2]
    changed = plan("search.warm_start=[earlier]", f"space.2.low={low}", f"search.warm_start_best={COUNT}")
    (taken,) = find_warm_start(changed).sources
    assert not taken.fed and f"{COUNT} of {COUNT} trials do not fit: lr differs" in taken.notes
    assert {point["trial"] for point in taken.enqueued} == {n for n in range(COUNT) if rates[n] >= low}
    assert sum("lr=" in note and "not in the search space" in note for note in taken.notes) == 2


def test_what_was_trained_otherwise_is_said(plan: Plan, earlier: StudyStore) -> None:
    (taken,) = find_warm_start(plan("search.warm_start=[earlier]", "splits=[{shots: 6}]")).sources
    assert any("other splits" in note for note in taken.notes) and len(taken.fed) == COUNT


def test_other_objectives_are_measured_by_the_cells_of_the_other_study(
    plan: Plan, earlier: StudyStore
) -> None:
    aim = "search={warm_start: [earlier], objectives: [accuracy, -nll], constraints: ['parameters<=1001']}"
    (taken,) = find_warm_start(plan(aim)).sources
    assert taken.fed[0]["values"] == [pytest.approx(0.47), pytest.approx(0.53)]
    assert [trial["violations"]["parameters<=1001"] > 0 for trial in taken.fed] == [False, False, *[True] * 4]
    demanding = plan("search={warm_start: [earlier], constraints: ['ece<=0.1']}")
    (nothing,) = find_warm_start(demanding).sources
    assert not nothing.fed and "6 of 6 trials lack an objective" in nothing.notes[-1]


def test_a_sampler_that_does_not_learn_from_others_is_named(plan: Plan, earlier: StudyStore) -> None:
    (taken,) = find_warm_start(plan("search={warm_start: [earlier], sampler: random}")).sources
    assert len(taken.enqueued) == 3 and not taken.fed
    assert "random does not learn" in taken.notes[-1]


def test_nsga_counts_them_among_its_first_generation(plan: Plan, earlier: StudyStore) -> None:
    found = find_warm_start(plan("search.warm_start=[earlier]"))
    assert found.known("nsga2")[0].attributes == {"NSGAIISampler:generation": 0}
    assert found.known("tpe")[0].attributes == {}


def test_what_was_taken_stays_whatever_becomes_of_the_other_study(plan: Plan, earlier: StudyStore) -> None:
    own = plan("search.warm_start=[earlier]")
    store = StudyStore(own.study.storage, "next")
    found, recorded = recorded_or_found(own, store)
    assert not recorded
    store.save_study(own.study.to_plain())
    store.save_warm_start(found.to_dict())
    late = earlier.load_trials()[0]
    late.value = 0.99
    earlier.save_trial(late)
    again, recorded = recorded_or_found(own, StudyStore(own.study.storage, "next"))
    assert recorded and again == WarmStart.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert find_warm_start(own) != found

    def proposed(warm: WarmStart) -> list[dict[str, Any]]:
        proposals = Proposals(own.space.suggest, first=(*own.first, *warm.first), known=warm.known("tpe"))
        return [p.params for n in range(8) if (p := proposals.propose(n))]

    assert proposed(again) == proposed(found)
    assert proposed(again)[1] == earlier.load_trials()[3].params


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.warm_start=[earler]", ["earler", "'earlier'"]),
        ("search.warm_start=[next]", ["itself"]),
        ("search.warm_start=[here/earlier]", ["here/earlier", "/shared/runs/studies/demo"]),
        ("search.warm_start=[{place}/studies/none]", ["'none'", "did you mean"]),
    ],
)
def test_a_study_that_cannot_be_begun_from_is_refused(
    plan: Plan, earlier: StudyStore, override: str, words: list[str]
) -> None:
    own = plan(override.format(place=earlier.storage.root))
    StudyStore(own.study.storage, "next").save_study(own.study.to_plain())
    with pytest.raises(InputError) as caught:
        find_warm_start(own)
    assert caught.value.where == "search.warm_start.0"
    assert all(word in f"{caught.value.problem}\n{caught.value.fix}" for word in words), str(caught.value)


def test_a_path_leads_to_a_study_of_another_storage(plan: Plan, earlier: StudyStore, tmp_path: Path) -> None:
    path = f"{earlier.storage.root}/studies/earlier/"
    own = plan(f"search.warm_start=['{path}']", f"storage={tmp_path / 'elsewhere'}")
    assert len(find_warm_start(own).sources[0].fed) == COUNT


def test_another_method_is_refused(plan: Plan, earlier: StudyStore) -> None:
    for trial in earlier.load_trials():
        trial.point = {**trial.point, "method": "coop"}
        earlier.save_trial(trial)
    with pytest.raises(InputError, match="tunes coop"):
        find_warm_start(plan("search.warm_start=[earlier]"))


def test_what_is_refused_leaves_no_study_behind(plan: Plan) -> None:
    own = plan("search.warm_start=[nothing]")
    with pytest.raises(InputError, match="no study 'nothing'"):
        run_study(own)
    assert not StudyStore(own.study.storage, "next").exists()


def shown(plan: StudyPlan) -> dict[str, Any]:
    return {"trials": plan.trials, **describe_search(plan)}


def test_plan_shows_sampler_objectives_constraints_and_what_would_be_taken(
    plan: Plan, earlier: StudyStore
) -> None:
    objectives = "objectives: [accuracy, -parameters], constraints: ['nll<=1']"
    found = shown(plan(f"search={{warm_start: [earlier], trials: 8, {objectives}}}"))
    assert found["objectives"] == ["accuracy", "-parameters"] and found["constraints"] == ["nll<=1"]
    assert found["warm_start"][0]["fed"] == COUNT and len(found["warm_start"][0]["enqueued"]) == 3
    rows = search_rows(found)
    assert rows["sampler"].startswith("tpe; draws at random until 10 trials are complete: all of this study")
    assert rows["warm start"] == "earlier: 3 points to try, 6 trials to learn from (would be taken now)"
    plain = search_rows(shown(plan("search.trials=20")))
    assert plain == {"sampler": "tpe; draws at random until 10 trials are complete"}
