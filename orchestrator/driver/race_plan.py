"""What a race is: whose finalists, which fresh seeds, by which terms; checked before anything starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmap_model.configuration import Seeds, has_validation
from orchestrator.commands import command
from orchestrator.driver.chosen_trials import complete_trials, fitting, only_trials
from orchestrator.driver.warm_start import seeds_learned_from
from orchestrator.ledger import CorruptError, Ledger, StudyStore, TrialRecord
from orchestrator.rows.scoring import finalists
from orchestrator.statistics.noise import pooled_noise
from orchestrator.statistics.race_records import Terms, load_terms
from orchestrator.statistics.ranking import MeasuredRow
from orchestrator.study import StudyPlan
from orchestrator.study.draws import check_fixed_lists
from orchestrator.study.errors import StudyError
from orchestrator.study.model import Study

SEEDS = 10
"""Fresh seeds that the budget pays for, unless given, if nobody falls."""


@dataclass(frozen=True)
class RaceOptions:
    """What the user asked for; None stands for the default.

    Attributes:
        trials: numbers of the finalists; none: the best by validation.
        top: how many of these; the study's ``finalists`` unless given.
        alpha: probability, at most, that the best finalist falls, in (0, 1).
        within: survivors that differ by no more end the race, as a fraction of 1.
        budget: cells; `SEEDS` for each finalist unless given.
    """

    trials: Sequence[int] = ()
    top: int | None = None
    alpha: float = 0.05
    within: float | None = None
    budget: int | None = None


@dataclass(frozen=True)
class RacePlan:
    """A race that may begin or go on.

    Attributes:
        base: the study of its own that it is recorded as; its seeds are all that the race may come to.
        terms: what it is decided by.
        records: of the finalists in the study that they come from, by number.
    """

    base: StudyPlan
    terms: Terms
    records: dict[int, TrialRecord]

    def seeds(self, count: int) -> tuple[Seeds, ...]:
        """The first fresh seeds, in the order in which they are raced."""
        return self.base.study.seeds[:count]


def plan_race(plan: StudyPlan, store: StudyStore, ledger: Ledger, wanted: RaceOptions) -> RacePlan:
    """The race of a study's finalists.

    Args:
        plan: of the study that was searched.
        store, ledger: its records.
        wanted: by the user.

    Raises:
        StudyError: fewer than two finalists; a trial that is not complete; a level, budget or protocol with
            which there is no race; or fixed lists by which a fresh seed would see test images.
    """
    _check_level(plan, wanted)
    trials = store.load_trials()
    chosen = _chosen(plan.study, trials, wanted)
    readable = ledger.get_many(key for trial in trials if trial.state == "complete" for key in trial.keys)
    rows = {t.number: MeasuredRow(t, readable, {}) for t in trials if t.state == "complete"}
    for trial in chosen:
        if not rows[trial.number].seeds:
            raise StudyError(
                f"trial {trial.number} has a cell that cannot be read any more",
                where="--trial" if wanted.trials else "STUDY",
                fix="run the study's sweep again, which trains it anew",
            )
    name = race_name(plan.study.name, chosen)
    splits = tuple(split.label for split in plan.study.splits)
    first = len(chosen) * len(splits)
    default = _budget(StudyStore(store.storage, name), SEEDS * first)
    budget = default if wanted.budget is None else wanted.budget
    if budget < first:
        raise StudyError(
            f"{budget} cells are too few for one fresh seed of {len(chosen)} finalists at {len(splits)} "
            f"split{'s' * (len(splits) > 1)}",
            where="--budget",
            fix=f"give {first} or more",
        )
    seeds = fresh_seeds(plan, 1 + (budget - first) // (2 * len(splits)))
    check_fixed_lists(plan.study.model_copy(update={"seeds": (*plan.study.seeds, *seeds)}), plan.dataset)
    values = {number: row.seeds for number, row in rows.items() if row.seeds}
    terms = Terms(
        study=plan.study.name,
        study_id=store.id,
        finalists=tuple(trial.number for trial in chosen),
        search={trial.number: values[trial.number] for trial in chosen},
        splits=splits,
        seeds=tuple(seed.label for seed in seeds),
        alpha=wanted.alpha,
        within=wanted.within,
        budget=budget,
        noise=pooled_noise(values),
    )
    return RacePlan(
        _by_accuracy(only_trials(plan, chosen, seeds, name)), terms, {trial.number: trial for trial in chosen}
    )


def fresh_seeds(plan: StudyPlan, count: int) -> tuple[Seeds, ...]:
    """The lowest numbers that the search has not seen, neither for a draw nor for training.

    It has seen those of its study and of the studies that it started from (``search.warm_start``).

    Each sets both, so that a fresh seed draws its own training and validation images; the test images of a
    class are the same for every seed.
    """

    def unused() -> Iterator[Seeds]:
        used = seeds_learned_from(plan)
        used |= {number for seed in plan.study.seeds for number in (seed.draw, seed.train)}
        number = 0
        while True:
            number += 1
            if number not in used:
                yield Seeds.both(number)

    source = unused()
    return tuple(next(source) for _ in range(count))


def _by_accuracy(plan: StudyPlan) -> StudyPlan:
    """The plan with accuracy as its only objective: what a race is decided by, whatever was searched for."""
    search = plan.study.search.model_copy(update={"objectives": ("accuracy",), "constraints": ()})
    return dataclasses.replace(plan, study=plan.study.model_copy(update={"search": search}))


def race_name(study: str, chosen: Sequence[TrialRecord]) -> str:
    """The name of the race between these trials: the same whenever it is asked for, so that it goes on."""
    numbers = "-".join(str(number) for number in sorted(trial.number for trial in chosen))
    return fitting(f"{study}-race-{numbers}")


def _budget(store: StudyStore, default: int) -> int:
    """Of a race that has begun, unless another is given."""
    try:
        known = load_terms(store)
    except CorruptError:
        return default  # refused when it is run
    return default if known is None else known.budget


def _check_level(plan: StudyPlan, wanted: RaceOptions) -> None:
    if not 0 < wanted.alpha < 1:
        raise StudyError(
            f"{wanted.alpha:g} is not between 0 and 1", where="--alpha", fix="give a level such as 0.05"
        )
    if wanted.within is not None and not wanted.within > 0:
        raise StudyError(
            f"{100 * wanted.within:g} points can never be reached",
            where="--within",
            fix="give 1, for example",
        )
    if not has_validation(plan.study.protocol):
        raise StudyError(
            f"protocol {plan.study.protocol} has no validation images, and a race may not be decided by test "
            "images",
            where="protocol",
            fix="search with protocol: search, and race its finalists",
        )


def _chosen(study: Study, trials: Sequence[TrialRecord], wanted: RaceOptions) -> list[TrialRecord]:
    """The finalists, the best by validation first."""
    if wanted.trials and wanted.top is not None:
        raise StudyError("it excludes --trial", where="--top", fix="give one of the two")
    among = complete_trials(trials, wanted.trials) or trials
    count = len(among) if wanted.trials else (study.finalists if wanted.top is None else wanted.top)
    chosen = finalists(among, count)
    if len(chosen) < 2:
        complete = len(finalists(trials, len(trials)))
        raise StudyError(
            f"a race needs two finalists or more; here there {'is one' if chosen else 'is none'}, of "
            f"{complete} complete trial{'s' * (complete != 1)}",
            where="--trial" if wanted.trials else "--top",
            fix="give --top 2 or more"
            if complete >= 2
            else "complete more trials: " + command("status", study.name, storage=study.storage),
        )
    return chosen
