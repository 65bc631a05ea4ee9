"""Where trials are judged before their end: rungs over seeds and epochs. Pure arithmetic.

Successive halving: Jamieson and Talwalkar, AISTATS 2016; its asynchronous form: Li et al., MLSys 2020. Here
the last rung is fixed, all epochs at all seeds, and those before it follow from the factor.
"""

from __future__ import annotations

import math

BEGINNING = 2
"""Epochs after the warm-up that belong to a curve's beginning: ranks before the second are noise."""

EARLIEST = 0.6
"""Share of the epochs before which nothing was stopped in version 1 of the rule."""


def epoch_rungs(epochs: int, factor: int, *, warmup: int, earliest: int | None = None) -> tuple[int, ...]:
    """Epochs after which trials are compared, the last one included: the distinct ⌈epochs/factorⁱ⌉.

    Args:
        epochs: of every trial.
        factor: between two rungs, 2 or more.
        warmup: epochs of warm-up; rungs below ``warmup + 2`` are left out.
        earliest: leaves out those below it instead.
    """
    least = warmup + BEGINNING if earliest is None else earliest
    return tuple(rung for rung in _shares(epochs, factor) if rung >= least or rung == epochs)


def seed_stages(seeds: int, factor: int, *, first: int = 1) -> tuple[int, ...]:
    """How many seeds a trial has trained after each of its stages: the distinct ⌈seeds/factorⁱ⌉.

    Args:
        seeds: of every complete trial.
        factor: between two stages, 2 or more.
        first: seeds of the first stage at least.
    """
    return tuple(stage for stage in _shares(seeds, factor) if stage >= first or stage == seeds)


def first_after_warmup(epochs: int, warmup: int) -> int:
    """First epoch after which a trial may be stopped."""
    return min(epochs, warmup + BEGINNING)


def grace(epochs: int) -> int:
    """The same in version 1 of the rule."""
    return max(1, math.ceil(EARLIEST * epochs))


def _shares(most: int, factor: int) -> list[int]:
    found = [most]
    while found[0] > 1:
        found.insert(0, -(-found[0] // factor))
    return found
