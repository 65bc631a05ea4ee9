"""``orchestrator confirm``: the finalists on the test images, and on further seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Storage, StudyName
from orchestrator.cli.showing import Events

if TYPE_CHECKING:
    from orchestrator.face.stored import Stored
    from orchestrator.study import StudyPlan


def add_to(app: typer.Typer) -> None:
    app.command("confirm")(confirm)


def confirm(
    study: StudyName,
    trial: Annotated[
        list[int] | None, typer.Option(min=0, help="Complete trials to score, instead of the finalists.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Train on these further seeds too, e.g. 4,5,6.")] = None,
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="Train cells again whose weights were dropped (full fine-tuning)."),
    ] = False,
    reason: Annotated[
        str, typer.Option(help="Recorded with the test-set evaluation.")
    ] = "by the confirm command",
    storage: Storage = None,
    events: Events = None,
    as_json: AsJson = False,
) -> int:
    """Score the best configurations on the test images.

    The best are those by validation, or the trials that are named; every test-set evaluation is recorded.

    With --seeds they are also trained on further seeds, as a study of their own, and ranked on those alone.
    """
    from orchestrator.cli.sweep import command_line, drive
    from orchestrator.driver import confirm_study, run_study
    from orchestrator.driver.drive import Options
    from orchestrator.driver.unchanged import require_same_inputs
    from orchestrator.face.stored import find_stored, place_of
    from orchestrator.study import plan_study
    from orchestrator.submission import check_place, in_ray_job, plan_for_job

    if in_ray_job():
        check_place("--storage", place_of(study, storage)[1], "give its place: --storage /shared/studies")
    stored = find_stored(study, storage)
    root = stored.store.storage.root
    plan = plan_for_job(plan_study(stored.study.model_copy(update={"storage": root})))
    options = Options(command=command_line())
    numbers = tuple(trial or ())
    if seeds is None:
        return drive(
            lambda: plan,
            lambda plan, progress: confirm_study(
                plan, progress, numbers=numbers, reason=reason, retrain=retrain, options=options
            ),
            events=events,
            as_json=as_json,
        )
    require_same_inputs(plan, stored.store)
    further = _with_seeds(stored, plan, numbers, seeds)
    return drive(
        lambda: further,
        lambda plan, progress: run_study(plan, progress, options=options),
        events=events,
        as_json=as_json,
    )


def _with_seeds(stored: Stored, plan: StudyPlan, numbers: tuple[int, ...], text: str) -> StudyPlan:
    """The plan of a study that holds only the chosen trials, on other seeds."""
    import dataclasses

    from orchestrator.driver.draws import check_draws
    from orchestrator.rows.scoring import finalists
    from orchestrator.study.draws import check_fixed_lists
    from orchestrator.study.errors import StudyError

    seeds = _parse(text)
    own = [s.label for s in seeds if s in plan.study.seeds]
    if own:
        raise StudyError(
            f"seed {own[0]} is one of the study's own", where="--seeds", fix="give seeds that it has not used"
        )
    check_draws(stored.store, plan.study, plan.dataset)
    records = {record.number: record for record in stored.store.load_trials()}
    chosen = [records[n] for n in numbers if n in records and records[n].state == "complete"]
    if len(chosen) < len(numbers):
        missing = next(n for n in numbers if n not in records or records[n].state != "complete")
        raise StudyError(
            f"trial {missing} is not complete",
            where="--trial",
            fix="orchestrator results lists complete ones",
        )
    chosen = chosen or finalists(records.values(), plan.study.finalists)
    if not chosen:
        raise StudyError(
            f"study {plan.study.name!r} has no complete trial", where="STUDY", fix="run its sweep first"
        )
    picked = "" if not numbers else "-trials-" + "-".join(map(str, numbers))
    name = _fitting(f"{plan.study.name}-seeds-{'-'.join(s.label.replace('/', '.') for s in seeds)}{picked}")
    points = tuple(plan.space.values(record.params) for record in chosen)
    search = {
        "trials": len(chosen),
        "preset": False,
        "enqueue": points,
        "scheduler": "none",
        "sampler": "random",
    }
    study = plan.study.model_copy(
        update={
            "name": name,
            "seeds": seeds,
            "finalists": len(chosen),
            "search": plan.study.search.model_copy(update=search),
        }
    )
    check_fixed_lists(study.model_copy(update={"seeds": (*plan.study.seeds, *seeds)}), plan.dataset)
    return dataclasses.replace(
        plan, study=study, trials=len(chosen), first=tuple(dict(record.params) for record in chosen)
    )


def _fitting(name: str) -> str:
    """A name as long as a study's may be: the same for the same seeds and trials, so that it is resumed."""
    import hashlib

    from orchestrator.study.model import NAME_LENGTH

    if len(name) <= NAME_LENGTH:
        return name
    end = f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{name[: NAME_LENGTH - len(end)].rstrip('-.')}{end}"


def _parse(text: str) -> tuple[Any, ...]:
    from orchestrator.study.errors import StudyError
    from orchestrator.study.fields import parse_seed

    parts = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong or not parts:
        raise StudyError(
            f"{(wrong or [text])[0]!r} is not a seed", where="--seeds", fix="write numbers: --seeds 4,5,6"
        )
    seeds = tuple(parse_seed(int(part), "--seeds") for part in parts)
    if len(set(seeds)) < len(seeds):
        raise StudyError(f"{text!r} names a seed twice", where="--seeds", fix="name each once")
    return seeds
