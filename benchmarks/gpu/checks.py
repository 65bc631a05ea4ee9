"""What must be right on a device before anything is timed. ``pytest -m gpu`` runs the same checks.

A check is a function of a `Bench`; it raises where something is wrong and returns what it found. Those that
mean nothing without CUDA are marked.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "benchmarks" / "step_speed"), str(ROOT)]

from made import MadeDataset, Size, cells  # noqa: E402
from reference import Reference  # noqa: E402

from mmap_model.backbone import Backbone  # noqa: E402
from mmap_model.data.augment import Augmentation, crop_resize, crop_resize_each  # noqa: E402
from mmap_model.execution import Execution  # noqa: E402
from mmap_model.forward.image import encode_images  # noqa: E402
from mmap_model.methods import Problem, get_method  # noqa: E402
from mmap_model.training import FusedRun  # noqa: E402
from mmap_model.training.optimiser import ReplicateSgd  # noqa: E402
from mmap_model.training.step import TrainingStep  # noqa: E402

FP32 = 2e-5
"""Largest relative error (norm of the difference over norm) of fp32 with exact settings; fp64 gives 1e-12."""
BF16 = 2e-2
"""The same of unit features and logits in bf16: eight bits of mantissa, twelve layers."""

Check = Callable[["Bench"], dict[str, Any]]
CHECKS: dict[str, Check] = {}
NEEDS_CUDA: set[str] = set()


class NeedsCuda(Exception):
    """The check says nothing on another device."""


@dataclass(frozen=True)
class Bench:
    """Where checks run: a device and a size."""

    device: str
    size: Size

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @cached_property
    def backbone(self) -> Backbone:
        return self.size.backbone(self.device)

    @cached_property
    def dataset(self) -> MadeDataset:
        few = Size(classes=5, shots=2, epochs=2, seeds=2, per_class=12, tiny=self.size.tiny)
        return MadeDataset(few, self.backbone.image_size)

    @property
    def few(self) -> Size:
        """Five classes of twelve images: enough for what is no matter of size."""
        return Size(classes=5, shots=2, epochs=2, seeds=2, per_class=12, tiny=self.size.tiny)


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def cuda_check(function: Check) -> Check:
    NEEDS_CUDA.add(function.__name__)
    return check(function)


@contextmanager
def exact() -> Iterator[None]:
    """No TF32 where exactness is claimed."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def apart(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm, in double precision on the host."""
    a, b = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((a - b).norm() / b.norm())


def within(found: Tensor, expected: Tensor, limit: float, what: str) -> float:
    error = apart(found, expected)
    assert math.isfinite(error) and error <= limit, f"{what}: {error:.2e} apart, at most {limit:.0e} allowed"
    return error


def model_of(bench: Bench, method: str = "mmap", seeds: int = 2, execution: Execution | None = None) -> Any:
    """A built model of a method, its cells, and a step of pixels [R, T, B, 3, H, W] and labels."""
    own = cells(bench.few, method=method, batch=3, seeds=seeds)
    model = get_method(method).build(
        own[0].configuration.settings,
        bench.backbone,
        Problem(
            classes=[task.classes for task in bench.dataset.tasks],
            template="a photo of a {}.",
            partitions=[cell.configuration.partition for cell in own],
            train_seeds=[cell.seeds.train for cell in own],
        ),
    )
    if execution is not None:
        model.execution = execution
    generator = torch.Generator().manual_seed(3)
    shape = (seeds, len(bench.dataset.tasks), 3)
    side = bench.backbone.image_size
    pixels = torch.randn(*shape, 3, side, side, generator=generator).to(bench.device)
    labels = torch.randint(5, shape, generator=generator).to(bench.device)
    return model, pixels, labels


def gradients(losses: Tensor, model: Any) -> list[Tensor]:
    return list(torch.autograd.grad(losses.sum(), [p for p in model.parameters() if p.requires_grad]))


