"""``orchestrator plan``: what a study would do, before anything starts."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Overrides, StudyName
from orchestrator.redaction import shown_uri

if TYPE_CHECKING:
    from orchestrator.study import Study, StudyPlan


def add_to(app: typer.Typer) -> None:
    app.command("plan")(plan)


def plan(
    study: StudyName,
    overrides: Overrides = None,
    detect: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", help="Also print the seeds and time that a difference of POINTS needs."
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", help="With --detect: the residual s to assume, if no study is recorded."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a study: space, parameter counts, cells, expected time."""
    from orchestrator.cli.console import print_json
    from orchestrator.study import load_plan

    if noise is not None and detect is None:
        raise typer.BadParameter("--noise belongs to --detect")
    loaded = load_plan(study, overrides or ())
    _check_weights(loaded)
    found = describe(loaded)
    if detect is not None:
        found |= _detection(loaded, detect, noise)
    if as_json:
        print_json(found)
    else:
        _show(found, shlex.join(["orchestrator", "sweep", study, *(overrides or ())]))


def _check_weights(plan: StudyPlan) -> None:
    """Check that a file of weights fits the model; a tag may have to be fetched, which only a run does."""
    from mmap_model.backbone_identity import fingerprint_is_known
    from orchestrator.cli.console import err
    from orchestrator.terminal import Activity

    backbone = plan.study.backbone
    if backbone.weights_file is None:
        return
    if fingerprint_is_known(backbone):
        _ = plan.fingerprint
        return
    with Activity(err(), "Reading the weights"):
        _ = plan.fingerprint


def _detection(plan: StudyPlan, points: float, noise: float | None) -> dict[str, Any]:
    from orchestrator.study.detect import detect

    return {"detect": detect(plan, points, noise).to_dict()}


def describe(plan: StudyPlan) -> dict[str, Any]:
    """The plan as a JSON-able dictionary."""
    from orchestrator.cli.plan_search import describe_search
    from orchestrator.notices.addresses import check_addresses
    from orchestrator.study.estimate import estimate

    least, most = plan.space.parameter_range()
    study = plan.study
    cells = plan.trials * plan.cells_per_trial
    known = estimate(plan, cells)
    return {
        "study": study.name,
        "dataset": study.dataset.name,
        "tasks": [task.name for task in plan.data.tasks],
        "classes": [len(task.classes) for task in plan.data.tasks],
        "backbone": study.backbone.model,
        "backbone_parameters": plan.backbone_parameters,
        "method": study.method,
        "space": {
            "points": plan.size.points,
            "exact": plan.size.exact,
            "continuous": list(plan.size.continuous),
        },
        "parameters": {"least": least, "most": most, "max_params": study.search.max_params},
        **describe_search(plan),
        "stopping": _stopping(plan),
        "first": [plan.space.values(params) for params in plan.first],
        "trials": plan.trials,
        "splits": [split.label for split in study.splits],
        "seeds": [seeds.label for seeds in study.seeds],
        "cells": cells,
        "hours": study.search.hours,
        "gpu_hours": study.search.gpu_hours,
        "epochs": study.recipe.epochs,
        "slots": None if plan.slots is None else vars(plan.slots),
        "labels": {split: {"train": k, "validation": v} for split, (k, v) in study.label_budget().items()},
        "scarce_classes": plan.scarce_classes,
        "snapshot_every": _snapshot_interval(study),
        "device_hours": None if known is None else known[0],
        "device_hours_from": None if known is None else known[1],
        "storage": shown_uri(study.storage),
        "notify": None
        if study.notify is None
        else {"to": check_addresses(study.notify), "events": list(study.notify.events)},
    }


