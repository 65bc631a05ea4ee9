"""Stage 2: a whole trial of Office-Home's size, warm, and where its seconds go."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from clock import busy_share, wait_for
from made import MadeDataset, Size, cells

from mmap_model.execution import Execution
from mmap_model.training import FusedRun, score_test
from mmap_model.training.profile import profile_cells

GOAL_S = 25.0
"""Of a warm trial on an H200."""


def measure(device: str, tiny: bool, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    size = Size.of(tiny)
    backbone = size.backbone(device)
    dataset = MadeDataset(size, backbone.image_size)
    own = cells(size, precision="bf16")
    found: dict[str, Any] = {"goal_s": GOAL_S}
    on_cuda = device.startswith("cuda")

    # What is timed comes first: a profiler may slow down all that follows it in a process.
    modes = {mode: Execution(compile=mode) for mode in (("graphs", "off") if on_cuda else ("off",))}  # type: ignore[arg-type]
    for mode, execution in modes.items():
        warm_up = FusedRun(own, backbone, dataset, device=device, execution=execution)
        next(warm_up.epochs())  # kernels, caches
        del warm_up
        if on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        found[mode] = _trial(own, backbone, dataset, device, execution)
        keep(found)
    for mode, execution in modes.items():
        run = FusedRun(own, backbone, dataset, device=device, execution=execution)
        found[mode]["device_busy_share_of_an_epoch"] = busy_share(device, lambda run=run: next(run.epochs()))
        keep(found)
    profile = profile_cells(own, backbone, dataset, device=device)
    found["step_parts_s"] = {"step": profile.step_seconds, **profile.parts}
    found["share_of_matmul"] = profile.share_of_matmul
    found["peak_gb"] = profile.peak_gb
    keep(found)
    return found


def _trial(own: list[Any], backbone: Any, dataset: Any, device: str, execution: Execution) -> dict[str, Any]:
    wait, began = wait_for(device), time.perf_counter()
    run = FusedRun(own, backbone, dataset, device=device, execution=execution)
    built = time.perf_counter()
    for _ in run.epochs():
        pass
    results = run.finish()
    wait()
    trained = time.perf_counter()
    files = {key: result.files for key, result in results.items()}
    scored = score_test(own, files, backbone, dataset, device=device)
    wait()
    ended = time.perf_counter()
    images = sum(sum(s["metrics"]["images"].values()) for s in scored.values()) // len(own)
    phases: dict[str, float] = {}
    for result in results.values():
        for phase, seconds in result.seconds.items():
            phases[phase] = phases.get(phase, 0.0) + seconds
    return {
        "seconds": ended - began,
        "build_s": built - began,
        "train_and_validate_s": trained - built,
        "test_s": ended - trained,
        "test_images_per_seed": images,
        "phases_s": phases,
        "recorded": run._step is not None and run._step._recorded is not None,
        "max_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device.startswith("cuda") else None,
    }
