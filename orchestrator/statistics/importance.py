"""How much each hyper-parameter matters, with an interval from resampled trials."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FEWEST = 20
"""Complete trials below which an importance is noise."""

TOP = 0.1
"""Share of the trials that count as good, where that is at least `AT_LEAST`."""

AT_LEAST = 5
"""Good trials that PED-ANOVA asks for."""

RESAMPLES = 100
MOST = 5000
"""Trials drawn in a resample at most; of larger studies the intervals are too wide rather than too narrow."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Of one hyper-parameter; those of all sum to 1.

    Attributes:
        name: of the hyper-parameter.
        value: of all trials.
        low, high: 5 % and 95 % quantile over resampled trials.
    """

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Observed:
    """A complete trial: its settings by name, and its objective, of which more is better."""

    settings: Mapping[str, Any]
    value: float


def importances(trials: Sequence[Observed], logarithmic: frozenset[str] = frozenset()) -> list[Importance]:
    """Share of each varied setting in what separates the best trials from all, the largest first.

    By PED-ANOVA (Watanabe et al., IJCAI 2023), as Optuna has it: the divergence between where the best tenth
    of the trials lie and where all lie. Intervals are of trials drawn with replacement: they say how far the
    order could be another with other trials of the same search, not how far it holds outside its space.

    Args:
        trials: complete ones, `FEWEST` at least.
        logarithmic: settings whose distances are those of logarithms.
    """
    assert len(trials) >= FEWEST, "too few trials for an importance"
    distributions = _distributions(trials, logarithmic)
    if not distributions:
        return []
    made = [_trial(trial, number, distributions) for number, trial in enumerate(trials)]
    whole = _importances(made, distributions)
    draw = random.Random(0)
    size = min(len(trials), MOST)
    samples = [
        _importances([made[draw.randrange(len(made))] for _ in range(size)], distributions)
        for _ in range(RESAMPLES)
    ]
    found = []
    for name, value in whole.items():
        values = sorted(sample[name] for sample in samples)
        low, high = values[int(0.05 * RESAMPLES)], values[int(0.95 * RESAMPLES) - 1]
        found.append(Importance(name=name, value=value, low=low, high=high))
    return sorted(found, key=lambda importance: (-importance.value, importance.name))


def _distributions(trials: Sequence[Observed], logarithmic: frozenset[str]) -> dict[str, Any]:
    """Of the settings that vary: floats over the range that was tried, everything else as categories."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found = {}
    names = dict.fromkeys(name for trial in trials for name in trial.settings)
    for name in names:
        values = [trial.settings.get(name) for trial in trials]
        different = sorted({repr(value) for value in values})
        if len(different) < 2:
            continue
        floats = [value for value in values if isinstance(value, float)]
        if len(floats) == len(values):
            low, high = min(floats), max(floats)
            log = name in logarithmic and low > 0
            found[name] = FloatDistribution(low, high, log=log)
        else:
            found[name] = CategoricalDistribution(different)
    return found


def _trial(trial: Observed, number: int, distributions: Mapping[str, Any]) -> Any:
    """The trial as Optuna has it."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import FrozenTrial, TrialState

    params = {
        name: repr(trial.settings.get(name))
        if isinstance(distribution, CategoricalDistribution)
        else trial.settings[name]
        for name, distribution in distributions.items()
    }
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE,
        value=trial.value,
        datetime_start=None,
        datetime_complete=None,
        params=params,
        distributions=dict(distributions),
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _importances(trials: Sequence[Any], distributions: Mapping[str, Any]) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    quantile = min(0.5, max(TOP, AT_LEAST / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        found = get_param_importances(_study_of(trials), evaluator=evaluator, params=list(distributions))
    return {name: float(found.get(name, 0.0)) for name in distributions}


def _study_of(trials: Sequence[Any]) -> Any:
    """A study of these trials as they are: adding each to a storage copies it, which takes a millisecond."""
    import optuna

    class Study(optuna.study.Study):  # type: ignore[misc]
        def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[Any]:
            return [trial for trial in trials if states is None or trial.state in states]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.InMemoryStorage()
    name = "resampled"
    storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], name)
    return Study(name, storage)
