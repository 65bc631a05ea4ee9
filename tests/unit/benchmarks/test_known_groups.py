"""The benchmark of known groups: what chance is, what is kept, and how recoveries are counted."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mmap_model.grouping import GramStack
from mmap_model.symbols import known_partition
from orchestrator.study import load_study

FOLDER = Path(__file__).parents[3] / "benchmarks" / "known_groups"


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    """The benchmark's own modules, whose names others may have too."""
    names = ("kept", "run", "judge")
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(FOLDER))
    found = {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(FOLDER))
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module
    return found


def planted(steps: int, truth: tuple[tuple[int, ...], ...], seed: int) -> GramStack:
    """Products of gradients that agree within groups."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(len(truth), 40))
    rows = np.empty((steps, 8, 40))
    for group, members in enumerate(truth):
        rows[:, list(members)] = common[group] + 0.3 * rng.normal(size=(steps, len(members), 40))
    grams = rows @ rows.transpose(0, 2, 1)
    return GramStack(4 * np.arange(1, steps + 1), {"prompts": grams, "parameters": 3 * grams})


def test_chance_is_one_over_the_partitions_of_the_same_sizes(modules: dict[str, ModuleType]) -> None:
    chance = modules["judge"].chance
    assert chance(known_partition()) == pytest.approx(1 / 105)
    assert chance(((0, 1, 2), (3, 4, 5))) == pytest.approx(1 / 10)
    assert chance(((0, 1, 2), (3, 4))) == pytest.approx(1 / 10)
    assert chance(((0, 1, 2, 3),)) == 1


def test_kept_gradients_survive_the_file(modules: dict[str, ModuleType]) -> None:
    grams = planted(3, known_partition(), 0)
    again = modules["kept"].grams_of({"grams": modules["kept"].plain(grams)})
    assert again.steps.tolist() == grams.steps.tolist()
    for space, stack in grams.spaces.items():
        assert np.allclose(again.spaces[space], stack, rtol=1e-6)
        assert np.array_equal(again.spaces[space], again.spaces[space].transpose(0, 2, 1))


def test_planted_groups_are_counted_as_found_and_others_as_missed(modules: dict[str, ModuleType]) -> None:
    judge, plain = modules["judge"], modules["kept"].plain
    wrong = ((0, 4), (1, 5), (2, 6), (3, 7))
    probes = [
        {"seed": seed, "grams": plain(planted(4, truth, seed))}
        for seed, truth in enumerate((known_partition(), wrong, known_partition()))
    ]
    found = judge.recovery(probes, judge.readings()[0])
    assert (found["exact"], found["seeds"], found["exchanged_apart"]) == (2, 3, 2)
    assert found["p"] == pytest.approx(3 * (1 / 105) ** 2, rel=0.02)
    assert found["adjusted_rand"]["mean"] < 1


def test_the_first_reading_is_the_one_of_the_study(modules: dict[str, ModuleType]) -> None:
    study = load_study(str(FOLDER / "study.yaml"))
    first, *others = modules["judge"].readings()
    assert first == study.grouping
    assert len(others) == 7 and first not in others
