"""One side of a comparison in a process of its own: does its work once for every line on standard input.

The first line it prints says what it is ready with, each further one what a turn took. A process of its own
gives each side its own memory, and the reference an allocator as torch finds it.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import torch
from cases import Case

from mmap_model.host_memory import keep_freed_memory

MATMUL = 4096
"""Rows and columns of the large product."""


def main() -> None:
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec.pop("threads"))
    kind, case = spec.pop("kind"), Case(**spec.pop("case"))
    if spec.pop("keep", False):
        keep_freed_memory()
    turn, about = KINDS[kind](case, **spec)
    synchronise = torch.cuda.synchronize if case.device == "cuda" else lambda: None
    gc.collect()
    before = _reset_peak(case.device)
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        synchronise()
        started = time.perf_counter()
        value = turn()
        synchronise()
        seconds = time.perf_counter() - started
        peak = _peak(case.device)
        print(
            json.dumps({"seconds": seconds, "value": value, "peak": peak, "added": peak - before}), flush=True
        )


def train(case: Case, *, reference: bool) -> tuple[Callable[[], float], dict[str, Any]]:
    backbone = case.backbone()
    model = case.build(backbone)
    counted = case.count(model)
    step = cases.training_step(case, model, backbone, reference=reference)
    if counted is None:
        return step, {}
    text, image = counted
    return step, {"text": text._asdict(), "image": image._asdict()}


def one_by_one(case: Case) -> tuple[Callable[[], float], dict[str, Any]]:
    """The replicates as trainings of their own, a step of each in turn."""
    backbone = case.backbone()
    alone = Case(**{**vars(case), "replicates": 1})
    steps = [
        cases.training_step(alone, alone.build(backbone), backbone, reference=False)
        for _ in range(case.replicates)
    ]
    return lambda: sum(step() for step in steps) / len(steps), {}


def evaluate(case: Case, *, reference: bool) -> tuple[Callable[[], float], dict[str, Any]]:
    """Images of all tasks and replicates to class scores; the reference is open_clip's bare image encoder."""
    backbone = case.backbone()
    model = case.build(backbone).eval()
    pixels, _ = case.batch_of(backbone)

    @torch.no_grad()
    def turn() -> float:
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            if reference:
                return float(backbone.clip.encode_image(pixels.flatten(0, 2)).float().sum())
            return float(model.logits(pixels, classes).sum())

    with torch.no_grad():
        classes = model.class_features()
    return turn, {"images": pixels.flatten(0, 2).shape[0]}


def matmul(case: Case, *, onednn: bool) -> tuple[Callable[[], float], dict[str, Any]]:
    """A large product of two matrices in the case's precision."""
    dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
    a, b = torch.randn(2, MATMUL, MATMUL, device=case.device, dtype=dtype)
    out = torch.empty_like(a)
    repeats = 20 if case.device == "cuda" else 1

    def turn() -> float:
        for _ in range(repeats):
            if onednn:
                torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
            else:
                torch.mm(a, b, out=out)
        return 0.0

    return turn, {"multiply_adds": repeats * MATMUL**3}


def parts(case: Case) -> tuple[Callable[[], float], dict[str, Any]]:
    """What a step spends its time on: shares of what torch's profiler counts, after three steps."""
    from torch.profiler import ProfilerActivity, profile

    backbone = case.backbone()
    step = cases.training_step(case, case.build(backbone), backbone, reference=False)
    for _ in range(3):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    spent = dict.fromkeys([*PARTS, "rest"], 0.0)
    for event in found.key_averages():
        kind = next((kind for kind, words in PARTS.items() if any(w in event.key for w in words)), "rest")
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    return lambda: 0.0, {"parts": {kind: round(value / total, 3) for kind, value in spent.items()}}


PARTS = {
    "products": ("_linear_pointwise", "aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("scaled_dot_product",),
    "activations": ("silu", "gelu", "layer_norm", "softmax"),
    "copies": ("aten::cat", "aten::copy_", "aten::fill_"),
}
"""Parts of a step by words in the names of operations."""

KINDS: dict[str, Callable[..., tuple[Callable[[], float], dict[str, Any]]]] = {
    "train": train,
    "one_by_one": one_by_one,
    "evaluate": evaluate,
    "matmul": matmul,
    "parts": parts,
}


def _reset_peak(device: str) -> int:
    """Forget the peak so far; bytes in use now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


if __name__ == "__main__":
    main()
