"""Seeds and the differences they show: what `plan --detect` states beside how often it happens."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from orchestrator.statistics.power import POWER, detectable, power, seeds_needed
from orchestrator.statistics.ranking import ranked_rows
from orchestrator.statistics.selftest.checks import Check, Setting, Suite
from orchestrator.statistics.selftest.made import make_study
from orchestrator.statistics.summary import paired_difference

SEEDS = (3, 5, 10, 25)
WITHIN = 0.05
DIFFERENCES = (0.5, 0.8, 1.5)
"""In σ: how many seeds they need is stated, and tried with as many."""


def run(setting: Setting) -> Iterator[Check]:
    """The difference that so many seeds show, half of it, none; and the seeds that a difference needs."""
    for seeds in SEEDS:
        least = detectable(1.0, seeds)
        for difference in (0.0, least / 2, least):
            yield _check(difference, seeds, power(difference, 1.0, seeds), setting)
    for difference in DIFFERENCES:
        needed = seeds_needed(difference, 1.0)
        assert needed is not None, "differences of this size need few seeds"
        yield _check(difference, needed, power(difference, 1.0, needed), setting, f", needed for {POWER:.0%}")


def _check(difference: float, seeds: int, stated: float, setting: Setting, why: str = "") -> Check:
    name = f"{difference:.2f} σ, {seeds} seeds{why}"
    rng = setting.random(name)
    shown = sum(_is_shown(difference, seeds, setting, rng) for _ in setting.each(name))
    return Check.of_share(
        name,
        "the difference is significant",
        shown,
        setting.repeats,
        stated=f"{100 * stated:.1f} %",
        bound=f"within {100 * WITHIN:.0f} points of stated",
        holds=lambda reached, *_: abs(reached - stated) <= WITHIN,
    )


def _is_shown(difference: float, seeds: int, setting: Setting, rng: Random) -> bool:
    made = make_study([0.0, difference], noise=setting.noise, rng=rng, seeds=seeds)
    by_number = {row.trial.number: row for row in ranked_rows(made.trials, made.records, {})}
    found = paired_difference(by_number[1].seeds, by_number[0].seeds)
    assert found is not None and found.low is not None and found.high is not None, "two seeds or more"
    return found.low > 0 or found.high < 0


SUITE = Suite(
    about="The power of paired seeds: differences are shown as often as plan --detect states.",
    repeats=1000,
    run=run,
)
