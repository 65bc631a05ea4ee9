"""What evaluation keeps between epochs changes no bit of any number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmap_model.backbone import Backbone
from mmap_model.methods import Problem, get_method
from mmap_model.methods.model import TunedModel
from mmap_model.training import evaluation
from mmap_model.training.evaluation import Evaluation
from mmap_model.training.pixels import Normalisation

CONSTANT = ("clip_adapter", "coop", "zero_shot")
IMAGES = {"art": ("warm", {"mug": 9, "fan": 4}), "photo": ("cold", {"mug": 3, "fan": 4})}
BATCH = 8
"""Two images of each of two tasks and two replicates."""


@pytest.fixture
def scored(tiny_backbone: Backbone, pattern_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Predictions of two epochs of a method and the images that its tower saw in each."""
    monkeypatch.setattr(evaluation, "IMAGES_PER_BATCH", BATCH)
    dataset = pattern_dataset(IMAGES)
    indices = [[np.arange(12), np.arange(7)], [np.arange(1, 13), np.arange(5)]]

    def score(name: str, limit: int, *, in_memory: bool = True) -> tuple[list[Any], list[int]]:
        monkeypatch.setattr(evaluation, "KEPT_BYTES", limit)
        model = built(name, tiny_backbone)
        scoring = Evaluation(dataset, indices, tiny_backbone)
        if not in_memory:
            monkeypatch.setattr(scoring._bank, "_kept", None)
        predictions, seen = [], []
        normalise = Normalisation(tiny_backbone)
        for shift in (0.0, 0.1):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(shift)
            encoded: list[int] = []

            def prepare(pixels: torch.Tensor, encoded: list[int] = encoded) -> torch.Tensor:
                encoded.append(pixels.shape[:3].numel())
                return normalise(pixels)

            predictions.append(scoring.run(model, prepare))
            seen.append(sum(encoded))
        return predictions, seen

    return score


def built(name: str, backbone: Backbone) -> TunedModel:
    method = get_method(name)
    return method.build(
        method.Settings(),
        backbone,
        Problem(
            classes=[["mug", "fan"]] * 2,
            template="a photo of a {}.",
            partitions=[None, None],
            train_seeds=[1, 2],
        ),
    )


def assert_identical(ours: list[Any], theirs: list[Any]) -> None:
    for epoch, expected in zip(ours, theirs, strict=True):
        for replicate, wanted in zip(epoch, expected, strict=True):
            for found, other in zip(replicate, wanted, strict=True):
                for name in ("labels", "classes", "probabilities", "nll"):
                    assert np.array_equal(getattr(found, name), getattr(other, name))


@pytest.mark.parametrize("name", CONSTANT)
def test_kept_embeddings_give_the_same_bits_as_embedding_every_epoch(
    scored: Any, tiny_backbone: Backbone, name: str
) -> None:
    whole = 2 * 2 * 12
    uncached, seen = scored(name, 0)
    assert seen == [whole, whole]
    two_batches = 2 * BATCH * 4 * tiny_backbone.architecture.embed_dim
    for limit, second in ((1 << 30, 0), (two_batches, whole - 2 * BATCH), (two_batches - 1, whole - BATCH)):
        cached, seen = scored(name, limit)
        assert seen == [whole, second]
        assert_identical(cached, uncached)


def test_images_beyond_memory_are_read_once_too(scored: Any) -> None:
    cached, seen = scored("coop", 1 << 30, in_memory=False)
    assert seen == [48, 0]
    assert_identical(cached, scored("coop", 0)[0])


def test_features_that_training_changes_are_computed_every_epoch(scored: Any) -> None:
    (first, second), seen = scored("vpt", 1 << 30)
    assert seen == [48, 48]
    assert not np.array_equal(first[0][0].nll, second[0][0].nll)


def test_another_model_does_not_get_the_embeddings_of_the_first(
    tiny_backbone: Backbone, pattern_dataset: Any
) -> None:
    scoring = Evaluation(pattern_dataset(IMAGES), [[np.arange(12), np.arange(7)]] * 2, tiny_backbone)
    normalise = Normalisation(tiny_backbone)
    for name in CONSTANT:
        seen: list[int] = []
        model = built(name, tiny_backbone)
        scoring.run(model, lambda pixels, seen=seen: seen.append(1) or normalise(pixels))  # type: ignore[misc]
        assert seen, name


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_embeddings_lead_to_the_features(tiny_backbone: Backbone, name: str) -> None:
    model = built(name, tiny_backbone)
    assert model.constant_images
    pixels = torch.randn(2, 2, 3, 3, 16, 16)
    embeddings = model.image_embeddings(pixels)
    assert not embeddings.requires_grad
    assert torch.equal(model.finish_images(embeddings), model.image_features(pixels))
