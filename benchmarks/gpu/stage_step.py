"""Stage 3: single steps against a plain reference and against the card's own products."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from clock import wait_for
from made import MadeDataset, Size, cells

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "step_speed"))

from cases import Case, training_step

from mmap_model.configuration import Recipe
from mmap_model.execution import Execution
from mmap_model.training.optimiser import ReplicateOptimiser
from mmap_model.training.profile import matmul_rate, profile_cells
from mmap_model.training.step import TrainingStep

SHAPES = [(65, 16), (126, 4), (345, 4)]
GOALS = {"share_of_product_fused_65_16": 0.45, "fused_over_separate_at_batch_4": 1.5}
OTHERS = ("maple", "coop", "vpt", "full_ft")


def measure(device: str, tiny: bool, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    cuda = device.startswith("cuda")
    shapes = [(5, 2)] if tiny else SHAPES
    precision = "bf16"
    found: dict[str, Any] = {"goals": GOALS, "steps": [], "modes": {}, "methods": {}}
    found["product_flops"] = 2 * matmul_rate(torch.device(device), torch.bfloat16 if cuda else torch.float32)
    for classes, batch in shapes:
        case = Case("mmap", classes, batch, precision=precision, device=device, tiny=tiny, text_chunk=32)
        backbone = case.backbone()
        model = case.build(backbone)
        row: dict[str, Any] = {"classes": classes, "batch": batch}
        for name, reference in (("ours", False), ("reference", True)):
            step = training_step(case, model, backbone, reference=reference)
            row[f"{name}_s"], row[f"{name}_gb"] = _timed(step, device)
        if cuda:
            recording, take = replayed(case, case.build(backbone), backbone)
            row["replayed_s"], row["replayed_gb"] = _timed(take, device)
            row["recorded"] = recording._recorded is not None
            del recording, take
        text, image = case.count(model)
        row["multiply_adds"] = text.total + image.total
        row["times_faster"] = row["reference_s"] / row["ours_s"]
        if cuda:
            row["replayed_times_faster"] = row["reference_s"] / row["replayed_s"]
        row["share_of_product"] = 2 * row["multiply_adds"] / row["ours_s"] / found["product_flops"]
        found["steps"].append(row)
        del model, step
        keep(found)
        print(row, flush=True)
    size = Size.of(tiny)
    backbone = size.backbone(device)
    dataset = MadeDataset(size, backbone.image_size)

    def profiled(mode: str) -> None:
        execution = Execution(compile=mode)  # type: ignore[arg-type]
        own = cells(size, precision=precision)
        found["modes"][mode] = _profiled(backbone, dataset, device, execution, own)
        keep(found)
        print(mode, found["modes"][mode], flush=True)

    profiled("off")
    if cuda:
        profiled("graphs")
    small = cells(size, precision=precision, batch=4)
    fused = _profiled(backbone, dataset, device, Execution(compile="off"), small)["step_s"]
    alone = [
        _profiled(backbone, dataset, device, Execution(compile="off"), [cell])["step_s"] for cell in small
    ]
    found["fused_over_separate_at_batch_4"] = sum(alone) / fused
    found["share_of_product_fused_65_16"] = found["modes"]["off"]["share"]
    keep(found)
    if cuda:
        profiled("on")
    for method in OTHERS:
        own = cells(size, method=method, precision=precision, seeds=1)
        try:
            found["methods"][method] = _profiled(backbone, dataset, device, Execution(compile="off"), own)
        except Exception as error:  # one method must not cost the others' figures
            found["methods"][method] = {"error": f"{type(error).__name__}: {error}"}
        keep(found)
        print(method, found["methods"][method], flush=True)
    return found


def replayed(case: Case, model: Any, backbone: Any) -> tuple[TrainingStep, Callable[[], Any]]:
    """The same step of a case as `training_step`, recorded and replayed; and what takes it."""
    pixels, labels = case.batch_of(backbone)
    model.execution = Execution(compile="graphs")
    recipe = Recipe(lr=1e-3, momentum=0.9, weight_decay=5e-4, clip_norm=None, warmup_epochs=0)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    step = TrainingStep(
        model,
        ReplicateOptimiser(trained, recipe, tasks=labels.shape[1]),
        lambda given: given,
        lambda: torch.autocast("cuda", torch.bfloat16, enabled=case.precision == "bf16"),
    )
    return step, lambda: step.take(pixels, labels)


def _profiled(
    backbone: Any, dataset: Any, device: str, execution: Execution, own: list[Any]
) -> dict[str, Any]:
    profile = profile_cells(own, backbone, dataset, device=device, execution=execution)
    return {
        "step_s": profile.step_seconds,
        "share": profile.share_of_matmul,
        "parts_s": profile.parts,
        "peak_gb": profile.peak_gb,
        "images_at_a_time": profile.images_at_a_time,
    }


def _timed(step: Callable[[], Any], device: str, repeats: int = 7) -> tuple[float, float | None]:
    """Median seconds, and the device memory in GB that it took."""
    wait = wait_for(device)
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(2 + repeats):
        wait()
        began = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.startswith("cuda") else None
    return statistics.median(seconds[2:]), peak
