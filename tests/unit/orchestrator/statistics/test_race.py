"""A race: who falls at which seed, and when it ends; both follow from the values in their order alone."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from scipy import stats

from orchestrator.statistics.evidence import Differences, log_evidence
from orchestrator.statistics.noise import ResidualNoise
from orchestrator.statistics.race import Race, Rules, Wave, decide

NOISE = ResidualNoise(s=0.012, nu=18)


def waves(means: dict[int, float], seeds: int, *, deviation: float = 0.012, seed: int = 1) -> list[Wave]:
    rng = random.Random(seed)
    found = []
    for _ in range(seeds):
        block = rng.gauss(0, 0.03)
        found.append({name: 0.6 + mean + block + rng.gauss(0, deviation) for name, mean in means.items()})
    return found


def rules(**more: object) -> Rules:
    return Rules(**{"budget": 1000, "noise": NOISE, **more})  # type: ignore[arg-type]


def test_a_finalist_falls_when_the_mean_of_the_evidence_over_its_rivals_reaches_one_over_alpha() -> None:
    known = waves({7: 0.03, 3: 0.0, 9: 0.028}, 40)
    race = decide([7, 3, 9], known, rules())
    first = race.fallen[0]
    assert first.finalist == 3

    def mean_evidence(n: int) -> float:
        pairs = [
            Differences.of([float(w[j] or 0) - float(w[3] or 0) for w in known[:n]], NOISE) for j in (7, 9)
        ]
        return sum(math.exp(log_evidence(pair)) for pair in pairs) / 2

    assert mean_evidence(first.seed) == pytest.approx(first.evidence)
    assert mean_evidence(first.seed) >= 20
    assert all(mean_evidence(n) < 20 for n in range(1, first.seed))


def test_fallen_rivals_keep_their_last_evidence() -> None:
    known = waves({1: 0.05, 2: 0.0, 3: 0.049}, 30)
    race = decide([1, 2, 3], known, rules(budget=60))
    (fall,) = race.fallen
    assert race.seeds > fall.seed
    kept = Differences.of([float(w[2] or 0) - float(w[1] or 0) for w in known[: fall.seed]], NOISE)
    assert race.pairs[1, 2] == pytest.approx(math.exp(log_evidence(kept)))


def test_a_race_ends_when_one_is_left() -> None:
    race = decide([1, 2, 3], waves({1: 0.08, 2: 0.0, 3: 0.01}, 60), rules())
    assert (race.end, race.standing) == ("one left", (1,))
    assert race.seeds < 60


def test_a_race_ends_when_its_survivors_differ_by_no_more_than_wanted() -> None:
    known = waves({1: 0.0, 2: 0.001}, 200)
    race = decide([1, 2], known, rules(within=0.02))
    assert race.end == "within"
    assert race.gap <= 0.02
    before = decide([1, 2], known[: race.seeds - 1], rules(within=0.02))
    assert before.end is None
    assert before.gap > 0.02


def test_a_race_ends_before_the_seed_that_its_budget_does_not_pay_for() -> None:
    race = decide([1, 2, 3], waves({1: 0.0, 2: 0.0, 3: 0.0}, 50), rules(budget=29, cells=2))
    assert (race.end, race.seeds, race.cells) == ("budget", 4, 24)
    assert race.standing == (1, 2, 3)


def test_a_budget_below_one_seed_ends_a_race_at_once() -> None:
    race = decide([1, 2, 3], [], rules(budget=2))
    assert (race.end, race.seeds) == ("budget", 0)


def test_a_raised_budget_goes_on_from_where_the_race_ended() -> None:
    known = waves({1: 0.012, 2: 0.0, 3: 0.004}, 60)
    short, long = (decide([1, 2, 3], known, rules(budget=budget)) for budget in (12, 120))
    assert short.end == "budget"
    assert long.fallen[: len(short.fallen)] == short.fallen
    assert long.seeds > short.seeds


def test_values_trained_ahead_change_nothing() -> None:
    """Those of a finalist after its fall, and seeds after the end."""
    known = waves({1: 0.05, 2: 0.0, 3: 0.045}, 60)
    whole = decide([1, 2, 3], known, rules())
    assert whole.end == "one left"
    needed: list[Wave] = []
    for n, wave in enumerate(known[: whole.seeds], start=1):
        gone = {fall.finalist for fall in whole.fallen if fall.seed < n}
        needed.append({name: value for name, value in wave.items() if name not in gone})
    assert decide([1, 2, 3], needed, rules()) == whole


def test_a_race_waits_for_the_seed_that_lacks_a_value() -> None:
    known = waves({1: 0.0, 2: 0.0}, 6)
    lacking: list[Wave] = [*known[:3], {1: 0.5}, *known[4:]]
    race = decide([1, 2], lacking, rules())
    assert (race.seeds, race.end) == (3, None)


def test_a_finalist_whose_cell_failed_leaves_and_the_others_race_on() -> None:
    known = waves({1: 0.0, 2: 0.0, 3: 0.0}, 8)
    known[2] = {**known[2], 2: None}
    race = decide([1, 2, 3], known, rules(budget=20))
    assert [(fall.finalist, fall.seed, fall.evidence) for fall in race.fallen] == [(2, 3, None)]
    assert race.standing == (1, 3)


def test_a_race_in_which_every_cell_failed_has_no_winner() -> None:
    race = decide([1, 2], [{1: None, 2: None}], rules())
    assert (race.end, race.standing) == ("none left", ())


def test_equal_values_never_decide() -> None:
    race = decide([1, 2], [{1: 0.5, 2: 0.5}] * 50, rules(budget=100))
    assert (race.end, race.standing) == ("budget", (1, 2))


def test_a_race_is_plain_json() -> None:
    race = decide([4, 2], waves({4: 0.0, 2: 0.0}, 1), rules(noise=None))
    assert json.loads(json.dumps(race.to_dict(), allow_nan=False))["gap"] is None


def test_the_best_finalist_falls_in_at_most_one_race_of_twenty() -> None:
    rng = np.random.default_rng(8)
    repeats, falls = 300, 0
    for _ in range(repeats):
        noise = ResidualNoise(s=math.sqrt(float(rng.chisquare(18)) / 18), nu=18)
        drawn = [dict(enumerate(map(float, row))) for row in rng.normal(0, 1, (10, 4))]
        race: Race = decide(range(4), drawn, Rules(budget=1000, noise=noise))
        falls += any(fall.finalist == 0 for fall in race.fallen)
    assert falls <= stats.binom.ppf(0.999, repeats, 0.05)
    assert falls > 0
