"""Where the time of a training step goes, and what share of the machine's multiplications it reaches.

Legend: R replicates (one per cell), T tasks, B images per replicate, task and step.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell
from mmap_model.data.dataset import Dataset
from mmap_model.execution import DEFAULT_EXECUTION, Execution
from mmap_model.forward.precision import exact_products
from mmap_model.host_memory import keep_freed_memory
from mmap_model.methods import get_method
from mmap_model.methods.model import TunedModel
from mmap_model.methods.prompted import PromptedModel
from mmap_model.training.batches import TrainingBatches
from mmap_model.training.evaluation import Evaluation
from mmap_model.training.optimiser import ReplicateOptimiser
from mmap_model.training.pixels import Normalisation
from mmap_model.training.replicate import draw_tasks, problem_of
from mmap_model.training.step import TrainingStep
from mmap_model.training.support import DrawnSupport, KeptBatches

SCORED = 64
"""Images per task whose scoring is measured; more take proportionally longer."""

MATMUL = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the product that the machine's rate is measured with."""


@dataclass(frozen=True)
class Profile:
    """What R fused cells cost on this machine.

    Attributes:
        cells: R.
        steps, epochs: of an epoch, of a cell.
        step_seconds: of one step of all R cells, pixels not counted.
        parts: seconds of a step by part, each measured alone: ``text`` and ``image`` tower (forward and
            backward), ``prompts`` (their generation and its gradient), ``optimiser``, ``data`` (the next
            step's pixels).
        epoch_evaluation_seconds: scoring the validation images of all R cells.
        multiply_adds: of one step, as executed.
        matmul_rate: multiply-adds a second of a large product of two matrices.
        images_at_a_time: of a step's images per replicate and task.
        peak_gb: most memory of the process (CPU) or of the device's allocator (GPU), in 10^9 bytes.
        fit_seconds: once, before the first step: embedding the labelled images where the recipe keeps them,
            and what the method computes of them.
        scored_epochs: after which the validation images are scored (``compute.evaluate``); None: all.
    """

    cells: int
    steps: int
    epochs: int
    step_seconds: float
    parts: dict[str, float]
    epoch_evaluation_seconds: float
    multiply_adds: int
    matmul_rate: float
    images_at_a_time: int
    peak_gb: float
    fit_seconds: float = 0.0
    scored_epochs: int | None = None

    @property
    def share_of_matmul(self) -> float:
        """Of the rate of a large product, reached by a step."""
        return self.multiply_adds / self.step_seconds / self.matmul_rate

    @property
    def cell_seconds(self) -> float:
        """Of one cell, its share of the batch."""
        step = self.step_seconds + self.parts["data"]
        scored = self.epochs if self.scored_epochs is None else self.scored_epochs
        trained = self.epochs * self.steps * step + scored * self.epoch_evaluation_seconds
        return (self.fit_seconds + trained) / self.cells


