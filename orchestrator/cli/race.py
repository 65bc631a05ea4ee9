"""``orchestrator confirm --race``: what is checked, shown and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.driver import Options
    from orchestrator.driver.race_plan import RacePlan
    from orchestrator.face.stored import Stored
    from orchestrator.study import StudyPlan


def check_options(
    race: bool, *, seeds: Sequence[int] | None, retrain: bool, of_race: Mapping[str, object | None]
) -> None:
    """Refuse options that do not go together.

    Args:
        race: whether there is one.
        seeds, retrain: options that a race does not take.
        of_race: by name, options that only a race takes; None where not given.

    Raises:
        StudyError: naming the option.
    """
    from orchestrator.study.errors import StudyError

    given = next((name for name, value in of_race.items() if value is not None), None)
    if not race and given is not None:
        raise StudyError("it is an option of a race", where=given, fix="add --race, or leave it out")
    if race and seeds is not None:
        raise StudyError(
            "a race chooses its seeds by itself, fresh ones in a fixed order",
            where="--seeds",
            fix="leave it out, or leave --race out to train all finalists on these seeds",
        )
    if race and retrain:
        raise StudyError("a race trains what it scores", where="--retrain", fix="leave it out")


def race_study(
    stored: Stored,
    plan: StudyPlan,
    options: Options,
    *,
    trials: tuple[int, ...],
    budget: int | None,
    alpha: float | None,
    within: float | None,
    top: int | None,
    reason: str | None,
    retry_failed: bool,
    dry_run: bool,
    events: str | None,
    as_json: bool,
) -> int:
    """Race finalists of a study, or show what that would train; returns the exit code.

    Args:
        stored: the study.
        plan: of the study.
        options: how it is run.
        trials: the finalists; none: the best by validation.
        budget, alpha, within, top: as the user gave them; ``within`` in points.
        reason: recorded with the look at the test images; None: that the race is over.
        retry_failed: race finalists again that left because a cell failed.
        dry_run: start nothing.
        events: file that takes what is shown, see ``EventRecorder``.
        as_json: print JSON.
    """
    from orchestrator.cli.sweep import run_and_report
    from orchestrator.driver.draws import check_draws
    from orchestrator.driver.race import run_race
    from orchestrator.driver.race_plan import RaceOptions, plan_race
    from orchestrator.driver.race_todo import SURVIVORS
    from orchestrator.driver.unchanged import require_same_inputs

    wanted = RaceOptions(
        trials=trials,
        top=top,
        alpha=0.05 if alpha is None else alpha,
        within=None if within is None else within / 100,
        budget=budget,
    )
    require_same_inputs(plan, stored.store)
    check_draws(stored.store, plan.study, plan.dataset)
    planned = plan_race(plan, stored.store, stored.ledger, wanted)
    if dry_run:
        return _show(planned, as_json)
    return run_and_report(
        lambda: planned.base,
        lambda _, progress: run_race(
            planned, progress, reason=reason or SURVIVORS, retry_failed=retry_failed, options=options
        ),
        events=events,
        as_json=as_json,
    )


def describe(planned: RacePlan) -> dict[str, Any]:
    """What a race would train, JSON-able."""
    from orchestrator.study.estimate import estimate

    terms = planned.terms
    known = estimate(planned.base, terms.budget)
    wave = len(terms.finalists) * len(terms.splits)
    return {
        "study": planned.base.study.name,
        "of": terms.study,
        "finalists": list(terms.finalists),
        "splits": list(terms.splits),
        "seeds": list(terms.seeds),
        "alpha": terms.alpha,
        "within": terms.within,
        "budget": terms.budget,
        "cells_per_seed": wave,
        "seeds_if_none_falls": terms.budget // wave,
        "noise": None if terms.noise is None else terms.noise.to_dict(),
        "device_hours": None if known is None else known[0],
        "device_hours_from": None if known is None else known[1],
    }


def _show(planned: RacePlan, as_json: bool) -> int:
    from orchestrator.cli.console import DONE, print_json, show
    from orchestrator.tables import Table
    from orchestrator.tables.words import duration

    found = describe(planned)
    if as_json:
        print_json(found)
        return DONE
    noise, hours, seeds = found["noise"], found["device_hours"], found["seeds"]
    until = (
        "until one is left"
        if found["within"] is None
        else (f"until one is left or those left differ by {100 * found['within']:g} points at most")
    )
    rows = {
        "finalists": f"trials {', '.join(map(str, found['finalists']))} of {found['of']}",
        "seeds": f"{seeds[0]}, {', '.join(seeds[1:3])}{' …' * (len(seeds) > 3)}: one after another, {until}",
        "budget": f"{found['budget']} cells: {found['seeds_if_none_falls']} seeds if no finalist falls",
        "level": f"the best finalist falls with probability {found['alpha']:g} at most",
        "noise": "unknown before the race"
        if noise is None
        else f"{100 * noise['s']:.2g} points of one seed by the search, {noise['nu']} degrees of freedom",
        "device time": "unknown: no cell like these is finished yet"
        if hours is None
        else f"at most about {duration(3600 * hours)}",
    }
    show(Table.facts(*rows.items(), title=found["study"], about="nothing has started"))
    return DONE
