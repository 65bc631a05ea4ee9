"""Optuna's samplers by the names that a study gives them, each made anew for every attempt at a trial.

A sampler that lives for one attempt has nothing to lose when the driver is killed: what it proposes follows
from its seed and from the trials that it sees. What Optuna's samplers keep between trials they keep in system
attributes, see `orchestrator.search.memory`.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna

from orchestrator.study.sampler import is_custom, make_custom

BOUNDED = frozenset({"tpe", "gp", "random", "grid"})
"""Samplers that see the best and the latest trials only. The others need all that they have proposed: their
generations, or how far their sequence is; their cost grows with the trials, by microseconds for each."""


@dataclass(frozen=True, kw_only=True)
class Samplers:
    """Makes the samplers of one study.

    Args:
        name: a key of `orchestrator.study.sampler.SAMPLERS`, or the Python path of a class.
        options: of that sampler.
        seed: of the search.
    """

    name: str = "tpe"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 1

    @property
    def is_bounded(self) -> bool:
        """Whether it may forget trials, see `BOUNDED`."""
        return self.name in BOUNDED

    def make(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        """The sampler of an attempt at a trial. Raises StudyError where one's own class cannot be made."""
        seed = derived_seed(self.seed, number, attempt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several are called experimental
            if is_custom(self.name):
                return make_custom(self.name, self.options, seed)
            if self.name == "qmc":
                return self._sequence(seed)
            kinds = {
                "tpe": optuna.samplers.TPESampler,
                "random": optuna.samplers.RandomSampler,
                "grid": optuna.samplers.RandomSampler,
                "gp": optuna.samplers.GPSampler,
                "nsga2": optuna.samplers.NSGAIISampler,
                "nsga3": optuna.samplers.NSGAIIISampler,
                "cmaes": optuna.samplers.CmaEsSampler,
            }
            fixed = {"multivariate": True, "group": True} if self.name == "tpe" else {}
            return kinds[self.name](seed=seed, **fixed, **self.options)

    def at_random(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        """For what is left to chance."""
        return optuna.samplers.RandomSampler(derived_seed(self.seed, number, attempt))

    def _sequence(self, seed: int) -> optuna.samplers.BaseSampler:
        """A low-discrepancy sequence is one for the whole study; only its first point is drawn at random."""
        return optuna.samplers.QMCSampler(
            seed=derived_seed(self.seed),
            independent_sampler=optuna.samplers.RandomSampler(seed),
            **{"scramble": True, **self.options},
        )


def derived_seed(*parts: int) -> int:
    """A seed below 2³² that depends on all parts."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4], "big")