def profile_cells(
    cells: Sequence[Cell],
    backbone: Backbone,
    dataset: Dataset,
    *,
    device: torch.device | str = "cpu",
    execution: Execution = DEFAULT_EXECUTION,
    repeats: int = 5,
) -> Profile:
    """Take some steps of cells that would train as one batch, in memory only.

    Args:
        cells: as for ``FusedRun``; their method trains something.
        backbone, dataset, device, execution: likewise.
        repeats: of every measurement; medians count.
    """
    cell, backbone = cells[0], backbone.to(device)
    exact_products()
    if backbone.device.type == "cpu":
        keep_freed_memory()
    else:
        torch.cuda.reset_peak_memory_stats(backbone.device)
    recipe = cell.configuration.recipe.for_split(cell.split)
    draws = [draw_tasks(own, dataset) for own in cells]
    model = get_method(cell.configuration.method).build(
        cell.configuration.settings,
        backbone,
        problem_of(cells, dataset, draws),
    )
    model.execution = execution
    sgd = ReplicateOptimiser(dict(model.named_parameters()), recipe, tasks=len(dataset.tasks))
    prepare = Normalisation(backbone)

    def autocast() -> torch.autocast:
        return torch.autocast(backbone.device.type, torch.bfloat16, enabled=cell.precision == "bf16")

    batches = TrainingBatches(dataset, draws, [own.seeds.train for own in cells], recipe, backbone)
    wait = _waiting(backbone.device)
    is_kept = recipe.views is not None and model.constant_images
    began = time.perf_counter()
    support = DrawnSupport(model, batches, prepare, autocast) if is_kept or model.fits else None
    if support is not None and model.fits:
        model.fit(support)
    fed = KeptBatches(batches, support) if is_kept and support is not None else batches
    wait()
    fit_seconds = time.perf_counter() - began
    loaded = list(islice(_timed(fed.epoch(1), wait), 1 + repeats))
    (pixels, labels), step = loaded[-1][1], TrainingStep(model, sgd, prepare, autocast, kept=is_kept)
    model.train()
    step.take(pixels, labels)
    seconds = _median(lambda: step.take(pixels, labels), repeats, wait)
    own_pixels = pixels if is_kept else prepare(pixels[:, :, : step.images])
    times = -(-pixels.shape[2] // step.images)
    with autocast():
        parts = _towers(model, own_pixels, times, lambda work: _median(work, repeats, wait), kept=is_kept)
    parts["optimiser"] = _median(sgd.update, repeats, wait)
    parts["data"] = median(waited for waited, _ in loaded[1:] or loaded)

    indices = [[drawn.validation[:SCORED] for drawn in own] for own in draws]
    scored = max(len(own) for replicate in indices for own in replicate)
    evaluation_seconds = 0.0
    if scored:
        evaluation, most = (
            Evaluation(dataset, indices, backbone),
            max(len(d.validation) for o in draws for d in o),
        )
        model.eval()
        with autocast():
            once = _median(lambda: evaluation.run(model, prepare), 1 + repeats // 3, wait)
        evaluation_seconds = once * most / scored
    return Profile(
        cells=len(cells),
        steps=batches.steps,
        epochs=recipe.epochs,
        step_seconds=seconds,
        parts=parts,
        epoch_evaluation_seconds=evaluation_seconds,
        multiply_adds=_executed(lambda: step.take(pixels, labels), model),
        matmul_rate=matmul_rate(
            backbone.device, torch.bfloat16 if cell.precision == "bf16" else backbone.dtype
        ),
        images_at_a_time=step.images,
        peak_gb=_peak_bytes(backbone.device) / 1e9,
        fit_seconds=fit_seconds,
        scored_epochs=sum(execution.evaluates(epoch, recipe.epochs) for epoch in range(1, recipe.epochs + 1)),
    )


def matmul_rate(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """Multiply-adds a second of a large product of two matrices by torch."""
    side = MATMUL[device.type]
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    out = torch.empty_like(a)
    return side**3 / _median(lambda: torch.mm(a, b, out=out), repeats, _waiting(device))


def _towers(
    model: TunedModel,
    pixels: Tensor,
    times: int,
    timed: Callable[[Callable[[], Any]], float],
    *,
    kept: bool,
) -> dict[str, float]:
    """Seconds of both towers forwards and backwards, and of the prompts that go into them.

    Of images that are ``kept``, ``pixels`` are their embeddings, and the time is that of what follows.
    """
    images_of = model.finish_images if kept else model.image_features
    if not isinstance(model, PromptedModel):
        return {
            "text": timed(lambda: _differentiated([model.class_features()])),
            "image": times * timed(lambda: _differentiated([images_of(pixels)])),
            "prompts": 0.0,
        }
    prompts = timed(lambda: _differentiated([*model.text_prompts(), *model.image_prompts()]))
    with _given_prompts(model):
        return {
            "text": timed(lambda: _differentiated([model.class_features()])),
            "image": times * timed(lambda: _differentiated([images_of(pixels)])),
            "prompts": prompts,
        }


@contextmanager
def _given_prompts(model: PromptedModel) -> Iterator[None]:
    """Let the prompts be leaves, so that their generation takes no part."""
    text, image = (
        [p.detach().requires_grad_() for p in own] for own in (model.text_prompts(), model.image_prompts())
    )
    model.text_prompts = lambda: text  # type: ignore[method-assign]
    model.image_prompts = lambda: image  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.text_prompts, model.image_prompts


def _differentiated(outputs: Sequence[Tensor]) -> None:
    """Go back through what leads to ``outputs``, as far as that is anything."""
    with_gradient = [output for output in outputs if output.requires_grad]
    if with_gradient:
        torch.autograd.backward(with_gradient, [torch.ones_like(output) for output in with_gradient])


def _executed(step: Callable[[], Any], model: TunedModel) -> int:
    """Multiply-adds of a step; counted without a compiler, whose kernels cannot be looked into."""
    execution, model.execution = model.execution, replace(model.execution, compile="off")
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        step()
    model.execution = execution
    return int(counter.get_total_flops()) // 2


def _linear_flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    return int(2 * x.numel() * weight[0])


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(
    gradient: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


_FORMULAS = {
    torch.ops.mkldnn._linear_pointwise: _linear_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
"""Of operators that torch's counter does not know."""


def _median(work: Callable[[], Any], repeats: int, wait: Callable[[], None]) -> float:
    """Seconds of ``work``, which runs once before it counts."""
    work()
    found = []
    for _ in range(repeats):
        wait()
        started = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - started)
    return median(found)


def _timed(items: Iterator[Any], wait: Callable[[], None]) -> Iterator[tuple[float, Any]]:
    """Each item with the seconds it took to come."""
    while True:
        started = time.perf_counter()
        try:
            item = next(items)
        except StopIteration:
            return
        wait()
        yield time.perf_counter() - started, item


def _waiting(device: torch.device) -> Callable[[], None]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
