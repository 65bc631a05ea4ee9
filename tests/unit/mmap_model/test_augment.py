"""Crops follow their distribution; resizing equals Pillow's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmap_model.data.augment import Augmentation, crop_resize, crop_resize_each, resize


def noise_of(count, augmentation, seed=0):
    return torch.rand(count, augmentation.noise, generator=torch.Generator().manual_seed(seed))


def cropped(image, box, size, mirrored=False):
    """One image [H, W, 3], cropped and resized."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    side = max(image.shape[:2])
    canvas = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    canvas[:, :, : image.shape[0], : image.shape[1]] = pixels
    extents = torch.tensor([image.shape[:2]])
    boxes = torch.tensor([box], dtype=torch.float64)
    out = crop_resize(canvas, extents, boxes, torch.tensor([mirrored]), size, torch.float64)
    return out[0].permute(1, 2, 0).numpy()


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 40), st.integers(8, 40), st.integers(4, 24), st.integers(0, 99))
def test_resizing_equals_pillows_bicubic(height, width, size, seed):
    # No extremes: Pillow also clips to [0, 255] between its two passes.
    image = np.random.default_rng(seed).integers(80, 176, (height, width, 3), np.uint8)
    theirs = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC), np.float64)
    ours = cropped(image, (0.0, 0.0, height, width), size)
    assert np.abs(ours - theirs).max() <= 1.6, "Pillow rounds to whole numbers between its two passes"


def test_cropping_equals_pillows_box():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    box = (5.5, 8.25, 20.0, 24.0)
    theirs = Image.fromarray(image).resize(
        (16, 16), Image.Resampling.BICUBIC, box=(box[1], box[0], box[1] + box[3], box[0] + box[2])
    )
    assert np.abs(cropped(image, box, 16) - np.asarray(theirs, np.float64)).max() <= 1.6


def test_a_full_box_of_the_same_size_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert np.array_equal(cropped(image, (0.0, 0.0, 16.0, 16.0), 16), image)
    assert np.array_equal(cropped(image, (0.0, 0.0, 16.0, 16.0), 16, mirrored=True), image[:, ::-1])


def test_padding_is_never_seen():
    image = np.full((10, 30, 3), 200, np.uint8)
    assert np.allclose(cropped(image, (0.0, 0.0, 10.0, 30.0), 12), 200)


def test_chunks_do_not_change_the_result(monkeypatch):
    pixels = torch.randint(0, 256, (7, 3, 12, 12), dtype=torch.uint8)
    whole = resize(pixels, 9)
    monkeypatch.setattr("mmap_model.data.augment._CHUNK", 3 * 12 * 12 * 2)
    assert torch.equal(resize(pixels, 9), whole)


def test_crop_areas_and_ratios_stay_in_range():
    augmentation = Augmentation(scale=(0.2, 0.9), ratio=(0.5, 2.0))
    boxes, mirrored = augmentation.crops(
        noise_of(4000, augmentation), torch.tensor([[30, 40]]).expand(4000, 2)
    )
    area, ratio = boxes[:, 2] * boxes[:, 3] / 1200, boxes[:, 3] / boxes[:, 2]
    assert area.min() >= 0.199 and area.max() <= 0.901
    assert ratio.min() >= 0.499 and ratio.max() <= 2.001
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.05)
    centre = boxes[:, 0] + boxes[:, 2] / 2
    assert centre.mean() == pytest.approx(15, abs=0.5)


def test_elongated_images_get_the_largest_central_crop():
    augmentation = Augmentation(scale=(0.9, 1.0))
    boxes, _ = augmentation.crops(noise_of(5, augmentation), torch.tensor([[10, 100]]).expand(5, 2))
    assert torch.allclose(boxes, torch.tensor([0.0, 50 - 20 / 3, 10.0, 40 / 3]).expand(5, 4), atol=1e-4)


def test_an_image_is_augmented_alike_in_any_batch():
    augmentation = Augmentation()
    noise, extents = noise_of(6, augmentation), torch.tensor([[30, 20]]).expand(6, 2)
    together, _ = augmentation.crops(noise, extents)
    assert torch.equal(augmentation.crops(noise[4:5], extents[:1])[0][0], together[4])


def photograph(height, width, seed=0):
    """Smooth colours with grain: few clipped overshoots, as in photographs."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 12, width // 12, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return (smooth + rng.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8)


BOXES = [(0, 0, 300, 400), (17, 31, 85, 113), (250, 3, 49, 65), (100, 200, 180, 200), (0, 0, 300, 225)]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crops_equal_torchvisions(box, mirror, interpolation):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    image = photograph(300, 400)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    theirs = functional.resized_crop(tensor, *box, [96, 96], InterpolationMode(interpolation), antialias=True)
    theirs = theirs.flip(2) if mirror else theirs
    each = crop_resize_each([image], np.array([box]), np.array([mirror]), 96, interpolation)
    assert torch.equal(each[0], theirs)

    canvas = torch.zeros(1, 3, 400, 400, dtype=torch.uint8)
    canvas[0, :, :300] = tensor
    given = torch.tensor([[300, 400]]), torch.tensor([box]), torch.tensor([mirror])
    together = crop_resize(canvas, *given, 96, torch.float32, isolated=True, interpolation=interpolation)[0]
    apart = (together - theirs.float()).abs()
    most, share = {"bicubic": (2, 0.01), "bilinear": (1, 0.02)}[interpolation]
    assert apart.max() <= most and (apart > 0).float().mean() < share, "8-bit weights are rounded"


@pytest.mark.parametrize("box", BOXES)
def test_crops_equal_torchvisions_on_pillow_images(box):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    image = photograph(300, 400)
    theirs = functional.resized_crop(
        Image.fromarray(image), *box, [96, 96], InterpolationMode.BICUBIC, antialias=True
    )
    ours = crop_resize_each([image], np.array([box]), np.array([False]), 96)[0].permute(1, 2, 0).numpy()
    apart = np.abs(ours.astype(int) - np.asarray(theirs).astype(int))
    assert apart.max() <= 2 and (apart > 1).mean() < 0.001, "Pillow may resize the other axis first"


def test_whole_pixel_boxes_are_drawn_as_torchvision_draws_them():
    from torchvision.transforms import RandomResizedCrop

    augmentation = Augmentation(whole_pixels=True)
    height, width, count = 60, 90, 3000
    boxes, _ = augmentation.crops(
        noise_of(count, augmentation).double(), torch.tensor([[height, width]]).expand(count, 2)
    )
    assert torch.equal(boxes, boxes.round())
    assert (boxes[:, 0] + boxes[:, 2]).max() == height and (boxes[:, 1] + boxes[:, 3]).max() == width
    assert boxes[:, :2].min() == 0 and boxes[:, 2:].min() >= 1
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    drawn = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    theirs = torch.tensor(drawn, dtype=torch.float64)
    assert torch.allclose(boxes.mean(0), theirs.mean(0), atol=1.5)
    assert torch.allclose(boxes.std(0), theirs.std(0), atol=1.0)


def test_elongated_images_get_torchvisions_central_crop():
    from torchvision.transforms import RandomResizedCrop

    augmentation = Augmentation(scale=(0.99, 1.0), whole_pixels=True)
    for height, width in ((10, 101), (103, 10)):
        boxes, _ = augmentation.crops(
            noise_of(3, augmentation).double(), torch.tensor([[height, width]]).expand(3, 2)
        )
        params = RandomResizedCrop.get_params(torch.zeros(3, height, width), [0.99, 1.0], [3 / 4, 4 / 3])
        assert boxes.tolist() == [list(params)] * 3
