"""A step in parts is the same step, whatever memory forces it into parts."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.errors import ConfigurationError
from mmap_model.execution import DEFAULT_EXECUTION, Execution
from mmap_model.methods import Problem, get_method
from mmap_model.methods.mmap import MmapSettings
from mmap_model.out_of_memory import is_out_of_memory
from mmap_model.training import FusedRun, memory
from mmap_model.training.memory import images_at_a_time, kept_bytes
from mmap_model.training.optimiser import ReplicateOptimiser
from mmap_model.training.step import TrainingStep

BATCH = 5


def model_of(backbone: Backbone, classes: tuple[tuple[str, ...], ...]) -> Any:
    method = get_method("mmap")
    return method.build(
        MmapSettings(prompt_length=4, source_rows=2, source_cols=8),
        backbone,
        Problem(
            classes=classes,
            template="a photo of a {}.",
            partitions=[((0, 1), (2,)), ((0,), (1, 2))],
            train_seeds=[1, 2],
        ),
    )


def step_of(model: Any, **recipe: Any) -> TrainingStep:
    sgd = ReplicateOptimiser(dict(model.named_parameters()), Recipe(lr=0.1, **recipe), tasks=model.tasks)
    return TrainingStep(model, sgd, lambda pixels: pixels, nullcontext)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn((2, 3, BATCH, 3, 16, 16), generator=generator, dtype=torch.float64)
    return pixels, torch.randint(2, (2, 3, BATCH), generator=generator)


def parameters(model: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Full:
    """An image encoder that runs out of memory when it is given more than ``images`` of a set."""

    def __init__(
        self,
        model: Any,
        images: int,
        error: type[Exception] = torch.OutOfMemoryError,
        name: str = "image_features",
    ) -> None:
        self._encode, self._images, self._error = getattr(model, name), images, error
        self.asked: list[int] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        self.asked.append(pixels.shape[2])
        if pixels.shape[2] > self._images:
            raise self._error("DefaultCPUAllocator: can't allocate memory")
        return self._encode(pixels)  # type: ignore[no-any-return]


@pytest.mark.parametrize("recipe", [{}, {"loss_reduction": "mean", "clip_norm": 0.01}])
@pytest.mark.parametrize("images", [1, 2, 4])
def test_steps_in_parts_are_the_whole_steps(
    tiny_backbone_fp64: Backbone,
    unequal_classes: tuple[tuple[str, ...], ...],
    images: int,
    recipe: dict[str, Any],
) -> None:
    whole, parts = (model_of(tiny_backbone_fp64, unequal_classes) for _ in range(2))
    steps = [step_of(model, **recipe) for model in (whole, parts)]
    steps[0].images, steps[1].images = BATCH, images
    active = torch.tensor([False, True])
    for number in range(3):
        losses = [step.take(*batch(number), active if number == 2 else None) for step in steps]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(parameters(parts), parameters(whole), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_step_that_memory_does_not_hold_goes_on_with_half_the_images(
    tiny_backbone_fp64: Backbone,
    unequal_classes: tuple[tuple[str, ...], ...],
    error: type[Exception],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, short = (model_of(tiny_backbone_fp64, unequal_classes) for _ in range(2))
    full = Full(short, 2, error)
    monkeypatch.setattr(short, "image_features", full)
    step = step_of(short)
    with caplog.at_level(logging.WARNING):
        losses = step.take(*batch())
    assert full.asked == [5, 3, 2, 2, 1]
    assert step.images == 2
    assert "on with 2 images at a time" in caplog.text
    torch.testing.assert_close(losses, step_of(whole).take(*batch()), rtol=1e-12, atol=0)
    torch.testing.assert_close(parameters(short), parameters(whole), rtol=1e-10, atol=1e-14)


def test_one_image_too_many_is_an_error_that_leaves_the_parameters(
    tiny_backbone_fp64: Backbone,
    unequal_classes: tuple[tuple[str, ...], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of(tiny_backbone_fp64, unequal_classes)
    before, full = parameters(model), Full(model, 0)
    monkeypatch.setattr(model, "image_features", full)
    with pytest.raises(torch.OutOfMemoryError, match="can't allocate"):
        step_of(model).take(*batch())
    assert full.asked == [5, 3, 2, 1, 1]
    assert model.execution.checkpoint
    assert torch.equal(parameters(model), before)


def test_an_evaluation_that_memory_does_not_hold_goes_on_with_smaller_batches(
    tiny_backbone_fp64: Backbone, pattern_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = pattern_dataset({"art": ("warm", {"mug": 9, "fan": 9}), "photo": ("cold", {"tv": 9, "cap": 9})})
    cell = Cell(
        configuration=Configuration(method="coop", settings=get_method("coop").Settings(prompt_length=2)),
        split=Split(shots=3),
        seeds=Seeds.both(1),
        precision="fp64",
        dataset="0" * 32,
        backbone="b",
    )
    whole, short = (FusedRun([cell], tiny_backbone_fp64, dataset) for _ in range(2))
    full = Full(short._model, 2, name="image_embeddings")
    monkeypatch.setattr(short._model, "image_embeddings", full)
    assert whole.evaluate_initial().cells[cell.key]["nll"] == pytest.approx(
        short.evaluate_initial().cells[cell.key]["nll"], rel=1e-12
    )
    assert full.asked == [6, 3, 1, 1, 1, 1, 1, 1]


def test_an_error_of_another_kind_is_raised_at_once(
    tiny_backbone_fp64: Backbone,
    unequal_classes: tuple[tuple[str, ...], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of(tiny_backbone_fp64, unequal_classes)
    full = Full(model, 0, ValueError)
    monkeypatch.setattr(model, "image_features", full)
    with pytest.raises(ValueError, match="can't allocate"):
        step_of(model).take(*batch())
    assert full.asked == [5]
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_checkpoints_change_nothing_and_keep_less(
    unequal_classes: tuple[tuple[str, ...], ...], quick_gelu: bool
) -> None:
    from mmap_model.backbone import random_backbone

    backbone = random_backbone(dtype=torch.float64, quick_gelu=quick_gelu, layers=6)
    plain, checkpointed = (model_of(backbone, unequal_classes) for _ in range(2))
    checkpointed.execution = Execution(checkpoint=True)
    for model in (plain, checkpointed):
        step_of(model).take(*batch())
    torch.testing.assert_close(parameters(checkpointed), parameters(plain), rtol=1e-12, atol=0)
    pixels, _ = batch()
    kept = [kept_bytes(lambda m=m: m.image_features(pixels)) for m in (plain, checkpointed)]  # type: ignore[misc]
    assert kept[1] < kept[0] / 3


def test_what_is_kept_grows_with_the_images(
    tiny_backbone: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
) -> None:
    model = model_of(tiny_backbone, unequal_classes)
    pixels = batch()[0].float()
    one, two, four = (kept_bytes(lambda n=n: model.image_features(pixels[:, :, :n])) for n in (1, 2, 4))  # type: ignore[misc]
    assert four - two == 2 * (two - one) > 0
    with torch.no_grad():
        assert kept_bytes(lambda: model.image_features(pixels)) == 0


def test_the_plan_takes_what_fits(
    tiny_backbone: Backbone, unequal_classes: tuple[tuple[str, ...], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(tiny_backbone, unequal_classes)
    pixels = batch()[0].float()
    texts, image = (
        kept_bytes(model.class_features),
        kept_bytes(lambda: model.image_features(pixels[:, :, :1])),
    )
    usable = 1 - memory.RESERVE
    for images in (0, 1, 3, 5):
        room = (texts + (images + 0.5) * image) / usable
        monkeypatch.setattr(memory, "_free", lambda *_, room=room: room)
        assert images_at_a_time(model, pixels) == images
    monkeypatch.setattr(memory, "_free", lambda *_: float("inf"))
    assert images_at_a_time(model, pixels) == BATCH


def test_a_limit_below_one_image_asks_for_checkpoints(
    tiny_backbone: Backbone, unequal_classes: tuple[tuple[str, ...], ...]
) -> None:
    model = model_of(tiny_backbone, unequal_classes)
    model.execution = Execution(max_memory_gb=0.001)  # the process itself is larger
    step = step_of(model)
    pixels, labels = batch()
    step.take(pixels.float(), labels)
    assert step.images == 1
    assert model.execution == Execution(max_memory_gb=0.001, checkpoint=True)
    with pytest.raises(ConfigurationError, match="max_memory_gb"):
        Execution(max_memory_gb=0)


def test_a_probe_in_parts_measures_the_same(
    tiny_backbone_fp64: Backbone, pattern_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"mug": 6, "fan": 6}
    dataset = pattern_dataset({"art": ("warm", few), "photo": ("cold", few), "map": ("cold", few)})
    cell = Cell(
        kind="probe",
        configuration=Configuration(
            method="mmap",
            settings=MmapSettings(prompt_length=4, source_rows=4, source_cols=8, modules="group"),
            recipe=Recipe(epochs=2, batch_size=4, lr=0.05, loss_reduction="mean"),
            partition=((0, 1, 2),),
        ),
        split=Split(shots=2),
        seeds=Seeds.both(1),
        precision="fp64",
        dataset="0" * 32,
        backbone="b",
        snapshot_every=1,
    )
    cells = [cell, replace(cell, seeds=Seeds.both(2))]
    stacks = []
    for images in (4, 1):
        monkeypatch.setattr(TrainingStep, "_plan", lambda *_, images=images: images)
        run = FusedRun(cells, tiny_backbone_fp64, dataset, execution=DEFAULT_EXECUTION)
        list(run.epochs())
        assert run._probe is not None
        stacks.append(run._probe.state())
    assert stacks[0].keys() == stacks[1].keys() and len(stacks[0]["gram.steps"]) > 0
    for name, expected in stacks[0].items():
        torch.testing.assert_close(stacks[1][name], expected, rtol=1e-9, atol=1e-15)
