"""Seconds and memory of a cell of every column, each measured in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from stages import Stage


def profile(stage: Stage, storage: Path, device: str, processes: int) -> dict[str, Any]:
    """By column, of those that are not measured yet too; written as they come to ``storage/profiles``."""
    file = storage / "profiles" / f"{stage.clip}-{device}.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    plan = stage.plan(storage)
    missing = [c.name for c in plan.columns if c.name not in found and plan.trains(c.name)]
    file.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, processes), mp_context=context, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(measure, stage, storage, name, device): name for name in missing}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(found, indent=1))
            partial.replace(file)
            print(f"  {waiting[done]}: {found[waiting[done]]}", flush=True)
    return found


def measure(stage: Stage, storage: Path, column: str, device: str) -> dict[str, Any]:
    """Seconds of a cell and the highest memory of training it alone; why not, where that is not known."""
    import torch

    from mmap_model.cells import Configuration
    from mmap_model.plain import to_plain
    from orchestrator.execution.engine import ModelEngine

    torch.set_num_threads(1)
    plan = stage.plan(storage)
    study, point = plan.base.study, plan.searched_points[column]
    every = (tuple(range(len(plan.tasks))),) if point.grouping is not None else None
    configuration = Configuration(
        method=point.method, settings=point.settings, recipe=point.recipe, partition=every
    )
    engine = ModelEngine(
        to_plain(study.dataset),
        to_plain(study.backbone),
        device=device,
        precision=study.precision,
        threads=1,
        compute=to_plain(study.compute),
    )
    cell = plan.base.cell(configuration, study.splits[0], study.seeds[0])
    try:
        found = engine.profile([cell])
    except Exception as error:  # a method that needs its labelled images first cannot be measured alone
        return {"error": f"{type(error).__name__}: {error}"}
    return {name: found[name] for name in ("cell_seconds", "step_seconds", "peak_gb")}
