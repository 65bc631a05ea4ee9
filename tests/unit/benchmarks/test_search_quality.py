"""The pieces of benchmarks/search_quality: random search's exact curve, and searches over a made-up table."""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mmap_model.errors import InputError
from mmap_model.plain import content_key

FOLDER = Path(__file__).parents[3] / "benchmarks" / "search_quality"
NAMES = ("table", "exact", "simulate", "run")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Its modules; other benchmarks may have some of the same names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    forget()
    import exact
    import run
    import simulate
    import table

    yield SimpleNamespace(exact=exact, run=run, simulate=simulate, table=table)
    forget()


def forget() -> None:
    for name in NAMES:
        sys.modules.pop(name, None)


def made(table: ModuleType, overrides: tuple[str, ...] = ()) -> Any:
    """All points of the narrowed grid at five seeds, better with every rate up to the fourth."""
    generator = random.Random(2)
    empty = table.Table({}, {}, overrides, 5)
    values, cells = {}, {}
    for number, (_, point) in enumerate(empty.plan().space.points()):
        key, rate = content_key(point.to_dict()), point.recipe.lr
        level = 0.5 + 0.05 * [0.003, 0.006, 0.012, 0.025, 0.05, 0.1].index(rate) * (rate < 0.04)
        curves = [[level + generator.gauss(0, 0.01) - 0.02 * (5 - e) for e in range(1, 6)] for _ in range(5)]
        values[key] = tuple(tuple(curve) for curve in curves)
        cells[key] = tuple(f"{number}-{seed}" for seed in range(5))
    return table.Table(values, cells, overrides, 5)


SMALL = ("space.0.similarity=[dot]", "space.1.prompt_length=[4]", "space.1.source_rows=[1]")


def test_random_search_is_exact(bench: SimpleNamespace) -> None:
    """As if every set of points were tried: 7 points of which two share their cells, all triples of them."""
    generator = random.Random(7)
    values = {str(p): tuple(tuple(generator.random() for _ in range(5)) for _ in range(4)) for p in range(7)}
    values["6"] = values["5"]
    cells = {p: tuple(f"{min(int(p), 5)}-{s}" for s in range(4)) for p in values}
    table = bench.table.Table(values, cells, (), 4)
    tried, cost, regret = 3, [], []
    for draw in itertools.combinations(range(4), 2):
        lost = bench.exact.regrets(table, draw, 5)
        for points in itertools.combinations(values, tried):
            best = max(points, key=lambda p: sum(values[p][s][4] for s in draw))
            regret.append(lost[best])
            cost.append(len({cells[p][s] for p in points for s in draw}))
    found = bench.exact.random_curve(table, 2, 2, 5)[tried - 1]
    assert found == pytest.approx((sum(cost) / len(cost), sum(regret) / len(regret)))


def test_the_cost_of_a_regret_lies_between_the_steps_that_enclose_it(bench: SimpleNamespace) -> None:
    curve = [(10.0, 4.0), (20.0, 2.0), (30.0, 1.0)]
    assert bench.exact.cost_to_reach(curve, 3.0) == pytest.approx(15.0)
    assert bench.exact.cost_to_reach(curve, 5.0) == 10.0 and bench.exact.cost_to_reach(curve, 0.5) is None


def costs(bench: SimpleNamespace) -> Any:
    return bench.simulate.Costs(seconds={1: 3.0, 2: 2.5, 3: 2.0}, probe={1: 1.0, 2: 1.0, 3: 1.0})


def test_without_stopping_a_search_trains_every_seed_of_every_trial(bench: SimpleNamespace) -> None:
    table = made(bench.table, SMALL)
    plan = table.plan("search.preset=false", "search.sampler=random", "search.scheduler=none")
    steps = list(bench.simulate.search(table, plan, (0, 1, 2), 6, 1, costs(bench)))
    assert [step.cell_epochs for step in steps] == [6 + 15 * n for n in range(1, 7)]
    assert steps[-1].device_seconds == 3 + 6 * 15 * 2.0
    mean = {p: sum(v[s][4] for s in (0, 1, 2)) for p, v in table.values.items()}
    assert mean[steps[-1].best] >= mean[steps[0].best]


def test_stopping_costs_less_and_still_finds_a_good_point(bench: SimpleNamespace) -> None:
    table = made(bench.table, SMALL)
    options = ("search.preset=false", "search.sampler=random")
    whole, less = (
        list(
            bench.simulate.search(
                table, table.plan(*options, f"search.scheduler={name}"), (0, 1, 2), 20, 3, costs(bench)
            )
        )[-1]
        for name in ("none", "seeds")
    )
    assert less.cell_epochs < 0.8 * whole.cell_epochs
    assert less.device_seconds < whole.device_seconds
    assert bench.exact.regrets(table, (0, 1, 2), 5)[less.best] < 0.03


def test_the_committed_table_is_the_whole_grid(bench: SimpleNamespace) -> None:
    about = json.loads(bench.table.ABOUT.read_text())
    assert about["of"] == about["points"] == 144 and max(about["fused"]) == 10
    table = bench.table.read()
    assert len(table.values) == 144 and table.seeds == 10 and table.overrides
    assert {len(curves) for curves in table.values.values()} == {10}


def test_samplers_that_need_independent_parameters_search_the_part_that_has_them(
    bench: SimpleNamespace,
) -> None:
    part = bench.table.read(independent=True)
    assert len(part.values) == 96
    with pytest.raises(InputError, match="which depend on others"):
        bench.table.read().plan("search.preset=false", "search.sampler=gp", "search.scheduler=none")
    plan = part.plan("search.preset=false", "search.sampler=gp", "search.scheduler=none")
    assert {content_key(point.to_dict()) for _, point in plan.space.points()} == set(part.values)


def test_what_is_measured_is_kept_and_written_in_order(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Arms end in any order; a second run does what is missing, with more repeats too."""
    run = bench.run
    asked: list[tuple[str, bool, int]] = []

    def measured(name: str, independent: bool, repeats: int, trials: int) -> dict[str, Any]:
        asked.append((name, independent, repeats))
        if name.startswith("gp") and not independent:
            return {"refused": "no"}
        return {"repeats": repeats, "curve": [[1.0, 1.0, 0.1]]}

    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(run, "arm_or_refusal", measured)
    monkeypatch.setattr(run, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(run, "exact_arms", lambda *_: {key: {"repeats": None} for key in run.EXACT})
    results = run.Results(5)
    results.measure(run.WHOLE, ["tpe/none", "random/none", "gp/none"], 2)
    results.measure(run.PART, results.refused(run.WHOLE), 2)
    results.save()
    written = json.loads(run.RESULTS.read_text())
    assert [*written[run.WHOLE]["arms"]] == [*run.EXACT, "random/none", "tpe/none", "gp/none"]
    assert [*written[run.PART]["arms"]] == [*run.EXACT, "gp/none"]
    asked.clear()
    run.Results(5).measure(run.WHOLE, ["random/none", "random/seeds"], 2)
    assert asked == [("random/seeds", False, 5)]
