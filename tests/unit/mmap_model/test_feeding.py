"""A GPU's way and a CPU's way of feeding give the same pixels, step by step."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from mmap_model.configuration import Recipe, Split
from mmap_model.data import DatasetSpec, open_dataset
from mmap_model.data.ahead import ahead
from mmap_model.data.draws import draw
from mmap_model.errors import DatasetError
from mmap_model.preprocessing import Resize
from mmap_model.training.batches import TrainingBatches
from mmap_model.training.feeding import CropFeed, PackedFeed


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for domain, side in (("art", 40), ("real", 150)):
        for name in ("fan", "mug", "tv"):
            for n in range(6):
                path = root / domain / name / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                coarse = Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8))
                coarse.resize((side + n, side), Image.Resampling.BICUBIC).save(path)
    return open_dataset(DatasetSpec(name="folder", root=str(root)), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def batches(dataset, tiny_backbone):
    draws = [
        [
            draw(
                dataset.labels(t.name),
                dataset="folder",
                task=t.name,
                classes=t.classes,
                split=Split(shots=3),
                draw_seed=seed,
            )
            for t in dataset.tasks
        ]
        for seed in (1, 2)
    ]
    return TrainingBatches(dataset, draws, (1, 2), Recipe(batch_size=4), tiny_backbone)


def test_both_ways_give_the_same_pixels(dataset, batches, tiny_backbone):
    assert isinstance(batches._feed, CropFeed)
    wanted = [[np.arange(9), np.arange(4, 9)]]
    pixels = dataset.training_pixels(wanted[0], tiny_backbone.image_size)
    crops = CropFeed(pixels, dataset.augmentation, tiny_backbone)
    device = PackedFeed(pixels, dataset.augmentation, tiny_backbone)
    kept = [image.shape[:2] for image in pixels.images(crops.rows(1, np.array([4, 8])))]
    assert max(map(max, kept)) < 150, "these images are kept smaller than they are"
    rng = np.random.default_rng(0)
    rows, noise = [], []
    for _ in range(3):
        rows.append(np.concatenate([crops.rows(0, np.array([8, 0, 3])), crops.rows(1, np.array([4, 8]))]))
        noise.append(rng.random((5, dataset.augmentation.noise)))
    assert np.array_equal(
        rows[0], np.concatenate([device.rows(0, np.array([8, 0, 3])), device.rows(1, np.array([4, 8]))])
    )
    count = 0
    for ours, theirs in zip(crops.stream(rows, noise), device.stream(rows, noise), strict=True):
        assert ours.dtype == torch.uint8 and ours.shape == theirs.shape
        apart = (ours - theirs).abs()
        assert apart.max() <= 2 and (apart > 0).float().mean() < 0.02, "8-bit weights are rounded"
        count += 1
    assert count == 3


def test_an_epoch_does_not_depend_on_how_far_ahead_it_is_prepared(batches, monkeypatch):
    first = [(pixels.clone(), labels) for pixels, labels in batches.epoch(1)]
    monkeypatch.setattr("mmap_model.training.feeding.ahead", lambda work, items, **depth: map(work, items))
    again = list(batches.epoch(1))
    assert len(first) == len(again) == batches.steps
    for (pixels, labels), (same, its) in zip(first, again, strict=True):
        assert torch.equal(pixels, same) and torch.equal(labels, its)


def test_a_store_feeds_what_the_images_themselves_feed(dataset, batches, tiny_backbone, tmp_path):
    from mmap_model.data.prepared import plan_store, write_store
    from mmap_model.data.sourced import SourceDataset

    write_store(dataset.source, tmp_path / "s", plan_store(dataset.source, side=16, part_images=4))
    spec = DatasetSpec(name="folder", store=str(tmp_path / "s"))
    stored = open_dataset(spec, tmp_path / "cache")
    assert isinstance(stored, SourceDataset) and stored.manifest == dataset.manifest
    assert stored.ready(16) and not stored.ready(8) and not dataset.ready(16)
    wanted = [np.arange(9), np.arange(9)]
    rows = np.arange(18)
    ours, theirs = (d.training_pixels(wanted, 16) for d in (stored, dataset))
    assert all(map(np.array_equal, ours.images(rows), theirs.images(rows)))


@pytest.mark.parametrize("resize", [Resize(), Resize("squash"), Resize(interpolation="bilinear")], ids=str)
def test_evaluation_and_training_see_images_as_the_backbone_wants_them(dataset, tiny_backbone, resize):
    from mmap_model.backbone import Backbone
    from mmap_model.preprocessing import Preprocessing
    from mmap_model.training.evaluation import Evaluation

    backbone = Backbone(
        tiny_backbone.clip,
        tiny_backbone.architecture,
        tiny_backbone.config,
        preprocessing=Preprocessing(resize=resize),
    )
    own = [[np.arange(9), np.arange(4)]]
    evaluation = Evaluation(dataset, own, backbone)
    for t, task in enumerate(dataset.tasks):
        rows = evaluation._bank.rows(t, own[0][t])
        seen = evaluation._bank.take(rows)[0]
        assert torch.equal(seen, dataset.views(task.name, own[0][t], 16, resize))
    pixels = dataset.training_pixels([np.arange(9), np.arange(9)], 16)
    crops = CropFeed(pixels, dataset.augmentation, backbone)
    rows, noise = [crops.rows(0, np.arange(5))], [np.random.default_rng(0).random((5, 23))]
    (crop,) = crops.stream(rows, noise)
    boxes, mirrored = dataset.augmentation.crops(
        torch.from_numpy(noise[0]), torch.from_numpy(pixels.extents(rows[0]))
    )
    for n, image in enumerate(pixels.images(rows[0])):
        top, left, height, width = boxes[n].long().tolist()
        tensor = torch.from_numpy(image[top : top + height, left : left + width].copy()).permute(2, 0, 1)
        view = functional.resize(tensor, [16, 16], InterpolationMode(resize.interpolation), antialias=True)
        assert torch.equal(crop[n], view.flip(2) if mirrored[n] else view)


def test_a_dataset_that_makes_no_such_views_says_so(pattern_dataset):
    own = pattern_dataset({"art": ("warm", {"mug": 6})})
    assert torch.equal(own.views("art", np.arange(2), 16, Resize()), own.images("art", np.arange(2), 16))
    with pytest.raises(DatasetError, match="cannot resize images as the backbone wants them: squash"):
        own.views("art", np.arange(2), 16, Resize("squash"))


def test_what_fails_ahead_fails_at_its_step():
    def work(number):
        if number == 2:
            raise RuntimeError("decode")
        return number

    results = ahead(work, range(4), threads=2, reach=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="decode"):
        next(results)


def test_evaluation_through_a_store_keeps_no_image_and_changes_no_number(dataset, tiny_backbone, tmp_path):
    from mmap_model.data.prepared import plan_store, write_store
    from mmap_model.methods import Problem, get_method
    from mmap_model.training.evaluation import Evaluation
    from mmap_model.training.pixels import Normalisation

    side = tiny_backbone.image_size
    write_store(dataset.source, tmp_path / "s", plan_store(dataset.source, side=side, part_images=4))
    stored = open_dataset(DatasetSpec(name="folder", store=str(tmp_path / "s")), tmp_path / "cache")
    method = get_method("zero_shot")
    model = method.build(
        method.Settings(),
        tiny_backbone,
        Problem(
            classes=[task.classes for task in dataset.tasks],
            template="a photo of a {}.",
            partitions=[None],
            train_seeds=[1],
        ),
    )
    indices = [[np.arange(18), np.array([17, 2, 5])]]
    found = []
    for each in (dataset, stored):
        evaluation = Evaluation(each, indices, tiny_backbone)
        assert evaluation._bank.in_memory == (each is dataset)
        found.append(evaluation.run(model, Normalisation(tiny_backbone))[0])
    for direct, through in zip(*found, strict=True):
        for name in ("labels", "classes", "probabilities", "nll"):
            assert np.array_equal(getattr(direct, name), getattr(through, name))
