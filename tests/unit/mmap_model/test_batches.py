"""Which images a step trains on: epochs, passes and keys of the random streams."""

import numpy as np
import pytest
import torch

from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.data.bank import ImageBank
from mmap_model.data.draws import draw
from mmap_model.training.batches import TrainingBatches


@pytest.fixture(scope="module")
def dataset(pattern_dataset):
    classes = {"mug": 12, "fan": 12, "desk lamp": 12, "sea turtle": 12, "tv": 12}
    return pattern_dataset({"art": ("warm", classes), "sketch": ("cold", {"fan": 12, "tv": 12})})


def draws_of(dataset, seed, shots=3):
    return [
        draw(
            dataset.labels(t.name),
            dataset="pattern",
            task=t.name,
            classes=t.classes,
            split=Split(shots=shots),
            draw_seed=seed,
        )
        for t in dataset.tasks
    ]


def batches(dataset, backbone, seeds, recipe, shots=3):
    draws = [draws_of(dataset, s.draw, shots) for s in seeds]
    return TrainingBatches(dataset, draws, [s.train for s in seeds], recipe, backbone), draws


def epoch_of(dataset, backbone, seeds, recipe, epoch=1):
    made, draws = batches(dataset, backbone, seeds, recipe)
    pixels, labels = zip(*made.epoch(epoch), strict=True)
    return torch.stack(list(pixels)), torch.stack(list(labels)), draws


PLAIN = Recipe(batch_size=4, augment=False)


def test_an_epoch_is_as_long_as_the_largest_task(dataset, tiny_backbone):
    pixels, labels, _ = epoch_of(dataset, tiny_backbone, [Seeds.both(1)], PLAIN)
    assert pixels.shape == (15 // 4, 1, 2, 4, 3, 16, 16) and labels.shape == (3, 1, 2, 4)


def test_a_batch_larger_than_the_data_becomes_one_step(dataset, tiny_backbone):
    made, _ = batches(dataset, tiny_backbone, [Seeds.both(1)], Recipe(batch_size=100))
    assert (made.steps, made.batch_size) == (1, 15)


def test_large_tasks_never_repeat_and_small_ones_cycle_evenly(dataset, tiny_backbone):
    pixels, _, _ = epoch_of(dataset, tiny_backbone, [Seeds.both(1)], PLAIN)
    large, small = ([p.numpy().tobytes() for p in pixels[:, 0, task].flatten(0, 1)] for task in range(2))
    assert len(set(large)) == len(large) == 12
    assert len(set(small)) == 6 and {small.count(p) for p in set(small)} == {2}


def test_a_last_batch_is_filled_from_the_next_pass(dataset, tiny_backbone):
    recipe = Recipe(batch_size=4, augment=False, last_batch="fill")
    pixels, _, _ = epoch_of(dataset, tiny_backbone, [Seeds.both(1)], recipe)
    large = [p.numpy().tobytes() for p in pixels[:, 0, 0].flatten(0, 1)]
    assert pixels.shape[0] == 4 and len(set(large[:15])) == 15 and large[15] in large[:15]
    dropped, _, _ = epoch_of(dataset, tiny_backbone, [Seeds.both(1)], PLAIN)
    assert torch.equal(pixels[:3], dropped), "what comes before is the same"
    assert Recipe(batch_size=4, last_batch="fill").epoch_of(16) == (4, 4)
    assert Recipe(batch_size=100, last_batch="fill").epoch_of(15) == (1, 15)
    assert Recipe(epochs=2, batch_size=4, steps=10, last_batch="fill").epoch_of(15) == (5, 4)


def test_labels_belong_to_their_images(dataset, tiny_backbone):
    pixels, labels, draws = epoch_of(dataset, tiny_backbone, [Seeds.both(1)], PLAIN)
    for t, task in enumerate(dataset.tasks):
        train = draws[0][t].train
        known = {
            p.numpy().tobytes(): label
            for p, label in zip(
                dataset.images(task.name, train).float(), dataset.labels(task.name)[train], strict=True
            )
        }
        for p, label in zip(pixels[:, 0, t].flatten(0, 1), labels[:, 0, t].flatten(), strict=True):
            assert known[p.numpy().tobytes()] == label


@pytest.mark.parametrize("augment", [False, True])
def test_a_replicate_sees_the_same_alone_and_fused(dataset, tiny_backbone_fp64, augment):
    recipe = Recipe(batch_size=4, augment=augment)
    seeds = [Seeds.both(1), Seeds(draw=1, train=2), Seeds.both(3)]
    fused, fused_labels, _ = epoch_of(dataset, tiny_backbone_fp64, seeds, recipe, epoch=2)
    for r, seed in enumerate(seeds):
        alone, labels, _ = epoch_of(dataset, tiny_backbone_fp64, [seed], recipe, epoch=2)
        assert torch.allclose(alone[:, 0], fused[:, r], rtol=0, atol=1e-10)
        assert torch.equal(labels[:, 0], fused_labels[:, r])


def test_order_depends_on_epoch_and_train_seed_only(dataset, tiny_backbone):
    first = epoch_of(dataset, tiny_backbone, [Seeds(draw=1, train=1)], PLAIN, 1)[0]
    assert torch.equal(first, epoch_of(dataset, tiny_backbone, [Seeds(draw=1, train=1)], PLAIN, 1)[0])
    for seeds, epoch in [(Seeds(draw=1, train=1), 2), (Seeds(draw=1, train=2), 1), (Seeds.both(2), 1)]:
        assert not torch.equal(first, epoch_of(dataset, tiny_backbone, [seeds], PLAIN, epoch)[0])


def test_augmentation_of_an_image_differs_between_epochs_and_passes(dataset, tiny_backbone):
    recipe = Recipe(batch_size=4)
    images = epoch_of(dataset, tiny_backbone, [Seeds.both(1)], recipe)[0][:, 0, 1].flatten(0, 1)
    assert len({p.numpy().tobytes() for p in images}) == len(images)


def test_images_read_ahead_from_files_are_the_same(dataset, tiny_backbone, monkeypatch):
    recipe = Recipe(batch_size=4)
    kept = epoch_of(dataset, tiny_backbone, [Seeds.both(1), Seeds.both(2)], recipe)[0]
    initialise = ImageBank.__init__
    monkeypatch.setattr(ImageBank, "__init__", lambda *a, **k: initialise(*a, **k, limit=0))
    read = epoch_of(dataset, tiny_backbone, [Seeds.both(1), Seeds.both(2)], recipe)[0]
    assert torch.equal(kept, read)


def test_augmented_pixels_stay_in_range(dataset, tiny_backbone):
    pixels = epoch_of(dataset, tiny_backbone, [Seeds.both(1)], Recipe(batch_size=4))[0]
    assert pixels.min() >= 0 and pixels.max() <= 255 and np.isfinite(pixels.numpy()).all()
