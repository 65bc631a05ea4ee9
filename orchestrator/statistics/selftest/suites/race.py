"""Races of finalists: how often the best one falls, what a race saves, and whether its bounds hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from orchestrator.statistics.noise import pooled_noise
from orchestrator.statistics.race import Race
from orchestrator.statistics.race_records import Terms, course_of, standing
from orchestrator.statistics.ranking import ranked_rows
from orchestrator.statistics.selftest.checks import Check, Setting, Suite, mean_interval, proportion
from orchestrator.statistics.selftest.made import DEVIATION, make_study

ALPHA = 0.05
MOST = 0.07
"""Upper end of the interval of an error whose rate is at most `ALPHA`."""

AHEAD = 2 * 2**0.5
"""Two standard deviations of a paired difference of one seed, in σ."""

SEARCHED = 20
"""Configurations of the search: the finalists, and others that tell the noise too."""

CAP = 10
"""Fresh seeds of a uniform design."""

LONG = 40
"""Fresh seeds of a race that is looked at for long."""

COVERED = (0.92, 0.98)


@dataclass(frozen=True)
class Raced:
    """One race.

    Attributes:
        race: how it ended.
        truths: by finalist.
        low, high: interval of the optimism of the search; None where none is stated.
    """

    race: Race
    truths: Sequence[float]
    low: float | None
    high: float | None

    @property
    def best_fell(self) -> bool:
        """Whether the only best finalist has left."""
        return self.truths.index(max(self.truths)) not in self.race.standing


def run(setting: Setting) -> Iterator[Check]:
    """Equal finalists, one that is ahead, races that end within some points, and the optimism."""
    for finalists, seeds in ((5, CAP), (2, CAP), (5, LONG)):
        yield from _equal(finalists, seeds, setting)
    yield from _ahead(setting)
    yield _within(setting)
    yield _optimism(setting)


def race_once(
    effects: Sequence[float], seeds: int, setting: Setting, rng: Random, within: float | None = None
) -> Raced:
    """Search `SEARCHED` configurations on three seeds, then race the first of them on fresh ones.

    The budget is that of a uniform design.

    Args:
        effects: of the finalists, in σ.
        seeds: fresh ones of the uniform design.
        setting: of the self-test.
        rng: source of chance.
        within: of the race, as a fraction of 1.
    """
    k = len(effects)
    searched = make_study([*effects, *[min(effects)] * (SEARCHED - k)], noise=setting.noise, rng=rng)
    values = {row.trial.number: row.seeds for row in ranked_rows(searched.trials, searched.records, {})}
    fresh = make_study(effects, noise=setting.noise, rng=rng, seeds=seeds)
    places = [(cell["split"], cell["seed"]) for cell in fresh.trials[0].cells]
    terms = Terms(
        study="made",
        finalists=tuple(range(k)),
        search={number: values[number] for number in range(k)},
        splits=tuple(dict.fromkeys(split for split, _ in places)),
        seeds=tuple(seed for _, seed in places),
        alpha=ALPHA,
        within=within,
        budget=k * seeds,
        noise=pooled_noise(values),
    )
    trials = {trial.number: trial for trial in fresh.trials}
    race = standing(terms, trials, fresh.records)
    leads = course_of(terms, race, trials, fresh.records)["optimism"] or {}
    return Raced(race, effects, leads.get("low"), leads.get("high"))


def _equal(finalists: int, seeds: int, setting: Setting) -> Iterator[Check]:
    """Of equal finalists one, chosen beforehand, is called the best."""
    name = f"{finalists} equal finalists, {seeds} seeds each"
    rng = setting.random(name)
    fell = sum(
        any(fall.finalist == 0 for fall in race_once([0.0] * finalists, seeds, setting, rng).race.fallen)
        for _ in setting.each(name)
    )
    yield _error(name, "the best falls", fell, setting)


def _ahead(setting: Setting) -> Iterator[Check]:
    name = f"best 2 σ_d ahead of 4 equal ones, cap {CAP} seeds"
    rng, uniform = setting.random(name), 5 * CAP
    raced = [race_once([AHEAD, 0, 0, 0, 0], CAP, setting, rng) for _ in setting.each(name)]
    share, low, high = mean_interval([one.race.cells / uniform for one in raced])
    yield Check(
        name=name,
        measure=f"cells, of the {uniform} of a uniform design",
        stated="",
        reached=share,
        low=low,
        high=high,
        bound="at most 50 %",
        holds=share <= 0.5,
    )
    alone = sum(one.race.standing == (0,) for one in raced)
    low, high = proportion(alone, setting.repeats)
    yield Check(
        name=name,
        measure="the best is left alone",
        stated="",
        reached=alone / setting.repeats,
        low=low,
        high=high,
    )
    yield _error(name, "the best falls", sum(one.best_fell for one in raced), setting)


def _within(setting: Setting) -> Check:
    """Finalists that differ by about σ, raced until those left differ by no more than that."""
    name = f"5 finalists that differ, within 1 σ, cap {LONG} seeds"
    rng = setting.random(name)
    wrong = 0
    for _ in setting.each(name):
        effects = [rng.gauss(0, 1) for _ in range(5)]
        raced = race_once(effects, LONG, setting, rng, within=DEVIATION)
        left = [effects[number] for number in raced.race.standing]
        wrong += DEVIATION * (max(left) - min(left)) > raced.race.gap
    return _error(name, "those left differ by more than is stated", wrong, setting)


def _optimism(setting: Setting) -> Check:
    """Of a winner that was not selected by the search there is none."""
    name = f"5 equal finalists in a given order, {CAP} seeds each"
    rng = setting.random(name)
    held = stated = 0
    for _ in setting.each(name):
        raced = race_once([0.0] * 5, CAP, setting, rng)
        if raced.low is not None and raced.high is not None:
            stated += 1
            held += raced.low <= 0 <= raced.high
    return Check.of_share(
        name,
        "the interval of the optimism holds 0",
        held,
        stated,
        stated="95 %",
        bound=f"{100 * COVERED[0]:.0f} to {100 * COVERED[1]:.0f} %",
        holds=lambda covered, *_: COVERED[0] <= covered <= COVERED[1],
    )


def _error(name: str, measure: str, count: int, setting: Setting) -> Check:
    return Check.of_share(
        name,
        measure,
        count,
        setting.repeats,
        stated=f"at most {100 * ALPHA:.0f} %",
        bound=f"at most {100 * ALPHA:.0f} %, interval's end at most {100 * MOST:.0f} %",
        holds=lambda reached, _, high: reached <= ALPHA and high <= MOST,
    )


SUITE = Suite(
    about="A race on fresh seeds, checked after each: the best finalist falls no more often than stated.",
    repeats=2000,
    run=run,
)
