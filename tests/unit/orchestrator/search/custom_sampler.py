"""A custom sampler: it remembers in the study how many points it has proposed."""

from __future__ import annotations

from typing import Any

import optuna


class Counting(optuna.samplers.BaseSampler):
    """Every ``stride``-th point is the middle, all others are random."""

    def __init__(self, *, stride: int = 3, seed: int = 0) -> None:
        self._stride = stride
        self._random = optuna.samplers.RandomSampler(seed)

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
        count = study._storage.get_study_system_attrs(study._study_id).get("counting", 0) + 1
        study._storage.set_study_system_attr(study._study_id, "counting", count)
        study._storage.set_trial_system_attr(trial._trial_id, "counting", count)
        return {}

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        if trial.system_attrs["counting"] % self._stride == 0 and not hasattr(distribution, "choices"):
            return (distribution.low * distribution.high) ** 0.5 * (1 + trial.number / 1000)
        return self._random.sample_independent(study, trial, name, distribution)


class Forgetful(optuna.samplers.RandomSampler):
    """It cannot be seeded."""

    def __init__(self) -> None:
        super().__init__()
