"""What a run does on a GPU, as far as it shows without one: names of devices, replays, waits of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.data.augment import Augmentation
from mmap_model.data.bank import ImageBank
from mmap_model.execution import Execution
from mmap_model.methods import get_method
from mmap_model.training import FusedRun, feeding, memory
from mmap_model.training.feeding import BankFeed

HOST_WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten._assert_async", "aten.item")


class Elsewhere(torch.nn.Module):
    """A CLIP that says it lies on a device which has two names."""

    def __init__(self, clip: Any, device: str) -> None:
        super().__init__()
        self._clip, self._device = [clip], device

    @property
    def logit_scale(self) -> Any:
        return torch.empty((), device="meta") if self._device == "meta" else _Named(self._device)

    def to(self, device: Any, **_: Any) -> Elsewhere:
        wanted = torch.device(device)
        self._device = f"{wanted.type}:{wanted.index or 0}" if wanted.type == "cuda" else wanted.type
        return self


class _Named:
    def __init__(self, device: str) -> None:
        self.device = torch.device(device)


def test_two_names_of_one_device_do_not_cost_the_copy_in_bf16(tiny_backbone: Backbone) -> None:
    backbone = random_backbone(seed=7)
    backbone.__dict__["clip"] = Elsewhere(backbone.clip, "cuda:0")
    backbone.__dict__["in_bf16"] = copy = object()
    assert backbone.to("cuda").__dict__["in_bf16"] is copy
    assert backbone.to("cuda:0").__dict__["in_bf16"] is copy
    assert "in_bf16" not in backbone.to("cuda:1").__dict__


class Waits(TorchDispatchMode):
    """Collects operations for which the host has to wait for the device, and copies from it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).rpartition(".")[0]
        moved = name == "aten._to_copy" and args[0].device.type == "cuda" and result.device.type == "cpu"
        if name in HOST_WAITS or moved:
            self.found.append(name)
        return result


class Pixels:
    """One image size, no content: what `BankFeed` needs of a dataset."""

    def fetch(self, task: int, indices: Any) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(indices), 3, 8, 8, dtype=torch.uint8), torch.full((len(indices), 2), 8)


def _feed(device: str, *, limit: int, whole_pixels: bool) -> BankFeed:
    feed = BankFeed.__new__(BankFeed)
    feed._bank = ImageBank(Pixels().fetch, [[np.arange(6)]], device=device, limit=limit)
    feed._augmentation = Augmentation(whole_pixels=whole_pixels)
    feed._size, feed._dtype, feed._interpolation = 4, torch.float32, "bicubic"
    return feed


@pytest.mark.parametrize("whole_pixels", [True, False])
@pytest.mark.parametrize("limit", [1 << 20, 0])
def test_feeding_a_step_never_makes_the_host_wait(
    limit: int, whole_pixels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
        return tensor.to(device, dtype)  # pinning needs a driver

    monkeypatch.setattr(feeding, "to_device", copy)
    monkeypatch.setattr("mmap_model.data.bank.to_device", copy)
    monkeypatch.setattr("mmap_model.data.bank.ahead", lambda f, items, **_: map(f, items))
    with FakeTensorMode(allow_non_fake_inputs=True), Waits() as waits:
        feed = _feed("cuda", limit=limit, whole_pixels=whole_pixels)
        noise = [np.random.default_rng(0).random((3, Augmentation.noise)) for _ in range(2)]
        rows = [np.array([0, 2, 5]), np.array([1, 1, 4])]
        found = list(feed.stream(rows, noise))
    assert [(f.shape, f.device.type) for f in found] == [((3, 3, 4, 4), "cuda")] * 2
    assert waits.found == []


def numbered(device: torch.device | str) -> torch.device:
    """Shares of memory are of a card with a number: torch raises ValueError for ``cuda`` alone."""
    device = torch.device(device)
    if device.index is None:
        raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")
    return device


class Card:
    """What torch would say of a GPU of which others use a part."""

    def __init__(self, total: int, unused: int) -> None:
        self.total_memory, self._unused, self._fraction = total, unused, 1.0
        self.reserved, self.allocated = 0, 0

    def __getattr__(self, name: str) -> Any:
        return {
            "current_device": lambda: 0,
            "get_device_properties": lambda _: self,
            "set_per_process_memory_fraction": lambda fraction, device: self._share(fraction, device),
            "get_per_process_memory_fraction": lambda device: self._share(self._fraction, device),
            "mem_get_info": lambda _: (self._unused, self.total_memory),
            "memory_reserved": lambda _: self.reserved,
            "memory_allocated": lambda _: self.allocated,
        }[name]

    def _share(self, fraction: float, device: torch.device) -> float:
        numbered(device)
        self._fraction = fraction
        return fraction


def test_processes_that_share_a_gpu_plan_with_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    card, device = Card(total=80 * 2**30, unused=78 * 2**30), torch.device("cuda")
    monkeypatch.setattr(torch, "cuda", card)
    assert memory._free(Execution(), device) == 78 * 2**30
    memory.keep_to_share("cuda", 0.5)
    card.reserved, card.allocated = 3 * 2**30, 2**30
    assert memory._free(Execution(), device) == pytest.approx(40 * 2**30 - memory.CONTEXT - 2**30)
    card._unused = 10 * 2**30  # others took more than theirs
    assert memory._free(Execution(), device) == (10 + 3 - 1) * 2**30


def test_products_of_a_run_are_exact_whatever_the_process_allowed(
    tiny_backbone: Backbone, pattern_dataset: Callable[..., Any]
) -> None:
    from mmap_model.cells import Cell, Configuration
    from mmap_model.configuration import Recipe, Seeds, Split

    dataset = pattern_dataset({"plain": ("plain", {"cat": 6, "dog": 6})})
    settings = get_method("coop").Settings(prompt_length=2)
    cell = Cell(
        configuration=Configuration(method="coop", settings=settings, recipe=Recipe()),
        split=Split(shots=1),
        seeds=Seeds.both(1),
        precision="fp32",
        dataset=dataset.manifest,
        backbone="b" * 32,
    )
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    try:
        FusedRun([cell], tiny_backbone, dataset)
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
