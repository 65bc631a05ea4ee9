"""Test images are scored in what memory there is, and a model that gives no numbers gets none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.data.bank import ImageBank
from mmap_model.methods import get_method
from mmap_model.methods.mmap.module import MmapModel
from mmap_model.training import FusedRun, score_test
from mmap_model.training.evaluation import Evaluation

IMAGES = {"art": ("warm", {"mug": 12, "fan": 12}), "photo": ("cold", {"tv": 12, "cap": 12})}
RAN_OUT = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


def cell_of(seed: int = 1, **changes: Any) -> Cell:
    settings = get_method("mmap").Settings(prompt_length=2, source_rows=1, source_cols=8)
    recipe = Recipe(epochs=1, batch_size=4, warmup_epochs=0, lr=0.02)
    configuration = Configuration(method="mmap", settings=settings, recipe=recipe, partition=((0, 1),))
    fields: dict[str, Any] = {
        "configuration": configuration,
        "split": Split(shots=3),
        "seeds": Seeds.both(seed),
        "precision": "fp64",
        "dataset": "0" * 32,
        "backbone": "b",
    }
    return Cell(**(fields | changes))


def trained(cells: list[Cell], backbone: Backbone, dataset: Any) -> dict[str, dict[str, bytes]]:
    run = FusedRun(cells, backbone, dataset)
    list(run.epochs())
    return {key: result.files for key, result in run.finish().items()}


@pytest.mark.parametrize("error", RAN_OUT, ids=lambda error: type(error).__name__)
def test_memory_that_runs_out_on_test_images_halves_the_batch_and_goes_on(
    tiny_backbone_fp64: Backbone, pattern_dataset: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    dataset, cell = pattern_dataset(IMAGES), cell_of()
    files = trained([cell], tiny_backbone_fp64, dataset)
    whole = score_test([cell], files, tiny_backbone_fp64, dataset)[cell.key]
    encode, asked = MmapModel.image_features, []

    def full(model: MmapModel, pixels: torch.Tensor) -> torch.Tensor:
        asked.append(pixels.shape[2])
        if pixels.shape[2] > 4:
            raise error
        return encode(model, pixels)

    monkeypatch.setattr(MmapModel, "image_features", full)
    halved = score_test([cell], files, tiny_backbone_fp64, dataset)[cell.key]
    assert asked[:3] == [12, 6, 3]
    for name in ("accuracy", "nll", "ece", "macro_f1"):
        assert halved["metrics"][name] == pytest.approx(whole["metrics"][name], rel=1e-12)


def test_images_that_memory_does_not_keep_are_read_when_asked_for(
    tiny_backbone_fp64: Backbone, pattern_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, cell = pattern_dataset(IMAGES), cell_of()
    files = trained([cell], tiny_backbone_fp64, dataset)
    whole = score_test([cell], files, tiny_backbone_fp64, dataset)[cell.key]

    def full(self: ImageBank) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ImageBank, "_read_all", full)
    read = score_test([cell], files, tiny_backbone_fp64, dataset)[cell.key]
    assert read["metrics"] == whole["metrics"]


def test_a_cell_whose_logits_on_test_images_are_not_finite_gets_no_score_and_others_do(
    tiny_backbone: Backbone, pattern_dataset: Any
) -> None:
    """Under the paper's protocol nobody has looked at its logits on other images than those it trained on."""
    dataset = pattern_dataset(IMAGES)
    cells = [cell_of(seed, protocol="paper", precision="fp32") for seed in (1, 2)]
    run = FusedRun(cells, tiny_backbone, dataset)
    list(run.epochs())
    with torch.no_grad():
        for parameter in run._model.parameters():
            parameter[0] *= 1e20
    files = {key: result.files for key, result in run.finish().items()}
    broken, sound = (score_test(cells, files, tiny_backbone, dataset)[cell.key] for cell in cells)
    assert set(broken) == {"error"}
    assert "of 'art' are not finite" in broken["error"] and cells[0].key[:12] in broken["error"]
    assert 0 <= sound["metrics"]["accuracy"] <= 1 and sound["metrics"]["nll"] > 0


def test_equal_models_are_computed_once_on_equal_images(
    tiny_backbone_fp64: Backbone, pattern_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = pattern_dataset(IMAGES)
    zero_shot = Configuration(
        method="zero_shot", settings=get_method("zero_shot").Settings(), recipe=cell_of().configuration.recipe
    )
    same = [cell_of(seed, configuration=zero_shot) for seed in (1, 2, 3)]
    others = [cell_of(seed) for seed in (1, 2)]
    files = {**trained(same, tiny_backbone_fp64, dataset), **trained(others, tiny_backbone_fp64, dataset)}
    alone = {cell.key: score_test([cell], files, tiny_backbone_fp64, dataset)[cell.key] for cell in same}
    run, runs = Evaluation.run, []

    def counted(evaluation: Evaluation, *given: Any) -> Any:
        runs.append(evaluation)
        return run(evaluation, *given)

    monkeypatch.setattr(Evaluation, "run", counted)
    scores = score_test([*same, *others], files, tiny_backbone_fp64, dataset)
    assert len(runs) == 3, "zero-shot CLIP once, and each trained cell"
    assert {cell.key: scores[cell.key] for cell in same} == alone
    first, second = (scores[cell.key]["files"] for cell in others)
    assert first != second
