"""The probability of being on the Pareto front, beside how often a trial that is given it is there."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.ledger import TrialRecord
from orchestrator.statistics.front_odds import on_front
from orchestrator.statistics.objectives import Aim
from orchestrator.statistics.pareto import weigh
from orchestrator.statistics.selftest.checks import Check, Setting, Suite
from orchestrator.statistics.selftest.made import BLOCK_SPREAD, DEVIATION, LEVEL
from orchestrator.statistics.selftest.noise import Noise

SPREADS = (0.3, 1.0, 2.0)
"""τ/σ: by how much configurations differ beside the noise. Equals of one size are all on the front."""

CONFIGURATIONS, SEEDS = 20, 3
SIZES = (1000, 2000, 5000, 10_000, 20_000, 40_000)
"""Parameter counts, of which several configurations have the same."""

SHARED = 0.6
"""Correlation between objectives, of configurations as of their noise."""

BINS, ALLOWED = 10, 0.05

AIMS = (["accuracy", "-parameters"], ["accuracy", "worst_task", "-parameters"])


def run(setting: Setting) -> Iterator[Check]:
    """Two objectives and three, at every spread."""
    for aim in AIMS:
        for spread in SPREADS:
            name = f"{', '.join(aim)}, τ/σ = {spread:g}"
            stated, there = _found(name, Aim.of(aim), spread, setting)
            yield _check(name, stated, there)


def calibration_error(stated: Sequence[float], there: Sequence[bool]) -> float:
    """By how much stated probabilities miss, on average.

    They are sorted into ten bins of equal width; of each bin, the mean of what was stated less the share that
    is there, without its sign; weighted by the number in the bin.
    """
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for probability, true in zip(stated, there, strict=True):
        bins[min(int(probability * BINS), BINS - 1)].append((probability, true))
    missed = [abs(math.fsum(p for p, _ in each) - sum(true for _, true in each)) for each in bins]
    return math.fsum(missed) / len(stated)


def _check(name: str, stated: Sequence[float], there: Sequence[bool]) -> Check:
    error = calibration_error(stated, there)
    mean, share = math.fsum(stated) / len(stated), sum(there) / len(there)
    return Check(
        name=name,
        measure="calibration error of being on the front",
        stated=f"0 ({100 * mean:.0f} % on it, {100 * share:.0f} % true)",
        reached=error,
        bound=f"at most {100 * ALLOWED:.0f} points",
        holds=error <= ALLOWED,
    )


def _found(name: str, aim: Aim, spread: float, setting: Setting) -> tuple[list[float], list[bool]]:
    import numpy as np

    rng = setting.random(name)
    stated: list[float] = []
    there: list[bool] = []
    noisy = [each.name for each in aim.objectives if each.name != "parameters"]
    for _ in setting.each(name):
        truths = _correlated(rng, CONFIGURATIONS, len(noisy), spread)
        sizes = [rng.choice(SIZES) for _ in range(CONFIGURATIONS)]
        trials, records = _study(rng, setting.noise, truths, sizes)
        front = weigh(trials, records, aim).front
        true = on_front(np.array([[[*truth, -size] for truth, size in zip(truths, sizes, strict=True)]]))[0]
        stated += [front.probability[number] for number in range(CONFIGURATIONS)]
        there += [bool(each) for each in true]
    return stated, there


def _study(
    rng: random.Random, noise: Noise, truths: Sequence[Sequence[float]], sizes: Sequence[int]
) -> tuple[list[TrialRecord], dict[str, dict[str, Any]]]:
    """Trials and the records of their cells; the lowest task has an accuracy of its own."""
    levels = [rng.gauss(0, BLOCK_SPREAD) for _ in range(SEEDS)]
    shared, *own = [noise.residuals(rng, len(truths), SEEDS) for _ in range(1 + len(truths[0]))]
    a, b = math.sqrt(SHARED), math.sqrt(1 - SHARED)
    trials: list[TrialRecord] = []
    records: dict[str, dict[str, Any]] = {}
    for number, (truth, size) in enumerate(zip(truths, sizes, strict=True)):
        cells = []
        for seed, level in enumerate(levels):
            values = [
                LEVEL + level + DEVIATION * (effect + a * shared[number][seed] + b * part[number][seed])
                for effect, part in zip(truth, own, strict=True)
            ]
            key = f"{number}-{seed}"
            cells.append({"key": key, "split": "3-shot", "seed": str(seed)})
            metrics: dict[str, Any] = {"accuracy": values[0]}
            if len(values) > 1:
                metrics["tasks"] = {"lowest": {"accuracy": values[1] - 0.3}, "other": {"accuracy": 0.9}}
            records[key] = {"metrics": metrics}
        trials.append(
            TrialRecord(number=number, state="complete", cells=cells, parameters=size, created_at="")
        )
    return trials, records


def _correlated(rng: random.Random, count: int, objectives: int, spread: float) -> list[list[float]]:
    """Effects of standard deviation ``spread``, in residual standard deviations."""
    a, b = math.sqrt(SHARED), math.sqrt(1 - SHARED)
    found = []
    for _ in range(count):
        shared = rng.gauss(0, 1)
        found.append([spread * (a * shared + b * rng.gauss(0, 1)) for _ in range(objectives)])
    return found


SUITE = Suite(
    about="The probability of being on the Pareto front beside how often a configuration is on it.",
    repeats=200,
    run=run,
)
