"""Training crops are those of the images themselves, whatever their size."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from mmap_model.data import DatasetSpec, open_dataset
from mmap_model.preprocessing import Resize
from mmap_model.training.feeding import CropFeed

SIZE, VIEWS = 224, 24
CLIP = SimpleNamespace(image_size=SIZE, resize=Resize(), device=torch.device("cpu"))
FULL = 1371
"""Geometric mean of the sides up to which images are kept as they are, at 224 pixels and crops of 8 %."""


def photograph(height, width):
    """Grain of all frequencies as in photographs, with sharp edges."""
    rng = np.random.Generator(np.random.PCG64([height, width]))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    spectrum = rng.normal(size=(3, *frequency.shape)) + 1j * rng.normal(size=(3, *frequency.shape))
    grain = np.fft.irfft2(spectrum / frequency**0.75, s=(height, width))
    image = 128 + 40 * (grain - grain.mean()) / grain.std()
    down, across = np.mgrid[:height, :width]
    for _ in range(12):
        radius = rng.uniform(0.03, 0.3) * min(height, width)
        disc = (down - rng.uniform(0, height)) ** 2 + (across - rng.uniform(0, width)) ** 2 < radius**2
        image[:, disc] = rng.uniform(0, 255, (3, 1))
    return image.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def sharpness(view):
    pixels = view.numpy().astype(float)
    return np.abs(np.diff(pixels, axis=1)).mean() + np.abs(np.diff(pixels, axis=2)).mean()


@pytest.mark.parametrize(
    ("height", "width"),
    [(200, 200), (200, 900), (600, 895), (896, 897), (1100, 1180), (1500, 1400), (2200, 1700), (3000, 3000)],
)
def test_crops_equal_those_of_the_whole_image(height, width, tmp_path):
    image = photograph(height, width)
    for name in ("a", "b"):
        (tmp_path / "images" / "d" / name).mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "images" / "d" / "a" / "x.bmp")
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "d" / "b" / "x.bmp")
    dataset = open_dataset(DatasetSpec(name="folder", root=str(tmp_path / "images")), tmp_path / "cache")
    pixels = dataset.training_pixels([np.array([0])], SIZE)
    feed = CropFeed(pixels, dataset.augmentation, CLIP)
    noise = np.random.default_rng(0).random((VIEWS, dataset.augmentation.noise))
    noise[: VIEWS // 2, :10] *= 0.02  # every second crop is about the smallest that can be drawn
    noise[:, -1] = 1  # none is mirrored
    (ours,) = feed.stream([np.zeros(VIEWS, np.int64)], [noise])
    extents = torch.tensor([[height, width]]).expand(VIEWS, 2)
    boxes, _ = dataset.augmentation.crops(torch.from_numpy(noise), extents)
    whole = torch.from_numpy(image).permute(2, 0, 1)
    for view, box in zip(ours, boxes.long().tolist(), strict=True):
        theirs = functional.resized_crop(whole, *box, [SIZE, SIZE], InterpolationMode.BICUBIC, antialias=True)
        if height * width <= FULL**2:
            assert torch.equal(view, theirs)
        apart = (view.int() - theirs.int()).abs().float()
        assert apart.mean() <= 0.5, f"{box}: {apart.mean():.2f} grey levels apart on average"
        assert sharpness(view) >= 0.99 * sharpness(theirs)


@pytest.mark.parametrize(("height", "width"), [(3000, 3000), (4000, 900), (400, 9000), (1500, 5000)])
def test_no_crop_is_enlarged_because_its_image_was_shrunk(height, width, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images" / "d" / name).mkdir(parents=True)
        Image.new("RGB", (width, height)).save(tmp_path / "images" / "d" / name / "x.bmp")
    dataset = open_dataset(DatasetSpec(name="folder", root=str(tmp_path / "images")), tmp_path / "cache")
    pixels = dataset.training_pixels([np.array([0])], SIZE)
    noise = torch.rand(4000, dataset.augmentation.noise, generator=torch.Generator().manual_seed(0)).double()
    boxes, _ = dataset.augmentation.crops(noise, torch.tensor([[height, width]]).expand(4000, 2))
    kept = pixels.boxes(np.zeros(4000, np.int64), boxes.numpy())[:, 2:]
    drawn = boxes[:, 2:].numpy()
    assert (kept >= np.minimum(drawn, 1.49 * SIZE) - 1).all()
    if min(height, width) >= 1.5 * SIZE / np.sqrt(0.06):
        assert pixels.bytes <= 3 * (FULL + 2) ** 2, "5.6 MB is the most that an image of usual shape takes"
