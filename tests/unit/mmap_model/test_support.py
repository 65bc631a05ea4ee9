"""What is computed of the labelled images before training: once, charged, kept in the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.data import Dataset
from mmap_model.methods import get_method
from mmap_model.methods.cache import CacheModel
from mmap_model.methods.rows import RowsModel
from mmap_model.training import FusedRun, fusable

RECIPE = Recipe(epochs=3, batch_size=4, lr=0.1, views=3)


@pytest.fixture(scope="module")
def dataset(pattern_dataset: Callable[..., Dataset]) -> Dataset:
    few = {"fan": 6, "tv": 6}
    return pattern_dataset({"art": ("warm", {"mug": 6, **few}), "map": ("cold", few)})


def cells(
    method: str, recipe: Recipe = RECIPE, seeds: tuple[int, ...] = (1, 2), **settings: Any
) -> list[Cell]:
    chosen = get_method(method).Settings(**settings)
    return [
        Cell(
            configuration=Configuration(method=method, settings=chosen, recipe=recipe),
            split=Split(shots=2),
            seeds=Seeds.both(seed),
            precision="fp64",
            dataset="0" * 32,
            backbone="b",
        )
        for seed in seeds
    ]


def losses(run: FusedRun) -> list[float]:
    return [cell["train_loss"] for report in run.epochs() for cell in report.cells.values()]


@pytest.mark.parametrize("method", ["zs_lp", "tip_adapter_f"])
def test_kept_embeddings_train_as_the_pixels_of_the_same_views(
    tiny_backbone_fp64: Backbone, dataset: Dataset, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = losses(FusedRun(cells(method), tiny_backbone_fp64, dataset))
    monkeypatch.setattr("mmap_model.training.run.FusedRun._keeps_views", False)
    by_pixels = losses(FusedRun(cells(method), tiny_backbone_fp64, dataset))
    assert len(kept) == 6 and len(set(kept)) == 6
    assert kept == pytest.approx(by_pixels, rel=1e-10)


def test_the_tower_runs_once_for_each_view_and_image(
    tiny_backbone_fp64: Backbone, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    embed = RowsModel.image_embeddings
    monkeypatch.setattr(
        RowsModel,
        "image_embeddings",
        lambda self, pixels: seen.append(pixels[..., 0, 0, 0].numel()) or embed(self, pixels),
    )
    run = FusedRun(cells("zs_lp"), tiny_backbone_fp64, dataset)
    monkeypatch.setattr(run, "_evaluate", lambda should_stop: None)
    losses(run)
    assert sum(seen) == 2 * 3 * (3 * 2 + 2 * 2), "replicates, views, images of both tasks"


def test_a_resumed_run_computes_nothing_of_the_labelled_images_again(
    tiny_backbone_fp64: Backbone, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FusedRun(cells("tip_adapter_f", views=2), tiny_backbone_fp64, dataset)
    next(first.epochs())
    state = first.state()
    monkeypatch.setattr(CacheModel, "fit", lambda self, support: pytest.fail("fitted again"))
    resumed = FusedRun(cells("tip_adapter_f", views=2), tiny_backbone_fp64, dataset)
    resumed.restore(state)
    assert len(list(resumed.epochs())) == 2


def test_what_a_cell_computes_does_not_depend_on_the_cells_beside_it(
    tiny_backbone_fp64: Backbone, dataset: Dataset
) -> None:
    both = FusedRun(cells("tip_adapter", views=2), tiny_backbone_fp64, dataset)
    list(both.epochs())
    together = both.finish()
    for own in cells("tip_adapter", views=2):
        alone = FusedRun([own], tiny_backbone_fp64, dataset)
        list(alone.epochs())
        kept = "prompts.safetensors"
        assert alone.finish()[own.key].files[kept] == together[own.key].files[kept]


def test_the_time_of_fitting_is_charged_to_training(tiny_backbone_fp64: Backbone, dataset: Dataset) -> None:
    run = FusedRun(cells("tip_adapter", seeds=(1,), views=2), tiny_backbone_fp64, dataset)
    list(run.epochs())
    (result,) = run.finish().values()
    assert result.seconds["train"] > 0 and result.parameters == 0


def test_without_augmentation_there_is_one_view(tiny_backbone_fp64: Backbone, dataset: Dataset) -> None:
    plain = Recipe(epochs=1, batch_size=4, augment=False, warmup_epochs=0)
    run = FusedRun(cells("tip_adapter", plain, seeds=(1,), views=5), tiny_backbone_fp64, dataset)
    list(run.epochs())
    one = FusedRun(cells("tip_adapter", plain, seeds=(1,), views=1), tiny_backbone_fp64, dataset)
    list(one.epochs())
    model, other = run._model, one._model
    assert torch.equal(model.fitted()["keys"], other.fitted()["keys"])


def test_seeds_with_other_numbers_of_images_do_not_share_a_batch_where_each_has_a_row(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(dataset), "fixed", lambda *given: object())
    drawn = {1: [6, 4], 2: [6, 3]}
    monkeypatch.setattr(
        "mmap_model.training.fusion.draw_tasks",
        lambda cell, data: [type("Draw", (), {"train": range(n)}) for n in drawn[cell.seeds.train]],
    )
    assert [len(group) for group in fusable(cells("zs_lp"), dataset)] == [2]
    assert [len(group) for group in fusable(cells("tip_adapter"), dataset)] == [1, 1]
