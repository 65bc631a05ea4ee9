"""A profile says what a step costs and leaves nothing changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.execution import Execution
from mmap_model.methods import get_method
from mmap_model.training.profile import Profile, matmul_rate, profile_cells

SETTINGS: dict[str, dict[str, Any]] = {
    "mmap": {"prompt_length": 4, "source_rows": 2, "source_cols": 8},
    "clip_adapter": {},
    "bitfit": {},
    "zs_lp": {},
    "clap": {},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_profile_of_any_method(name: str, tiny_backbone: Backbone, pattern_dataset: Any) -> None:
    few = {"mug": 9, "fan": 9}
    dataset = pattern_dataset({"art": ("warm", few), "photo": ("cold", few)})
    method = get_method(name)
    cells = [
        Cell(
            configuration=Configuration(
                method=name,
                settings=method.Settings(**SETTINGS[name]),
                recipe=Recipe(epochs=3, batch_size=2, warmup_epochs=0, views=2 if name == "zs_lp" else None),
                partition=((0,), (1,)) if method.grouped else None,
            ),
            split=Split(shots=3),
            seeds=Seeds.both(seed),
            dataset="0" * 32,
            backbone="b",
        )
        for seed in range(1 + method.fuses)
    ]
    last = Execution(evaluate="last")
    found = profile_cells(cells, tiny_backbone, dataset, repeats=1, execution=last)
    assert found.scored_epochs == 1
    assert (found.cells, found.steps, found.epochs, found.images_at_a_time) == (len(cells), 3, 3, 2)
    assert found.parts.keys() == {"text", "image", "prompts", "optimiser", "data"}
    assert all(seconds >= 0 for seconds in found.parts.values())
    assert 0 < found.multiply_adds < found.matmul_rate
    assert found.epoch_evaluation_seconds > 0 and found.peak_gb > 0
    if method.fits or name == "zs_lp":
        assert found.fit_seconds > 0.001, "the labelled images are embedded before the first step"
    assert all(p.grad is None for p in tiny_backbone.clip.parameters())


def test_the_cost_of_a_cell_is_its_share_of_steps_and_evaluations() -> None:
    found = Profile(
        cells=3,
        steps=10,
        epochs=5,
        step_seconds=0.5,
        parts={"data": 0.1},
        epoch_evaluation_seconds=3.0,
        multiply_adds=10**9,
        matmul_rate=4e9,
        images_at_a_time=16,
        peak_gb=1.0,
    )
    assert found.cell_seconds == pytest.approx(5 * (10 * 0.6 + 3.0) / 3)
    assert replace(found, fit_seconds=6.0).cell_seconds == pytest.approx(found.cell_seconds + 2.0)
    assert replace(found, scored_epochs=1).cell_seconds == pytest.approx((5 * 10 * 0.6 + 3.0) / 3)
    assert found.share_of_matmul == pytest.approx(0.5)


def test_the_machine_multiplies() -> None:
    assert matmul_rate(torch.device("cpu"), torch.float32, repeats=1) > 1e8
