"""Marks beside rank 1: their level, their power, and every case in which there can be none."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from scipy.stats import studentized_range, ttest_rel

from orchestrator.statistics.dunnett import quantile as lead_quantile
from orchestrator.statistics.significance import Candidate, Significance, compare_with_best

SEEDS = ("1", "2", "3")


def candidates(*rows: Sequence[float], cells: dict[int, Sequence[str]] | None = None) -> list[Candidate]:
    """Rows by number, the best first."""
    found = [
        Candidate(
            name=i,
            values=dict(zip(SEEDS, row, strict=False)),
            cells=dict(zip(SEEDS, (cells or {}).get(i, [f"{i}-{s}" for s in SEEDS]), strict=False)),
        )
        for i, row in enumerate(rows)
    ]
    return sorted(found, key=lambda row: -sum(row.values.values()))


def compare(*rows: Sequence[float], blocks: Sequence[str] = SEEDS, **more: Any) -> Significance:
    return compare_with_best(candidates(*rows, **more), blocks)


def noisy(rng: random.Random, *levels: float, deviation: float = 0.01) -> list[list[float]]:
    seeds = [rng.gauss(0, 0.03) for _ in SEEDS]
    return [[level + s + rng.gauss(0, deviation) for s in seeds] for level in levels]


def test_threshold_is_tukeys_on_the_residual_of_the_additive_model() -> None:
    rows = noisy(random.Random(1), 0.6, 0.59, 0.5, 0.58)
    found = compare(*rows)
    mean = [sum(row) / 3 for row in rows]
    block = [sum(row[b] for row in rows) / 4 for b in range(3)]
    grand = sum(mean) / 4
    squares = sum((rows[i][b] - mean[i] - block[b] + grand) ** 2 for i in range(4) for b in range(3))
    assert (found.rows, found.criterion.blocks, found.criterion.nu) == (4, 3, 6)
    assert found.criterion.s == pytest.approx(math.sqrt(squares / 6))
    q = float(studentized_range.ppf(0.95, 4, 6))
    assert found.criterion.threshold == pytest.approx(q * math.sqrt(squares / 6) / math.sqrt(3), rel=1e-6)
    assert found.worse == {
        i: max(mean) - mean[i] > found.criterion.threshold for i in range(4) if mean[i] < max(mean)
    }
    assert found.worse[2] and not found.worse[1]


@pytest.mark.parametrize("seed", range(10))
def test_two_rows_are_compared_by_the_paired_t_test(seed: int) -> None:
    better, worse = sorted(noisy(random.Random(seed), 0.6, 0.56), key=sum, reverse=True)
    found = compare(better, worse)
    assert found.worse == {1: bool(ttest_rel(better, worse).pvalue < 0.05)}


def test_without_rows_or_with_one_nothing_is_said() -> None:
    assert compare().reason == "one row"
    alone = compare([0.5, 0.6, 0.7])
    assert (alone.reason, alone.worse, alone.rows) == ("one row", {}, 1)


def test_one_seed_and_split_marks_nothing_and_says_why() -> None:
    found = compare([0.9], [0.1], [0.5], blocks=["1"])
    assert (found.reason, found.worse, found.criterion) == ("one seed", {}, None)


def test_two_blocks_leave_k_minus_one_degrees_of_freedom() -> None:
    found = compare([0.6, 0.61], [0.61, 0.60], [0.2, 0.21], blocks=SEEDS[:2])
    assert (found.criterion.nu, found.reason) == (2, None) and found.worse == {1: False, 2: True}


@pytest.mark.parametrize(("shared", "unit"), [(0.0, "seed × split"), (1.0, "seed")])
def test_over_several_splits_the_stricter_criterion_counts(shared: float, unit: str) -> None:
    rng = random.Random(3)
    blocks = [(split, seed) for split in ("3", "6", "12") for seed in SEEDS]
    rows = []
    for i in range(6):
        own = {seed: rng.gauss(0, 0.01) for seed in SEEDS}
        lift = {"3": 0.0, "6": 0.1, "12": 0.2 + (0.02 * i if not shared else 0.0)}
        noise = {b: own[b[1]] if shared else rng.gauss(0, 0.01) for b in blocks}
        rows.append(Candidate(name=i, values={b: 0.5 + lift[b[0]] + noise[b] for b in blocks}))
    rows.sort(key=lambda row: -sum(row.values.values()))
    found = compare_with_best(rows, blocks, seed_of=lambda block: block[1])
    by_block = compare_with_best(rows, blocks).criterion
    means = [
        Candidate(
            name=row.name, values={s: sum(row.values[p, s] for p in ("3", "6", "12")) / 3 for s in SEEDS}
        )
        for row in rows
    ]
    by_seed = compare_with_best(means, SEEDS).criterion
    assert found.criterion is not None and by_block is not None and by_seed is not None
    assert found.criterion.threshold == pytest.approx(max(by_block.threshold, by_seed.threshold))
    assert found.criterion.unit == unit
    assert (found.criterion.blocks, found.criterion.nu) == ((9, 40) if unit != "seed" else (3, 10))


def test_one_seed_at_several_splits_marks_nothing() -> None:
    rows = [Candidate(name=i, values={("3", "1"): 0.9 - 0.1 * i, ("6", "1"): 0.8}) for i in range(4)]
    assert compare_with_best(rows, list(rows[0].values), seed_of=lambda b: b[1]).reason == "one seed"


@pytest.mark.parametrize("rows", [[[0.5, 0.6, 0.7]] * 4, [[0.5, 0.6, 0.7], [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]]])
def test_a_residual_of_zero_marks_nothing(rows: list[list[float]]) -> None:
    found = compare(*rows)
    assert found.reason == "no residual" and found.worse == {} and found.criterion is None


def test_rows_of_the_same_cells_are_one_row() -> None:
    rows = noisy(random.Random(2), 0.6, 0.6, 0.5, 0.59)
    rows[3] = rows[2]
    keys = {3: ["2-1", "2-2", "2-3"]}
    merged, alone = compare(*rows, cells=keys), compare(*rows[:3])
    assert merged.criterion.threshold == alone.criterion.threshold and merged.rows == 3
    assert merged.same == {3: 2} and merged.worse[3] == merged.worse[2]


def test_a_row_of_rank_ones_own_cells_is_not_worse() -> None:
    found = compare([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], cells={1: ["0-1", "0-2", "0-3"]})
    assert found.worse == {1: False} and found.reason == "one row"


def test_shared_cells_are_pooled_once() -> None:
    rows = noisy(random.Random(4), 0.6, 0.6, 0.59, 0.6, 0.58)
    rows[4] = [*rows[0][:2], 0.2]
    shared = compare(*rows, cells={4: ["0-1", "0-2", "4-3"]})
    assert shared.rows == 5 - len(shared.apart) and shared.criterion.nu == 6
    assert 4 in shared.apart, "its third seed is far from what its first two say"
    rows[4][2] = rows[0][2] - 0.003
    near = compare(*rows, cells={4: ["0-1", "0-2", "4-3"]})
    assert (near.rows, near.criterion.nu) == (5, 6) and near.worse.get(4) is not True
    assert near.criterion.s == pytest.approx(compare(*rows[:4]).criterion.s)


def test_a_row_that_lacks_a_seed_is_named_and_not_compared() -> None:
    found = compare([0.60, 0.61, 0.59], [0.2, 0.2], [0.58, 0.6, 0.6])
    assert found.incomplete == (1,) and 1 not in found.worse and found.rows == 2


def test_nothing_is_worse_than_a_best_that_lacks_seeds() -> None:
    ranking = [
        Candidate(name="best", values={"1": 0.9, "2": 0.9}),
        *(Candidate(name=i, values=dict.fromkeys(SEEDS, 0.1 * i)) for i in (3, 2, 1)),
    ]
    found = compare_with_best(ranking, SEEDS)
    assert (found.reason, found.incomplete, found.worse) == ("best incomplete", ("best",), {})


def test_an_unsteady_row_is_listed_apart_and_leaves_the_others_threshold_alone() -> None:
    rows = noisy(random.Random(6), *[0.6] * 8)
    unsteady = compare(*rows, [0.1, 0.5, 0.9])
    assert unsteady.apart == (8,) and 8 not in unsteady.worse and unsteady.rows == 8
    assert unsteady.criterion.threshold == pytest.approx(compare(*rows).criterion.threshold)


def test_an_unsteady_best_row_leaves_nothing_to_compare_with() -> None:
    found = compare(*noisy(random.Random(6), *[0.6] * 8), [0.3, 0.9, 0.99])
    assert found.reason == "best apart" and found.apart == (8,) and found.worse == {}


@pytest.mark.parametrize("k", [5, 20])
def test_of_equal_rows_any_is_marked_in_about_one_study_of_twenty(k: int) -> None:
    rng = random.Random(k)
    marked = sum(any(compare(*noisy(rng, *[0.6] * k)).worse.values()) for _ in range(400))
    assert 8 <= marked <= 36


@pytest.mark.parametrize("k", [5, 20])
def test_a_row_five_standard_deviations_worse_is_marked(k: int) -> None:
    rng = random.Random(k)
    marked = sum(bool(compare(*noisy(rng, *[0.6] * (k - 1), 0.55)).worse.get(k - 1)) for _ in range(100))
    assert marked >= 80


def test_results_take_thousands_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(8)
    additions = 0
    from orchestrator.statistics import cochran

    share = cochran.PooledResidual.share

    def counted(self: Any, row: Any) -> float:
        nonlocal additions
        additions += 1
        return share(self, row)

    monkeypatch.setattr(cochran.PooledResidual, "share", counted)
    found = compare(*noisy(rng, *[0.6] * 3000))
    assert found.criterion is not None and additions <= 4 * 3000, "linear in the number of trials"


def test_rows_that_could_be_the_best_are_those_within_dunnetts_distance() -> None:
    rows = noisy(random.Random(2), 0.6, 0.592, 0.5, 0.58)
    found = compare(*rows)
    mean = [sum(row) / 3 for row in rows]
    assert found.criterion is not None
    lead = lead_quantile(0.95, 4, 6) * found.criterion.s * math.sqrt(2 / 3)
    assert found.criterion.lead == pytest.approx(lead) and lead < found.criterion.threshold
    assert found.possible == {i: max(mean) - mean[i] <= lead for i in range(4)}
    assert found.possible[0] and not found.possible[2]


def test_rows_of_equal_cells_could_be_the_best_together() -> None:
    cells = {0: ["a", "b", "c"], 1: ["a", "b", "c"], 2: ["d", "e", "f"]}
    found = compare([0.6, 0.61, 0.59], [0.6, 0.61, 0.59], [0.2, 0.3, 0.2], cells=cells)
    assert (
        found.possible == {0: True, 1: True, 2: False} and compare([0.9], [0.1], blocks=["1"]).possible == {}
    )


def test_the_rows_that_could_be_the_best_hold_it_in_nineteen_of_twenty_studies() -> None:
    rng, held, ruled_out = random.Random(11), 0, 0
    for _ in range(300):
        found = compare(*noisy(rng, *(0.5 + 0.004 * i for i in range(6))))
        held += found.possible[5]
        ruled_out += sum(not possible for possible in found.possible.values())
    assert held >= 270 and ruled_out > 0, "the last is the best: 285 are expected at least, give or take 4"
