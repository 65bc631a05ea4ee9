"""The simulation of benchmarks/ranking in small: through the functions that `orchestrator results` uses."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "ranking"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ranking_benchmark", FOLDER / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("rows", [5, 20, 50])
def test_equal_configurations_are_called_different_in_one_study_of_twenty(
    benchmark: ModuleType, rows: int
) -> None:
    counts = benchmark.simulate(benchmark.Scenario("equal", rows), 300, 1)
    low, high = benchmark.interval(counts.marked, 300)
    assert low <= 0.05 <= high
    assert counts.paired > 3 * counts.marked, "what ignores the selection marks far more"


@pytest.mark.parametrize("rows", [5, 20, 50])
def test_a_configuration_five_standard_deviations_worse_is_found(benchmark: ModuleType, rows: int) -> None:
    counts = benchmark.simulate(benchmark.Scenario("one worse", rows, behind=5), 60, 1)
    assert counts.worse >= 0.8 * 60


def test_splits_of_one_seed_are_not_taken_for_independent(benchmark: ModuleType) -> None:
    scenario = benchmark.Scenario("correlated", 10, splits=3, shared=0.8)
    assert benchmark.interval(benchmark.simulate(scenario, 300, 1).marked, 300)[0] <= 0.05


def test_recorded_figures_are_within_what_was_aimed_at(benchmark: ModuleType) -> None:
    results = json.loads((FOLDER / "results.json").read_text())
    found = {row["scenario"]["name"]: row for row in results["scenarios"]}
    assert results["studies"] == 4000 and results["provenance"]["commit"]
    for scenario in benchmark.REQUIRED:
        row = found[scenario.name]
        low, high = row["interval"]
        if scenario.behind:
            assert row["worse"] >= 0.8 * row["studies"]
        else:
            assert low <= 0.05 and high <= 0.07
    assert benchmark.tables(results) in (FOLDER / "README.md").read_text()
