"""What every registered search space must keep. A new one adds a row to OPTIONS."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from mmap_model.architecture import read_architecture
from mmap_model.cells import Point
from mmap_model.configuration import Grouping
from mmap_model.methods.mmap import MmapSettings
from search_spaces import SearchSpace, build_space, resolved_name, space_names

EXAMPLE = f"{Path(__file__).parents[2] / 'docs' / 'examples' / 'momentum.py'}:Momentum"
OPTIONS: dict[str, dict[str, Any]] = {
    "choice": {"key": "recipe.weight_decay", "choices": [0.0, 5e-4]},
    "grouping": {
        "objective": ["tag_mean", "sum", "sum_centered"],
        "groups": [None, 2, 3],
        "space": ["prompts"],
    },
    "learning_rate": {},
    "mmap_shape": {"prompt_length": [2, 6, 14]},
    "scale_init": {"choices": [None, 0.02, 1.0]},
    "schedule": {"warmup_epochs": [0, 1]},
    EXAMPLE: {"halvings": [2, 4]},
}


def test_every_registered_space_is_under_contract() -> None:
    assert set(OPTIONS) == {*space_names(), EXAMPLE}


@pytest.fixture(params=sorted(OPTIONS))
def space(request: pytest.FixtureRequest) -> SearchSpace:
    part = build_space(request.param, OPTIONS[request.param], "space.0")
    fixed = Point(method="mmap", settings=MmapSettings(source_cols=32), grouping=Grouping())
    return SearchSpace([part], fixed, architecture=read_architecture("symbols"), tasks=4, max_params=20_000)


def optuna_trials(space: SearchSpace, number: int) -> list[tuple[dict[str, Any], Point]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1, multivariate=True, group=True))
    found = []
    for number_ in range(number):
        trial = study.ask()
        point = space.suggest(trial)
        found.append((trial.params, point))
        study.tell(trial, float(number_))
    return found


def test_optuna_draws_valid_points_that_replay(space: SearchSpace) -> None:
    for params, point in optuna_trials(space, 25):
        assert space.replay(params) == point
        assert space.parameters(point)[1] <= 20_000
        assert Point.from_dict(point.to_dict()) == point


def test_it_changes_what_it_says_and_nothing_else(space: SearchSpace) -> None:
    def flat(point: Point) -> dict[str, Any]:
        return {
            f"{s}.{k}": v
            for s, values in point.to_dict().items()
            if isinstance(values, dict)
            for k, v in values.items()
        }

    written = {key for part in space.spaces for key in part.writes()}
    fixed = flat(space.fixed)
    changed = {
        key
        for _, point in optuna_trials(space, 25)
        for key, value in flat(point).items()
        if value != fixed[key]
    }
    assert changed <= written
    names = {resolved_name(name) for params, _ in optuna_trials(space, 25) for name in params}
    assert names <= {key.rpartition(".")[2] for key in written}


def test_the_same_values_give_the_same_parameters(space: SearchSpace) -> None:
    preset = space.preset()
    assert space.params(space.values(preset)) == preset


def test_suggesting_leaves_the_fixed_point_alone(space: SearchSpace) -> None:
    before = copy.deepcopy(space.fixed)
    optuna_trials(space, 5)
    assert space.fixed == before
