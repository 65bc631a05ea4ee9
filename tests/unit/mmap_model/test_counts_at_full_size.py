"""Stated counts equal the tensors of the built model on ViT-B/16: four tasks of 65 classes at 6 shots.

uv run pytest tests/unit/mmap_model/test_counts_at_full_size.py -m slow -n0
"""

from __future__ import annotations

import pytest
from open_clip import CLIP

from mmap_model.architecture import model_config, parse_architecture
from mmap_model.backbone import Backbone
from mmap_model.methods import Problem, ProblemSize, get_method, method_names

CLASSES = [[f"thing {number}" for number in range(65)]] * 4
PARTITION = ((0, 1), (2, 3))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    config = model_config("ViT-B-16-quickgelu")
    return Backbone(CLIP(**config), parse_architecture("ViT-B-16-quickgelu", config), config)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in method_names() if name != "full_ft"])
def test_a_built_model_has_as_many_numbers_as_stated(name: str, backbone: Backbone) -> None:
    method, size = get_method(name), ProblemSize.equal(tasks=4, groups=2, classes=65, shots=6)
    for budget in method.budgets:
        settings = method.Settings(**budget.settings)
        problem = Problem(
            classes=CLASSES,
            template="a photo of a {}.",
            partitions=[PARTITION if method.needs_partition(settings) else None],
            train_seeds=[1],
            images=[390] * 4,
        )
        model = method.build(settings, backbone, problem)
        state, fitted = model.replicate_state(0), model.fitted()
        counted = sum(tensor.numel() for key, tensor in state.items() if key not in fitted)
        assert counted == method.parameters(settings, backbone.architecture, size), budget.regime
