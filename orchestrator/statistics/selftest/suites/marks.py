"""Marks beside rank 1: how often equal configurations are called different, and whether a worse one is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.statistics.ranking import ranked_rows, significance
from orchestrator.statistics.selftest.checks import Check, Setting, Suite
from orchestrator.statistics.selftest.made import make_study
from orchestrator.statistics.significance import Significance

SIZES = (5, 20, 50)
LEVEL, LIMIT = 0.05, 0.07
"""Share of studies of equal configurations in which any may be marked, and the end of its interval."""

BEHIND, FOUND = 5.0, 0.8
"""A configuration that many residual standard deviations worse is marked in this share of studies or more."""

HELD = 0.95
"""Share of studies in which the best configuration is among those that could be it."""


def run(setting: Setting) -> Iterator[Check]:
    """Equal configurations, one worse, one better."""
    for size in SIZES:
        yield _equal(size, setting)
    for size in SIZES:
        yield _worse(size, setting)
    for size in SIZES:
        yield _possible(size, setting)


def _equal(size: int, setting: Setting) -> Check:
    name = f"{size} equal"
    count = sum(any(found.worse.values()) for found in _studies(name, [0.0] * size, setting))
    return Check.of_share(
        name,
        "any marked worse",
        count,
        setting.repeats,
        stated=f"{100 * LEVEL:.0f} %",
        bound=f"interval from {100 * LEVEL:.0f} % or less to {100 * LIMIT:.0f} % or less",
        holds=lambda _, low, high: low <= LEVEL and high <= LIMIT,
    )


def _worse(size: int, setting: Setting) -> Check:
    name = f"{size}, one {BEHIND:.0f} σ worse"
    studies = _studies(name, [0.0] * (size - 1) + [-BEHIND], setting)
    count = sum(bool(found.worse.get(size - 1)) for found in studies)
    return Check.of_share(
        name,
        "the worse one marked",
        count,
        setting.repeats,
        stated="–",
        bound=f"{100 * FOUND:.0f} % or more",
        holds=lambda share, *_: share >= FOUND,
    )


def _possible(size: int, setting: Setting) -> Check:
    """The hardest case: the best is no better than the others."""
    name = f"{size} equal, one of them the best"
    studies = list(_studies(name, [0.0] * size, setting))
    said = [found.possible[0] for found in studies if 0 in found.possible]
    return Check.of_share(
        name,
        "it could be the best (*)",
        sum(said),
        len(said),
        stated=f"{100 * HELD:.0f} % or more",
        bound=f"interval to {100 * HELD:.0f} % or more",
        holds=lambda *found: found[-1] >= HELD,
    )


def _studies(name: str, effects: Sequence[float], setting: Setting) -> Iterator[Significance]:
    rng = setting.random(name)
    for _ in setting.each(name):
        made = make_study(effects, noise=setting.noise, rng=rng)
        yield significance(ranked_rows(made.trials, made.records, {}))


SUITE = Suite(
    about="Marks beside rank 1: their level among equal configurations, and their power.",
    repeats=2000,
    run=run,
)
