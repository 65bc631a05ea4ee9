"""``orchestrator confirm``: the finalists on the test images, and on further seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.lists import ListOptions, number_list
from orchestrator.cli.options import AsJson, Prefer, Storage, StudyName
from orchestrator.cli.showing import Events

if TYPE_CHECKING:
    from orchestrator.face.stored import Stored
    from orchestrator.study import StudyPlan


def add_to(app: typer.Typer) -> None:
    app.command("confirm", cls=ListOptions)(confirm)


def confirm(
    study: StudyName,
    trial: Annotated[
        list[int] | None, number_list("Complete trials to score, instead of the finalists.", min=0)
    ] = None,
    prefer: Prefer = None,
    seeds: Annotated[list[int] | None, number_list("Train on these further seeds too: 4,5,6 or 4-6.")] = None,
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="Train cells again whose weights were dropped (full fine-tuning)."),
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Recorded with the test-set evaluation.")] = None,
    race: Annotated[
        bool,
        typer.Option("--race", help="Race the finalists on fresh seeds until one is left."),
    ] = False,
    budget: Annotated[
        int | None,
        typer.Option(min=1, metavar="CELLS", help="Cells of the race; 10 seeds for each finalist."),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Probability, at most, that the race loses the best finalist; 0.05.")
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="End the race when those left differ by no more, e.g. 1."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Race the N best by validation.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option(help="Race finalists again that left because a cell failed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Show what the race would train, and start nothing.")] = False,
    storage: Storage = None,
    events: Events = None,
    as_json: AsJson = False,
) -> int:
    """Score the best configurations on the test images.

    The best are those by validation, or the trials that are named; every test-set evaluation is recorded.

    With --seeds they are also trained on further seeds, as a study of their own, and ranked on those alone.

    With --race they are trained on one fresh seed after another, as a study of their own. A finalist falls as
    soon as the evidence against it suffices, which may be looked at after every seed: the best one falls with
    probability --alpha at most. The same command continues a race; a larger --budget prolongs it.
    """
    from orchestrator.cli.race import check_options, race_study
    from orchestrator.cli.sweep import command_line, run_and_report
    from orchestrator.driver import confirm_study, run_study
    from orchestrator.driver.invocation import Options
    from orchestrator.driver.run import BY_CONFIRM
    from orchestrator.driver.unchanged import require_same_inputs
    from orchestrator.face.page_file import write_page
    from orchestrator.face.stored import find_stored, name_and_storage
    from orchestrator.study import plan_study
    from orchestrator.submission import check_path, in_ray_job, plan_for_job

    if in_ray_job():
        check_path(
            "--storage", name_and_storage(study, storage)[1], "give its path: --storage /shared/studies"
        )
    check_options(
        race,
        seeds=seeds or None,
        retrain=retrain,
        of_race={
            "--budget": budget,
            "--alpha": alpha,
            "--within": within,
            "--top": top,
            "--retry-failed": retry_failed or None,
            "--dry-run": dry_run or None,
        },
    )
    stored = find_stored(study, storage)
    root = stored.store.storage.root
    plan = plan_for_job(plan_study(stored.study.model_copy(update={"storage": root})))
    options = Options(command=command_line(), report=write_page)
    numbers = tuple(trial or ()) if prefer is None else _preferred(stored, prefer, trial, race)
    if race:
        return race_study(
            stored,
            plan,
            options,
            trials=numbers,
            budget=budget,
            alpha=alpha,
            within=within,
            top=top,
            reason=reason,
            retry_failed=retry_failed,
            dry_run=dry_run,
            events=events,
            as_json=as_json,
        )
    if not seeds:
        return run_and_report(
            lambda: plan,
            lambda plan, progress: confirm_study(
                plan,
                progress,
                numbers=numbers,
                reason=reason or BY_CONFIRM,
                retrain=retrain,
                options=options,
            ),
            events=events,
            as_json=as_json,
        )
    require_same_inputs(plan, stored.store)
    further = _with_seeds(stored, plan, numbers, seeds)
    return run_and_report(
        lambda: further,
        lambda plan, progress: run_study(plan, progress, options=options),
        events=events,
        as_json=as_json,
    )


def _preferred(stored: Stored, prefer: str, trial: list[int] | None, race: bool) -> tuple[int, ...]:
    """The trial of the Pareto front that goes on."""
    from orchestrator.statistics.pareto import preferred_trial
    from orchestrator.study.errors import StudyError

    if trial or race:
        other, why = ("--trial", "names them itself") if trial else ("--race", "needs two finalists or more")
        raise StudyError(
            f"--prefer chooses one trial, and {other} {why}", where="--prefer", fix="give one of the two"
        )
    return (int(preferred_trial(stored.store, stored.ledger, prefer).trial),)


def _with_seeds(stored: Stored, plan: StudyPlan, numbers: tuple[int, ...], typed: Sequence[int]) -> StudyPlan:
    """The plan of a study that holds only the chosen trials, on other seeds."""

    from orchestrator.driver.chosen_trials import complete_trials, fitting, only_trials
    from orchestrator.driver.draws import check_draws
    from orchestrator.rows.scoring import finalists
    from orchestrator.study.draws import check_fixed_lists
    from orchestrator.study.errors import StudyError
    from orchestrator.study.fields import parse_seed

    seeds = tuple(parse_seed(number, "--seeds") for number in typed)
    if len(set(seeds)) < len(seeds):
        raise StudyError("a seed is given twice", where="--seeds", fix="give each once")
    own = [s.label for s in seeds if s in plan.study.seeds]
    if own:
        raise StudyError(
            f"seed {own[0]} is one of the study's own", where="--seeds", fix="give seeds that it has not used"
        )
    check_draws(stored.store, plan.study, plan.dataset)
    trials = stored.store.load_trials()
    chosen = complete_trials(trials, numbers) or finalists(trials, plan.study.finalists)
    if not chosen:
        raise StudyError(
            f"study {plan.study.name!r} has no complete trial", where="STUDY", fix="run its sweep first"
        )
    picked = "" if not numbers else "-trials-" + "-".join(map(str, numbers))
    name = f"{plan.study.name}-seeds-{'-'.join(s.label.replace('/', '.') for s in seeds)}{picked}"
    check_fixed_lists(plan.study.model_copy(update={"seeds": (*plan.study.seeds, *seeds)}), plan.dataset)
    return only_trials(plan, chosen, seeds, fitting(name))
