"""``orchestrator profile``: where the time of a step goes, and what the study will cost on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Overrides, StudyName

if TYPE_CHECKING:
    from orchestrator.study import StudyPlan

PARTS = {
    "text": "text tower",
    "image": "image tower",
    "prompts": "prompts",
    "optimiser": "optimiser",
    "data": "data",
}


def add_to(app: typer.Typer) -> None:
    app.command("profile")(profile)


def profile(
    study: StudyName,
    overrides: Overrides = None,
    device: Annotated[
        str | None, typer.Option(help="Torch device; the one that the study's slots would have.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time a few training steps of a study.

    They are those of its first configuration.

    Nothing is trained or recorded but the profile, which `plan` counts with until cells are finished. A step
    is that of all seeds as the study would train them together, with the cores of one slot.
    """
    from orchestrator.cli.console import err, print_json
    from orchestrator.study import load_plan
    from orchestrator.study.profiles import store_profile
    from orchestrator.terminal import Activity

    plan = load_plan(study, overrides or ())
    chosen = device or ("cuda" if plan.slots is not None and plan.slots.gpus else "cpu")
    with Activity(err(), "Measuring steps"):
        found = {
            split.label: _measure(plan, number, chosen) for number, split in enumerate(plan.study.splits)
        }
    for split in plan.study.splits:
        store_profile(plan, split, found[split.label])
    if as_json:
        print_json(found)
    else:
        _show(plan, found)


def _measure(plan: StudyPlan, split: int, device: str) -> dict[str, Any]:
    """The profile of the cells of one split, JSON-ready."""
    from mmap_model.cells import Configuration
    from mmap_model.plain import to_plain
    from orchestrator.execution.engine import ModelEngine

    study = plan.study
    engine = ModelEngine(
        to_plain(study.dataset),
        to_plain(study.backbone),
        device=device,
        precision=study.precision,
        threads=plan.slots.threads if plan.slots is not None else None,
        compute=to_plain(study.compute),
    )
    point = plan.space.replay((*plan.first, plan.space.preset())[0])
    fused = study.fuse != "off" and engine.fuses(point)
    # Which tasks share a group does not change what a step costs.
    partition = (tuple(range(len(plan.data.tasks))),) if point.grouping is not None else None
    configuration = Configuration(
        method=point.method, settings=point.settings, recipe=point.recipe, partition=partition
    )
    cells = [
        plan.cell(configuration, study.splits[split], seeds)
        for seeds in (study.seeds if fused else study.seeds[:1])
    ]
    return engine.profile(cells)


def _show(plan: StudyPlan, found: dict[str, dict[str, Any]]) -> None:
    from orchestrator.cli.console import out, show
    from orchestrator.tables import Table, label, number
    from orchestrator.tables.words import duration, integer

    console, first = out(), next(iter(found.values()))
    threads = f", {first['threads']} threads" if first["device"] == "cpu" else ""
    fused = f"{first['cells']} fused cells on {first['device_name']}{threads}"
    whole = first["step_seconds"] + first["parts"]["data"]
    rest = first["step_seconds"] - sum(s for part, s in first["parts"].items() if part != "data")
    rows = {PARTS[part]: seconds for part, seconds in first["parts"].items()} | {
        "loss, the rest": max(rest, 0.0)
    }
    show(
        Table.of(
            [
                (label("part"), lambda part: part[0]),
                (number("milliseconds"), lambda part: f"{1000 * part[1]:.1f}"),
                (number("share"), lambda part: f"{100 * part[1] / whole:.0f} %"),
            ],
            rows.items(),
            [("step with its data", whole)],
            title=plan.study.name,
            about=f"one step of {fused}",
        )
    )
    rate = first["multiply_adds"] / first["step_seconds"]
    console.print(
        f"{2 * rate / 1e9:,.1f} GFLOP/s, {100 * first['share_of_matmul']:.0f} % of a large product on this "
        f"machine ({2 * first['matmul_rate'] / 1e9:,.1f})"
    )
    at_a_time = f"{first['images_at_a_time']} images per task and seed at a time"
    console.print(f"peak memory {first['peak_gb']:.2f} GB; {at_a_time}")
    seconds = sum(profile["cell_seconds"] for profile in found.values())
    trial = seconds * len(plan.study.seeds)
    cells = plan.trials * plan.cells_per_trial
    for split, own in found.items():
        console.print(
            f"{split}: {own['steps']} steps × {own['epochs']} epochs; a cell {duration(own['cell_seconds'])}"
        )
    cost = duration(trial * plan.trials)
    console.print(
        f"{integer(cells)} cells ({plan.trials} trials): about {cost} of device time, probes left out"
    )