def _show(found: dict[str, Any], start: str) -> None:
    from orchestrator.cli.console import show
    from orchestrator.cli.plan_search import search_rows
    from orchestrator.tables import Paragraph, Span, Table
    from orchestrator.tables.words import configuration, duration, integer, share

    space, sizes = found["space"], found["parameters"]
    points = integer(space["points"]) + ("" if space["exact"] else " or more")
    continuous = f" × continuous {', '.join(space['continuous'])}" if space["continuous"] else ""
    whole = found["backbone_parameters"]
    labels = "; ".join(
        f"{split}: {n['train']} training + {n['validation']} validation"
        for split, n in found["labels"].items()
    )
    if labels:
        labels += " images per class and task"
        if found["scarce_classes"]:
            few = f"{found['scarce_classes']} of {sum(found['classes'])}"
            labels += f"; fewer in {few} (orchestrator data check)"
    every = found["snapshot_every"]
    hours, place = found["device_hours"], found["storage"]
    source = {"cells": f"measured on cells like these in {place}", "profile": "by the stored profile"}
    slots = found["slots"]
    rows = {
        "data": f"{found['dataset']}: {len(found['tasks'])} tasks ({', '.join(found['tasks'])})",
        "backbone": f"{found['backbone']}, {integer(whole)} parameters",
        "method": found["method"],
        "space": f"{points} valid points{continuous}",
        "parameters": f"{integer(sizes['least'])} to {integer(sizes['most'])} trained "
        f"({share(sizes['least'] / whole)} to {share(sizes['most'] / whole)} of the backbone)",
        "budget": f"at most {integer(sizes['max_params'])}"
        if sizes["max_params"]
        else "none (search.max_params)",
        **search_rows(found),
        **({"stops": _stops(found["stopping"], found["seeds"])} if found["stopping"] else {}),
        "first": "; ".join(configuration(values) for values in found["first"]) or "chosen by the sampler",
        "cells": _cells(found),
        "labels": labels or "a percentage of each class",
        **({"groups": f"by gradients, every {every} steps of a probe"} if every is not None else {}),
        "until": _limits(found, slots),
        "slots": "as the cluster has them"
        if slots is None
        else f"{slots['count']}; of each: cores {slots['cpus']:g}, GPUs {slots['gpus']:g}",
        "tells": _told(found["notify"]),
        "device time": f"about {duration(3600 * hours)} ({source[found['device_hours_from']]})"
        if hours is not None
        else f"unknown: no cell like these is finished in {place} yet; try orchestrator profile",
    }
    if "detect" in found:
        from orchestrator.study.detect import Detection, in_words

        rows |= in_words(Detection(**found["detect"]), place)
    show(
        Table.facts(*rows.items(), title=found["study"], about="is valid; nothing has started"),
        Paragraph(("Start it with:  ", Span(start, "command"))),
    )


def _snapshot_interval(study: Study) -> int | None:
    """Steps between the snapshots that a grouping averages; None if it measures none or they are searched."""
    grouping = study.grouping
    searched = any("grouping.snapshot_every" in space.writes() for space in study.spaces())
    return None if grouping is None or grouping.mode != "gradient" or searched else grouping.snapshot_every


def _stopping(plan: StudyPlan) -> dict[str, Any] | None:
    """What stops trials, with the rungs where that is known; None if nothing does."""
    from orchestrator.search.stop_rule import stop_rule

    study = plan.study
    if study.search.scheduler.name == "none" or study.protocol != "search":
        return None
    rule = stop_rule(study)
    known = {} if rule is None else {"epochs": list(rule.rungs), "seeds": list(rule.stages)}
    return {"scheduler": study.search.scheduler.name, **known}


def _stops(found: dict[str, Any], seeds: list[str]) -> str:
    """``seeds: trained in stages of 1 and 3 of 3 seeds; compared after epoch 3``."""
    from orchestrator.tables.words import enumeration

    said = []
    if len(stages := found.get("seeds", ())) > 1:
        said.append(f"trained in stages of {enumeration([*map(str, stages)])} of {len(seeds)} seeds")
    if rungs := found.get("epochs"):
        said.append(f"compared after epoch{'s' * (len(rungs) > 1)} {enumeration([*map(str, rungs)])}")
    elif "epochs" in found and not said:
        said.append("no rung between the warm-up and the last epoch, so nothing is stopped")
    return ": ".join([found["scheduler"], "; ".join(said)]) if said else found["scheduler"]


def _told(notify: dict[str, Any] | None) -> str:
    """``json://host (NOTIFY_URL) of finished, failed``: whom, and of what."""
    if notify is None:
        return "nobody (notify)"
    who = ", ".join(f"{address} ({name})" for name, address in notify["to"].items())
    return f"{who}: {', '.join(notify['events'])}"


def _cells(found: dict[str, Any]) -> str:
    """``20 trials × 1 split (6-shot) × 3 seeds = 60, 5 epochs each``."""
    from orchestrator.tables.words import counted, integer

    trials, seeds = counted(found["trials"], "trial"), counted(len(found["seeds"]), "seed")
    splits = f"{counted(len(found['splits']), 'split')} ({', '.join(found['splits'])})"
    cells = integer(found["cells"])
    return f"{trials} × {splits} × {seeds} = {cells}, {counted(found['epochs'], 'epoch')} each"


def _limits(found: dict[str, Any], slots: dict[str, Any] | None) -> str:
    """``20 trials, or 2 hours, or 8 GPU-hours, whichever comes first``."""
    parts = [f"{found['trials']} trials"]
    if found["hours"] is not None:
        parts.append(f"{found['hours']:g} hours")
    if found["gpu_hours"] is not None:
        none = " (slots here have no GPU and spend none)" if slots and not slots["gpus"] else ""
        parts.append(f"{found['gpu_hours']:g} GPU-hours{none}")
    return ", or ".join(parts) + (", whichever comes first" if len(parts) > 1 else "")
