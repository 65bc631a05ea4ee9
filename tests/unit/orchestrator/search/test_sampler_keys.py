"""Which samplers a study may name, and with what options."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import optuna
import pytest

from orchestrator.search.samplers import Samplers
from orchestrator.study.errors import StudyError
from orchestrator.study.sampler import SAMPLERS, check_needs, check_sampler, check_space, kind_of
from search_spaces import Asked

CUSTOM = Path(__file__).parent / "custom_sampler.py"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tpe", {"n_startup_trials": 5, "n_ei_candidates": 12, "constant_liar": False}),
        ("gp", {"n_startup_trials": 5, "deterministic_objective": True}),
        ("qmc", {"qmc_type": "halton", "scramble": False}),
        ("nsga2", {"population_size": 8, "mutation_prob": 0.1, "crossover_prob": 1, "swapping_prob": 0.5}),
        ("nsga3", {"population_size": 8, "dividing_parameter": 4}),
        ("cmaes", {"popsize": 6, "n_startup_trials": 2, "with_margin": True}),
        ("cmaes", {"use_separable_cma": True, "consider_pruned_trials": True}),
        ("optuna.samplers:BruteForceSampler", {}),
        (f"{CUSTOM}:Counting", {"stride": 4}),
    ],
)
def test_every_option_is_one_that_optuna_takes(name: str, options: dict[str, Any]) -> None:
    check_sampler(name, options)
    made = Samplers(name=name, options=options).make(0, 0)
    assert isinstance(made, optuna.samplers.BaseSampler)


def test_all_options_of_the_table_are_tried_above() -> None:
    import inspect

    for name, kind in SAMPLERS.items():
        takes = inspect.signature(type(Samplers(name=name).make(0, 0)).__init__).parameters
        assert set(kind.options) <= set(takes), name


@pytest.mark.parametrize(
    ("name", "options", "where", "words"),
    [
        ("tpee", {}, "search.sampler", ["'tpe'", "file.py:MySampler"]),
        ("nsga2", {"population": 3}, "search.sampler_options.population", ["'population_size'"]),
        ("nsga2", {"population_size": 1}, "search.sampler_options.population_size", ["2 or more"]),
        ("nsga2", {"mutation_prob": 2}, "search.sampler_options.mutation_prob", ["from 0 to 1"]),
        ("qmc", {"qmc_type": "sobel"}, "search.sampler_options.qmc_type", ["sobol or halton"]),
        ("qmc", {"scramble": 1}, "search.sampler_options.scramble", ["true or false"]),
        (f"{CUSTOM}:Forgetful", {}, "search.sampler", ["takes no seed"]),
        (f"{CUSTOM}:Any", {}, "search.sampler", ["is not a sampler", "BaseSampler"]),
        (f"{CUSTOM}:Counting", {"strid": 3}, "search.sampler_options.strid", ["'stride'"]),
        (f"{CUSTOM}:Counting", {"seed": 3}, "search.sampler_options.seed", ["search.seed"]),
        ("optuna.samplers:GridSampler", {}, "search.sampler_options", ["search_space"]),
        ("nothere.py:Mine", {}, "search.sampler", ["does not exist"]),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_key(
    name: str, options: dict[str, Any], where: str, words: list[str]
) -> None:
    with pytest.raises(StudyError) as caught:
        check_sampler(name, options)
    assert caught.value.where == where
    assert all(word in f"{caught.value.problem}\n{caught.value.fix}" for word in words), str(caught.value)


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StudyError, match="cmaes") as caught:
        check_needs("cmaes")
    check_sampler("cmaes", {})  # as a record that is read elsewhere
    assert "uv sync --extra samplers" in str(caught.value.fix)


def test_a_class_of_optuna_given_by_its_path_is_held_to_the_same_rules() -> None:
    assert kind_of("optuna.samplers:CmaEsSampler") is SAMPLERS["cmaes"]
    with pytest.raises(StudyError, match="lists"):
        check_space("optuna.samplers:CmaEsSampler", Asked(categorical=("b",)))
    check_space("gp", Asked(categorical=("b",)))
    check_space("tpe", Asked(categorical=("b",), conditional=("m",)))