def losses_of(model: Any, pixels: Tensor, labels: Tensor, precision: str = "fp32") -> Tensor:
    """Mean cross-entropy [R, T]."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = model.logits(pixels)
    each = F.cross_entropy(logits.float().flatten(0, 2), labels.flatten(), reduction="none")
    return each.view(labels.shape).mean(-1)


@check
def without_prompts_the_forward_is_open_clips(bench: Bench) -> dict[str, Any]:
    clip, side = bench.backbone.clip, bench.backbone.image_size
    pixels = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1)).to(bench.device)
    with torch.no_grad(), exact():
        ours = encode_images(clip, pixels[None], ())[0]
        error = within(ours, clip.encode_image(pixels), FP32, "image features")
    model, _, _ = model_of(bench, "zero_shot", seeds=1)
    ids = bench.backbone.tokenize(["a photo of a thing 0.", "a photo of a thing 1."]).to(bench.device)
    with torch.no_grad(), exact():
        texts = F.normalize(clip.encode_text(ids), dim=-1)
        error_text = within(model.class_features()[0, 0, :2], texts, FP32, "class features")
    return {"image": error, "text": error_text}


@check
def prompted_forward_is_plain_concatenation(bench: Bench) -> dict[str, Any]:
    model, pixels, labels = model_of(bench)
    plain = Reference(
        model, [task.classes for task in bench.dataset.tasks], "a photo of a {}.", assembled=False
    )
    with exact():
        ours, theirs = losses_of(model, pixels, labels), plain.losses(pixels, labels)
        found = {"loss": within(ours, theirs, FP32, "losses")}
        pairs = zip(gradients(ours, model), gradients(theirs, model), strict=True)
        found["gradient"] = max(within(a, b, 50 * FP32, "gradients") for a, b in pairs)
    return found


@check
def bf16_is_near_fp32(bench: Bench) -> dict[str, Any]:
    model, pixels, _ = model_of(bench)
    with torch.no_grad():
        with exact():
            full = model.logits(pixels)
        with torch.autocast(torch.device(bench.device).type, torch.bfloat16):
            low = model.logits(pixels)
    assert low.dtype == torch.float32, "logits are fp32 under bf16 too"
    scale = float(model.logit_scale())
    worst = float((low - full).abs().max()) / scale
    assert worst <= BF16, f"a cosine is {worst:.3f} off, at most {BF16} allowed"
    return {"worst_cosine_error": worst}


@check
def fused_cells_are_separate_cells(bench: Bench) -> dict[str, Any]:
    own = cells(bench.few, batch=3)
    with exact():
        together = trained(bench, own)
        alone = {key: value for cell in own for key, value in trained(bench, [cell]).items()}
    return {"accuracy_and_nll": agree(together, alone, 1e-4)}


def trained(bench: Bench, own: list[Any], execution: Execution | None = None) -> dict[str, Any]:
    """Validation nll and parameters by key after all epochs."""
    options = {} if execution is None else {"execution": execution}
    run = FusedRun(own, bench.backbone, bench.dataset, device=bench.device, **options)
    for _ in run.epochs():
        pass
    return {key: result.metrics["nll"] for key, result in run.finish().items()}


def agree(found: dict[str, Any], expected: dict[str, Any], limit: float) -> float:
    assert found.keys() == expected.keys(), (found, expected)
    worst = max(abs(found[key] - expected[key]) for key in expected)
    assert worst <= limit, f"nll {worst:.2e} apart, at most {limit:.0e} allowed"
    return worst


@check
def one_diverging_replicate_leaves_the_other_alone(bench: Bench) -> dict[str, Any]:
    own = cells(bench.few, batch=3)
    run = FusedRun(own, bench.backbone, bench.dataset, device=bench.device)
    with torch.no_grad():
        for parameter in run._model.parameters():
            if parameter.requires_grad:
                parameter[0].fill_(torch.nan)
    for _ in run.epochs():
        pass
    assert set(run.failed) == {own[0].key}, run.failed
    found = {key: result.metrics["nll"] for key, result in run.finish().items()}
    with exact():
        return {"nll": agree(found, trained(bench, [own[1]]), 1e-4)}


@check
def probe_gradients_are_those_of_each_task_alone(bench: Bench) -> dict[str, Any]:
    def first_gram(where: Bench) -> Tensor:
        own = cells(where.few, batch=3, kind="probe", seeds=1)
        run = FusedRun(own, where.backbone, where.dataset, device=where.device)
        for _ in run.epochs():
            pass
        assert run._probe is not None
        return torch.from_numpy(run._probe.stack(0).spaces["prompts"][0])

    with exact():
        gram, on_host = first_gram(bench), first_gram(Bench("cpu", bench.size))
    values = np.linalg.eigvalsh(gram.numpy())
    assert (values >= -1e-6 * np.abs(values).max()).all(), "a Gram matrix has no negative eigenvalue"
    error = within(gram, on_host, 1e-2, "the first Gram matrix against the CPU's")
    model, pixels, labels = model_of(bench, seeds=1)
    whole = gradients(losses_of(model, pixels, labels), model)
    parts = [gradients(losses_of(model, pixels, labels)[:, t], model) for t in range(labels.shape[1])]
    summed = [sum(column[1:], column[0]) for column in zip(*parts, strict=True)]
    pairs = zip(summed, whole, strict=True)
    return {"gram": error, "sum_of_tasks": max(within(a, b, 50 * FP32, "gradients") for a, b in pairs)}


@check
def a_resumed_run_is_the_uninterrupted_one(bench: Bench) -> dict[str, Any]:
    own = cells(bench.few, batch=3)
    first = FusedRun(own, bench.backbone, bench.dataset, device=bench.device)
    next(first.epochs())
    state = first.state()
    second = FusedRun(own, bench.backbone, bench.dataset, device=bench.device)
    second.restore(state)
    for run in (first, second):
        for _ in run.epochs():
            pass
    results = [{k: r.metrics["nll"] for k, r in run.finish().items()} for run in (first, second)]
    return {"nll": agree(results[1], results[0], 1e-5 if bench.cuda else 0.0)}


@check
def evaluation_is_the_cpus(bench: Bench) -> dict[str, Any]:
    from mmap_model.training.evaluation import Evaluation
    from mmap_model.training.pixels import Normalisation

    indices = [[np.arange(20) for _ in bench.dataset.tasks]]
    model, _, _ = model_of(bench, "zero_shot", seeds=1)
    host = Bench("cpu", bench.size)
    plain, _, _ = model_of(host, "zero_shot", seeds=1)
    with exact():
        ours = Evaluation(bench.dataset, indices, bench.backbone).run(model, Normalisation(bench.backbone))
        theirs = Evaluation(bench.dataset, indices, host.backbone).run(plain, Normalisation(host.backbone))
    pairs = list(zip(ours[0], theirs[0], strict=True))
    worst = max(float(np.abs(a.nll - b.nll).max()) for a, b in pairs)
    assert worst <= 1e-3, f"nll of an image is {worst:.1e} off"
    same = float(np.mean([np.mean(a.classes[:, 0] == b.classes[:, 0]) for a, b in pairs]))
    assert same >= 0.99, f"only {same:.1%} of the predictions agree"
    return {"nll": worst, "equal_top1": same}


@check
def augmentation_is_the_cpus(bench: Bench) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    augmentation = Augmentation(whole_pixels=True)
    extents = torch.full((6, 2), 40)
    boxes, mirrored = augmentation.crops(torch.from_numpy(rng.random((6, Augmentation.noise))), extents)
    canvas = torch.from_numpy(images).permute(0, 3, 1, 2).to(bench.device)
    with exact():
        found = crop_resize(
            canvas, extents.to(bench.device), boxes.to(bench.device), mirrored.to(bench.device), 16,
            torch.float32, isolated=True,
        )  # fmt: skip
    expected = crop_resize_each(images, boxes.numpy().astype(np.int64), mirrored.numpy(), 16)
    worst = float((found.cpu() - expected.float()).abs().max())
    assert worst <= 1.01, f"{worst} grey levels apart"
    return {"grey_levels": worst}


@check
def a_compiled_step_is_the_eager_one(bench: Bench) -> dict[str, Any]:
    if not bench.cuda:
        raise NeedsCuda
    return {mode: _mode_agrees(bench, mode) for mode in ("on", "graphs")}


NEEDS_CUDA.add("a_compiled_step_is_the_eager_one")


def _mode_agrees(bench: Bench, mode: str) -> float:
    own = cells(bench.few, batch=3)
    with exact():
        eager = trained(bench, own)
        return agree(trained(bench, own, Execution(compile=mode)), eager, 1e-3)  # type: ignore[arg-type]


@cuda_check
def memory_that_runs_out_halves_the_step_and_goes_on(bench: Bench) -> dict[str, Any]:
    if not bench.cuda:
        raise NeedsCuda
    model, pixels, labels = model_of(bench)
    pixels = pixels.repeat_interleave(16, 2)
    labels = labels.repeat_interleave(16, 2)
    sgd = ReplicateSgd(
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
def an_epoch_does_not_wait_for_the_device(bench: Bench) -> dict[str, Any]:
    """Host synchronisations within the steps of an epoch, counted by CUDA's own debug mode."""
    if not bench.cuda:
        raise NeedsCuda
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
def two_processes_share_a_gpu(bench: Bench) -> dict[str, Any]:
    if not bench.cuda:
        raise NeedsCuda
    command = [
        sys.executable,
        str(HERE / "checks.py"),
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
def a_gpu_error_is_told_from_other_errors(bench: Bench) -> dict[str, Any]:
    """A device assertion is known as the device's fault, and the GPU serves the next process."""
    if not bench.cuda:
        raise NeedsCuda
    program = (
        "import torch; from orchestrator.work.failures import is_device_failure\n"
        "try:\n  torch.zeros(2, device='cuda')[torch.tensor([5], device='cuda')]; torch.cuda.synchronize()\n"
        "except Exception as error:\n  print(is_device_failure(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("True"), done.stdout + done.stderr[-2000:]
    assert float(torch.ones(3, device=bench.device).sum()) == 3.0
    return {}


def perform(bench: Bench, names: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """By check: ``result`` (``passed``, ``needs CUDA`` or ``failed``) and what it found."""
    found: dict[str, dict[str, Any]] = {}
    for name in names or CHECKS:
        try:
            found[name] = {"result": "passed", **CHECKS[name](bench)}
        except NeedsCuda:
            found[name] = {"result": "needs CUDA"}
        except Exception as error:
            found[name] = {"result": "failed", "error": f"{type(error).__name__}: {error}"}
        print(f"{found[name]['result']:>10}  {name}", flush=True)
    return found


if __name__ == "__main__":
    chosen = Bench(sys.argv[1], Size.of("--tiny" in sys.argv))
    assert "--train" in sys.argv
    print(json.dumps(trained(chosen, list(itertools.chain(cells(chosen.few, batch=3))))))
