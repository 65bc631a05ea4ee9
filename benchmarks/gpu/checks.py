"""What a check is, and what checks share. ``correct_numbers.py`` and ``correct_on_cuda.py`` hold them.

A check is a function of a `Bench`; it raises where something is wrong and returns what it found. Those that
mean nothing without CUDA raise `NeedsCuda` there.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "benchmarks" / "step_speed"), str(ROOT)]

from made import MadeDataset, Size, cells  # noqa: E402

from mmap_model.backbone import Backbone  # noqa: E402
from mmap_model.execution import Execution  # noqa: E402
from mmap_model.methods import Problem, get_method  # noqa: E402
from mmap_model.training import FusedRun  # noqa: E402

FP32 = 2e-5
"""Largest relative error (norm of the difference over norm) of fp32 with exact settings; fp64 gives 1e-12."""
BF16 = 2e-2
"""The same of unit features and logits in bf16: eight bits of mantissa, twelve layers."""
BF16_GRADIENT = 1.5
"""Times the error of a plain step's gradients in bf16 that ours may have."""

Found = dict[str, Any]
Check = Callable[["Bench"], Found]
CHECKS: dict[str, Check] = {}


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
        return MadeDataset(self.few, self.backbone.image_size)

    @property
    def few(self) -> Size:
        """Five classes of twelve images: enough for what is no matter of size."""
        return Size(classes=5, shots=2, epochs=2, seeds=2, per_class=12, tiny=self.size.tiny)


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def cuda_check(function: Check) -> Check:
    """A check that means nothing elsewhere."""

    def on_cuda(bench: Bench) -> Found:
        if not bench.cuda:
            raise NeedsCuda
        return function(bench)

    CHECKS[function.__name__] = on_cuda
    return on_cuda


def perform(checks: Mapping[str, Callable[[], Found]], keep: Callable[[Found], None]) -> Found:
    """By check: ``result`` (``passed``, ``needs CUDA``, ``failed``), seconds, what it found; each is kept."""
    found: Found = {}
    for name, function in checks.items():
        began = time.perf_counter()
        try:
            found[name] = {"result": "passed", **function()}
        except NeedsCuda:
            found[name] = {"result": "needs CUDA"}
        except Exception as error:
            found[name] = {"result": "failed", "error": f"{type(error).__name__}: {error}"}
        found[name]["seconds"] = round(time.perf_counter() - began, 1)
        print(f"{found[name]['result']:>10}  {name}, {found[name]['seconds']} s", flush=True)
        keep(found)
    return found


def failed(found: Found) -> list[str]:
    """Names of the checks that failed."""
    return [name for name, about in found.items() if about["result"] == "failed"]


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
