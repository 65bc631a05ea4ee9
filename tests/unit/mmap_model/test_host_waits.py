"""No training step may make the host wait for its device: seen in the operators of a step on the CPU.

On a GPU the host runs ahead of the device. A number read from it, a mask used as an index (whose result has a
size that only the device knows) or a tensor made of Python numbers (copied from pageable memory) ends that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Probe, Recipe, Seeds, Split
from mmap_model.data import Dataset
from mmap_model.grouping import probe_configuration
from mmap_model.methods import get_method, method_names
from mmap_model.training import FusedRun

WAITING = {
    "aten._local_scalar_dense": "a number is read",
    "aten.equal": "a number is read",
    "aten.is_nonzero": "a number is read",
    "aten.nonzero": "a result has as many rows as the data say",
    "aten.masked_select": "a result has as many rows as the data say",
    "aten._unique2": "a result has as many rows as the data say",
    "aten.lift_fresh": "a tensor is made of Python numbers, or a list is an index",
}
INDEXING = ("aten.index", "aten.index_put_", "aten.index_put", "aten._index_put_impl_")
SETTINGS: dict[str, dict[str, Any]] = {
    "mmap": {"prompt_length": 2, "source_rows": 2, "source_cols": 8},
    "maple": {"prompt_length": 2, "depth": 2},
    "vpt": {"prompt_length": 2, "depth": 2},
    "joint": {"prompt_length": 2},
    "mlp": {"prompt_length": 2},
    "promptsrc": {"depth": 2},
}
NAMES = ("anchor", "bell", "cat")


class RefuseWaits(TorchDispatchMode):
    """Raises where an operator needs a value from the device on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).rpartition(".")[0]
        assert name not in WAITING, f"{name}: {WAITING[name]}"
        if name in INDEXING:
            indices = [index for index in args[1] if index is not None]
            assert not any(index.dtype == torch.bool for index in indices), f"{name}: a mask is an index"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def dataset(pattern_dataset: Callable[..., Dataset]) -> Dataset:
    """Two tasks of one class list, as in Office-Home, and one of another."""
    same = dict.fromkeys(NAMES, 8)
    return pattern_dataset(
        {"plain": ("plain", same), "noisy": ("noisy", same), "odd": ("odd", {"dog": 8, "bell": 8})}
    )


def run_of(
    backbone: Backbone, dataset: Dataset, method: str = "mmap", *, kind: str = "train", **recipe: Any
) -> FusedRun:
    """One epoch of two cells (one where the method does not fuse) has been trained."""
    own = get_method(method)
    settings = own.Settings(**SETTINGS.get(method, {}))
    how = Recipe(**{"epochs": 2, "batch_size": 3, "warmup_epochs": 0, "lr": 0.01, **recipe})
    if kind == "probe":
        grouping = Grouping(probe=Probe(same=True, snapshot_every=1))
        point = Point(method=method, settings=settings, recipe=how, grouping=grouping)
        configuration = probe_configuration(grouping, point, tasks=3)
    else:
        partition = ((0, 1), (2,)) if own.grouped else None
        configuration = Configuration(method=method, settings=settings, recipe=how, partition=partition)
    cells = [
        Cell(
            kind=kind,  # type: ignore[arg-type]
            configuration=configuration,
            split=Split(shots=2),
            seeds=Seeds.both(seed),
            precision="fp32",
            dataset=dataset.manifest,
            backbone="b" * 32,
            snapshot_every=1 if kind == "probe" else None,
        )
        for seed in range(1, 3 if own.fuses else 2)
    ]
    run = FusedRun(cells, backbone, dataset)
    next(run.epochs())
    return run


def take_a_step(run: FusedRun) -> torch.Tensor:
    """One more step; its pixels are there before anything is refused."""
    assert run._sgd is not None
    batches, step = run._training_batches(), run._training_step(run._sgd)
    pixels, labels = next(iter(batches.epoch(2)))
    with RefuseWaits():
        return run._take(step, pixels, labels, batches.steps + 1)


def trained_methods() -> list[str]:
    return [name for name in method_names() if get_method(name).trains]


@pytest.mark.parametrize("method", trained_methods())
def test_no_step_of_a_method_waits(method: str, tiny_backbone: Backbone, dataset: Dataset) -> None:
    losses = take_a_step(run_of(tiny_backbone, dataset, method, clip_norm=1.0))
    assert torch.isfinite(losses).all()


def test_a_snapshot_of_the_probe_does_not_wait(tiny_backbone: Backbone, dataset: Dataset) -> None:
    run = run_of(tiny_backbone, dataset, kind="probe")
    assert run._probe is not None
    before = len(run._probe.stack(0).steps)
    take_a_step(run)
    assert len(run._probe.stack(0).steps) == before + 1


def test_steps_in_parts_do_not_wait(tiny_backbone: Backbone, dataset: Dataset) -> None:
    run = run_of(tiny_backbone, dataset)
    assert run._step is not None
    run._step.images = 1
    take_a_step(run)
    assert run._step.in_parts


def test_steps_with_a_cancelled_cell_do_not_wait(tiny_backbone: Backbone, dataset: Dataset) -> None:
    run = run_of(tiny_backbone, dataset)
    run.cancel(run.active[0])
    run._health.silence_idle()  # once, where the host may wait
    take_a_step(run)
    assert len(run.active) == 1


def test_what_waits_is_refused() -> None:
    values, mask = torch.arange(3.0), torch.tensor([True, False, True])
    works: list[Callable[[], Any]] = [
        lambda: float(values.sum()),
        lambda: values[mask],
        lambda: values[[0, 1]],
        lambda: values.clone().__setitem__(mask, 1.0),
        lambda: mask.nonzero(),
        lambda: torch.tensor([1.0]),
    ]
    for work in works:
        with pytest.raises(AssertionError), RefuseWaits():
            work()
