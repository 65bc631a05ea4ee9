"""What is deployed computes what was trained, of every method, for batches that mix tasks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.inference.tower import DeployedClassifier
from mmap_model.inference.trained import Trained

TASK = torch.tensor([2, 0, 1, 1, 2, 0, 0])


def expected(trained: Trained, pixels: Tensor) -> Tensor:
    """Logits [T, B, C] by the model that was trained."""
    with torch.no_grad():
        return trained.model.logits(pixels.expand(1, trained.model.tasks, *pixels.shape))[0]


def images(count: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 16, 16, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_deployed_logits_are_those_of_the_trained_model(
    method_case: str,
    dtype: torch.dtype,
    limit: float,
    trained_case: Callable[..., Trained],
    tiny_backbone: Backbone,
    tiny_backbone_fp64: Backbone,
) -> None:
    trained = trained_case(method_case, tiny_backbone if dtype == torch.float32 else tiny_backbone_fp64)
    pixels = images(len(TASK), dtype)
    wanted = expected(trained, pixels)[TASK, torch.arange(len(TASK))]
    with torch.no_grad():
        found = trained.deployed(pixels, TASK)
    assert found.dtype == dtype
    assert torch.equal(found.isfinite(), wanted.isfinite())
    scale = trained.deployed.head.scale[TASK][:, None]
    apart = ((found - wanted) / scale)[wanted.isfinite()].abs().max()
    assert apart <= limit, f"cosines are {apart:.1e} apart"
    assert found[found.isfinite()].std() > 0.01, "the logits differ enough to tell anything"


def test_some_tasks_alone_have_the_same_logits_in_the_order_asked_for(
    method_case: str, trained_case: Callable[..., Trained], tiny_backbone_fp64: Backbone
) -> None:
    whole = trained_case(method_case, tiny_backbone_fp64)
    some = trained_case(method_case, tiny_backbone_fp64, ["map", "photo"])
    assert some.tasks == (2, 1)
    pixels, task = images(3, torch.float64), torch.tensor([0, 1, 0])
    with torch.no_grad():
        found = some.deployed(pixels, task)
    wanted = expected(whole, pixels)[2 - task, torch.arange(3)]
    assert found.shape == (3, 3), "as wide as the longest list among these tasks"
    torch.testing.assert_close(found, wanted[:, :3], rtol=0, atol=1e-10)


def test_an_image_of_its_task_does_not_depend_on_the_batch(
    method_case: str, trained_case: Callable[..., Trained], tiny_backbone_fp64: Backbone
) -> None:
    deployed, pixels = trained_case(method_case, tiny_backbone_fp64).deployed, images(7, torch.float64)
    with torch.no_grad():
        together = deployed(pixels, TASK)
        alone = torch.cat([deployed(pixels[i : i + 1], TASK[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


def test_nothing_that_is_deployed_asks_for_a_gradient(
    method_case: str, trained_case: Callable[..., Trained], tiny_backbone: Backbone
) -> None:
    trained = trained_case(method_case, tiny_backbone)
    held = [*trained.deployed.parameters(), *trained.deployed.buffers()]
    assert held and not any(tensor.requires_grad for tensor in held)
    assert all(p.requires_grad for p in trained.model.parameters()), "the model itself stays as it was"
    vocabulary = tiny_backbone.clip.token_embedding.weight.shape
    assert all(tensor.shape != vocabulary for tensor in held), "no text tower"


def test_keys_and_values_are_computed_once(
    trained_case: Callable[..., Trained], tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed: DeployedClassifier = trained_case("mmap", tiny_backbone).deployed
    monkeypatch.setattr(
        "mmap_model.forward.deployed.keys_of_prompt",
        lambda *given: pytest.fail("a prompt was projected again"),
    )
    assert deployed(images(2, torch.float32), torch.tensor([0, 1])).shape == (2, 5)
