"""What is proposed: the given points first, nothing twice, and the same again after any interruption."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import optuna
import pytest

from mmap_model.cells import Point
from mmap_model.configuration import Recipe
from mmap_model.methods.mmap import MmapSettings
from orchestrator.search.proposals import Proposal, Proposals, TrialOutcome
from orchestrator.search.samplers import Samplers


def point(lr: float, length: int = 4) -> Point:
    return Point(method="mmap", settings=MmapSettings(prompt_length=length), recipe=Recipe(lr=lr))


def suggest(trial: Any) -> Point:
    return point(
        trial.suggest_float("lr", 1e-3, 1e-1, log=True), trial.suggest_categorical("prompt_length", [2, 4])
    )


def suggest_few(trial: Any) -> Point:
    return point(0.01, trial.suggest_categorical("prompt_length", [2, 4, 8]))


def score(proposal: Proposal) -> float:
    return -abs(math.log(proposal.point.recipe.lr / 0.02))


def tell(proposals: Proposals, proposal: Proposal) -> dict[int, float]:
    epochs = {1: score(proposal) - 1, 2: score(proposal)}
    proposals.tell(proposal.number, TrialOutcome(state="complete", epochs=epochs))
    return epochs


def sequence(proposals: Proposals, count: int) -> Iterator[tuple[Proposal, dict[int, float]]]:
    for number in range(count):
        proposal = proposals.propose(number)
        assert proposal is not None
        yield proposal, tell(proposals, proposal)


def test_the_first_points_are_those_given() -> None:
    proposals = Proposals(suggest, first=[{"lr": 0.0035, "prompt_length": 4}, {"lr": 0.05}])
    first, second = proposals.propose(0), proposals.propose(1)
    assert first is not None and first.params == {"lr": 0.0035, "prompt_length": 4}
    assert second is not None and second.params["lr"] == 0.05


def test_no_point_is_proposed_twice_and_an_empty_space_says_so() -> None:
    proposals = Proposals(suggest_few)
    found = [proposals.propose(number) for number in range(4)]
    assert sorted(p.point.settings.prompt_length for p in found if p) == [2, 4, 8]
    assert found[3] is None


def test_recorded_points_are_not_proposed_again_even_if_they_failed() -> None:
    proposals = Proposals(suggest_few)
    proposals.replay(Proposal(0, {}, {}, point(0.01, 2)), TrialOutcome(state="failed"))
    lengths = {p.point.settings.prompt_length for n in (1, 2) if (p := proposals.propose(n))}
    assert lengths == {4, 8}


def test_a_grid_is_gone_through_after_the_first_points() -> None:
    def grid() -> Iterator[dict[str, Any]]:
        yield from ({"prompt_length": length} for length in (2, 4, 8))

    proposals = Proposals(
        suggest_few, samplers=Samplers(name="grid"), first=[{"prompt_length": 4}], grid=grid
    )
    lengths = [p.point.settings.prompt_length for n in range(3) if (p := proposals.propose(n))]
    assert lengths == [4, 2, 8]
    assert proposals.propose(3) is None


class Looking:
    """Draws points, and notes which earlier trials the sampler sees."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, trial: Any) -> Point:
        self.seen = [earlier for earlier in trial.study.trials if earlier.number != trial.number]
        return suggest(trial)


@pytest.mark.parametrize(
    ("state", "epochs", "outcome"),
    [
        ("complete", {1: 0.1, 2: 0.2}, optuna.trial.TrialState.COMPLETE),
        ("pruned", {1: 0.1}, optuna.trial.TrialState.PRUNED),
        ("complete", {1: math.nan}, optuna.trial.TrialState.FAIL),
        ("failed", {1: 0.1}, optuna.trial.TrialState.FAIL),
        ("pruned", {}, optuna.trial.TrialState.FAIL),
    ],
)
def test_ends_are_told_to_optuna_as_what_they_are(state: str, epochs: dict[int, float], outcome: Any) -> None:
    looking = Looking()
    proposals = Proposals(looking)
    proposals.propose(0)
    proposals.tell(0, TrialOutcome(state=state, epochs=epochs))
    proposals.propose(1)
    (trial,) = looking.seen
    assert trial.state is outcome
    if outcome is optuna.trial.TrialState.COMPLETE:
        assert trial.value == 0.2 and trial.intermediate_values == epochs


def test_the_sampler_sees_a_bounded_number_of_trials_and_keeps_the_best() -> None:
    looking = Looking()
    proposals = Proposals(looking, samplers=Samplers(name="random"), best=5, latest=10)
    values = []
    for number in range(400):
        proposal = proposals.propose(number)
        assert proposal is not None
        tell(proposals, proposal)
        values.append(score(proposal))
    proposals.propose(400)
    kept = [t.value for t in looking.seen]
    assert len(kept) <= 5 + 10 + 100
    assert set(sorted(values[:250])[-5:]) <= set(kept), "the best of the early ones are still there"
    assert values[-10:] == kept[-10:]


def test_trials_that_run_while_old_ones_are_dropped_can_still_be_told() -> None:
    looking = Looking()
    proposals = Proposals(looking, samplers=Samplers(name="random"), best=2, latest=3)
    running = [proposals.propose(number) for number in range(2)]
    for number in range(2, 200):
        proposal = proposals.propose(number)
        assert proposal is not None
        tell(proposals, proposal)
    for proposal in running:
        assert proposal is not None
        tell(proposals, proposal)
    proposals.propose(200)
    assert [t.value for t in looking.seen if t.params == running[0].params] == [score(running[0])]


def test_a_rebuilt_search_has_forgotten_what_the_other_one_forgot() -> None:
    def begin(looking: Looking) -> Proposals:
        return Proposals(looking, samplers=Samplers(name="random"), best=5, latest=10)

    looking, again = Looking(), Looking()
    proposals, records = begin(looking), []
    for number in range(150):
        proposal = proposals.propose(number)
        assert proposal is not None
        outcome = TrialOutcome(state="complete" if number % 7 else "failed", epochs={1: score(proposal)})
        proposals.tell(number, outcome)
        records.append((proposal, outcome))
    proposals.propose(150)
    rebuilt = begin(again)
    for proposal, outcome in records:
        rebuilt.replay(proposal, outcome)
    rebuilt.propose(150)
    seen, seen_again = (
        [(t.params, t.value) for t in looks.seen if t.value is not None] for looks in (looking, again)
    )
    assert len(seen) < 5 + 10 + 101 and seen_again == seen
