"""What only CUDA can show: compiled steps, memory that runs out, waits, sharing, device errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from checks import (
    FP32,
    HERE,
    Bench,
    Found,
    agree,
    cuda_check,
    exact,
    gradients,
    losses_of,
    model_of,
    trained,
    within,
)
from made import Size, cells

from mmap_model.execution import Execution
from mmap_model.methods import get_method, method_names
from mmap_model.training import FusedRun
from mmap_model.training.memory import RESERVE, kept_bytes, release
from mmap_model.training.optimiser import ReplicateOptimiser
from mmap_model.training.step import TrainingStep


@cuda_check
def memory_that_runs_out_halves_the_step_and_goes_on(bench: Bench) -> Found:
    model, pixels, labels = model_of(bench)
    pixels = pixels.repeat_interleave(16, 2)
    labels = labels.repeat_interleave(16, 2)
    sgd = ReplicateOptimiser(
        {n: p for n, p in model.named_parameters() if p.requires_grad},
        cells(bench.few)[0].configuration.recipe,
        tasks=len(bench.dataset.tasks),
    )
    step = TrainingStep(model, sgd, lambda p: p, lambda: torch.autocast("cuda", torch.bfloat16))
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    plan = step._plan
    step._plan = lambda p: p.shape[2]  # type: ignore[method-assign]
    held = torch.cuda.memory_allocated()
    step.take(pixels, labels)
    whole = torch.cuda.max_memory_allocated() - held
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.6 * whole) / total)
    try:
        step.images = 0
        losses = step.take(pixels, labels)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        step._plan = plan  # type: ignore[method-assign]
    assert step.images < pixels.shape[2] and torch.isfinite(losses).all()
    return {"images": pixels.shape[2], "fitting": step.images, "step_bytes": whole}


@cuda_check
def a_step_takes_the_memory_that_was_planned(bench: Bench) -> Found:
    """What the plan measures beforehand against what the allocator had at most in a whole step."""
    model, pixels, labels = model_of(bench)
    pixels, labels = pixels.repeat_interleave(8, 2), labels.repeat_interleave(8, 2)
    with torch.autocast("cuda", torch.bfloat16):
        kept = kept_bytes(model.class_features) + pixels.shape[2] * kept_bytes(
            lambda: model.image_features(pixels[:, :, :1])
        )
    release(pixels.device)
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    gradients(losses_of(model, pixels, labels, "bf16"), model)
    taken = torch.cuda.max_memory_allocated() - held
    assert taken * (1 - RESERVE) <= kept, f"a step took {taken / kept:.2f} times what it keeps"
    return {"planned_bytes": kept, "taken_bytes": taken, "taken_over_planned": taken / kept}


@cuda_check
def an_epoch_does_not_wait_for_the_device(bench: Bench) -> Found:
    """Host synchronisations within the steps of an epoch, counted by CUDA's own debug mode."""
    run = FusedRun(
        cells(bench.few, batch=3, precision="bf16"), bench.backbone, bench.dataset, device=bench.device
    )
    epochs = run.epochs()
    next(epochs)
    steps = run._training_batches().steps
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run._train(run._sgd, 2, lambda: False)  # type: ignore[arg-type]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message).splitlines()[0] for w in caught if "synchroniz" in str(w.message)]
    where = sorted({f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)})
    # The end of an epoch asks once for losses and once for parameters; no step may ask.
    assert len(waits) <= 4, f"{len(waits)} waits in {steps} steps: {where}"
    return {"waits": len(waits), "steps": steps, "where": where}


@cuda_check
def two_processes_share_a_gpu(bench: Bench) -> Found:
    command = [
        sys.executable,
        str(HERE / "correct_on_cuda.py"),
        bench.device,
        *(["--tiny"] if bench.size.tiny else []),
    ]
    started = [
        subprocess.Popen([*command, "--train"], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    said = [json.loads(process.communicate(timeout=240)[0].splitlines()[-1]) for process in started]
    return {"nll": agree(said[0], said[1], 1e-4)}


@cuda_check
def a_gpu_error_is_told_from_other_errors(bench: Bench) -> Found:
    """A device assertion is known as the device's fault, and the GPU serves the next process."""
    program = (
        "import torch; from orchestrator.work.failures import is_device_failure\n"
        "try:\n  torch.zeros(2, device='cuda')[torch.tensor([5], device='cuda')]; torch.cuda.synchronize()\n"
        "except Exception as error:\n  print(is_device_failure(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("True"), done.stdout + done.stderr[-2000:]
    assert float(torch.ones(3, device=bench.device).sum()) == 3.0
    return {}


@cuda_check
def a_replayed_step_is_the_eager_one(bench: Bench) -> Found:
    """Of ViT-B/16 in both precisions: a record starts the very kernels of the eager step.

    Kernels whose sums have no fixed order differ from one eager run to the next; a replayed one may differ a
    few times as much.
    """
    found = {}
    for precision, least in (("fp32", 1e-5), ("bf16", 1e-4)):
        own = cells(bench.few, batch=3, precision=precision)
        with exact():
            eager, again = (trained(bench, own, Execution(compile="off")) for _ in range(2))
            between = agree(eager, again, 0.05)
            nll, recorded = replayed(bench, own)
        assert recorded, f"steps in {precision} were not recorded"
        found[precision] = {"eager": between, "replayed": agree(nll, eager, max(least, 4 * between))}
    return found


@cuda_check
def steps_of_every_method_can_be_replayed(bench: Bench) -> Found:
    """Of a narrow CLIP: a record is made and kept, and gives what eager steps give."""
    small = Bench(bench.device, Size.of(True))
    found, unlike = {}, []
    for name in method_names():
        own = cells(small.few, method=name, batch=3, seeds=2 if get_method(name).fuses else 1)
        if not get_method(name).trains:
            continue
        with exact():
            nll, recorded = replayed(small, own)
            found[name] = agree(nll, trained(small, own, Execution(compile="off")), 1e-4)
        if recorded is None:
            unlike.append(name)
        else:
            assert recorded, f"{name} was not recorded"
    return {"nll": found, "not_recorded_as_steps_differ": unlike}


def replayed(bench: Bench, own: list[Any]) -> tuple[dict[str, Any], bool | None]:
    """As `trained`, with replayed steps; and whether they were recorded (None if a method's steps differ)."""
    execution = Execution(compile="graphs")
    run = FusedRun(own, bench.backbone, bench.dataset, device=bench.device, execution=execution)
    for _ in run.epochs():
        pass
    nll = {key: result.metrics["nll"] for key, result in run.finish().items()}
    is_recorded = run._step is not None and run._step._recorded is not None
    return nll, is_recorded if run._model.steps_alike else None


@cuda_check
def a_compiled_step_is_the_eager_one(bench: Bench) -> Found:
    """The last check: compiling takes longer than all others together."""
    found = []
    with exact():
        for execution in (Execution(), Execution(compile="on")):
            model, pixels, labels = model_of(bench, execution=execution)
            losses = losses_of(model, pixels, labels)
            found.append((losses.detach(), gradients(losses, model)))
    (losses, own), (compiled_losses, compiled) = found
    worst = [within(a, b, 20 * FP32, "gradient") for a, b in zip(compiled, own, strict=True)]
    return {"loss": within(compiled_losses, losses, FP32, "loss"), "gradient": max(worst)}


if __name__ == "__main__":
    chosen = Bench(sys.argv[1], Size.of("--tiny" in sys.argv))
    assert "--train" in sys.argv
    print(json.dumps(trained(chosen, cells(chosen.few, batch=3))))
