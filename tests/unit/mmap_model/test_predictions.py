"""A classifier takes images as people hand them over, and says of each what it shows or why it cannot."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import mmap_model
from mmap_model.backbone import Backbone
from mmap_model.data.decoding import evaluation_view, open_image
from mmap_model.errors import ConfigurationError, DatasetError
from mmap_model.inference.classifier import Classifier
from mmap_model.inference.exporting import export
from mmap_model.inference.trained import Trained

Load = Callable[..., Classifier]


@pytest.fixture
def load(trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path: Path) -> Load:
    """Exports one of the methods and loads it again."""

    def make(case: str = "mmap") -> Classifier:
        export(trained_case(case, tiny_backbone), tmp_path / case, "prompts")
        return mmap_model.load(tmp_path / case, backbone=tiny_backbone)

    return make


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG of 40 × 23 pixels that its EXIF turns."""
    noise = np.random.default_rng(0).integers(0, 255, (23, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


def pixels(count: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)


def test_an_image_becomes_the_pixels_of_its_evaluation_view(load: Load, photo: Path) -> None:
    classifier = load("zero_shot")
    view = evaluation_view(open_image(photo, "photo"), 16)
    wanted = torch.from_numpy(np.array(view)).permute(2, 0, 1)
    opened = open_image(photo, "photo")
    array = np.array(opened)
    given: dict[str, Any] = {
        "path": photo,
        "name": str(photo),
        "bytes": photo.read_bytes(),
        "upright": opened,
        "as it lies": Image.open(photo),
        "array": array,
        "with alpha": np.dstack([array, np.full(array.shape[:2], 255, np.uint8)]),
        "tensor": torch.from_numpy(array).permute(2, 0, 1),
    }
    for what, image in given.items():
        found = classifier.preprocess(image)
        assert found.dtype == torch.uint8 and torch.equal(found, wanted), what
    grey = classifier.preprocess(array[:, :, 0])
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey, classifier.preprocess(array[:, :, :1]))


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"no image",
        np.zeros((3, 4, 5, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        torch.zeros(16, 16, 3, dtype=torch.uint8),
        torch.zeros(3, 16, 16),
        None,
        3,
    ],
    ids=str,
)
def test_what_is_no_image_is_an_error_that_names_it(load: Load, image: Any) -> None:
    with pytest.raises(DatasetError, match="number seven"):
        load("zero_shot").preprocess(image, "number seven")


def test_predictions_are_the_best_classes_with_their_probabilities(load: Load, photo: Path) -> None:
    classifier = load()
    (found,) = classifier.predict(photo, task="art", top=3)
    logits = classifier.logits(classifier.preprocess(photo)[None], "art")[0]
    probabilities, places = logits.softmax(0).sort(descending=True)
    assert found.name == str(photo) and found.task == "art" and found.error is None
    assert found.labels == tuple(classifier.classes("art")[i] for i in places[:3].tolist())
    assert found.label == found.labels[0]
    assert found.probabilities == pytest.approx(probabilities[:3].tolist())
    (all_of_two,) = classifier.predict(photo, task="photo", top=5)
    assert len(all_of_two.labels) == 2 and sum(all_of_two.probabilities) == pytest.approx(1)


def test_images_come_as_one_or_many_of_any_sort(load: Load, photo: Path) -> None:
    classifier = load("zero_shot")
    array = np.array(open_image(photo, ""))
    batch = np.stack([array, array[::-1]])
    for images, count in (
        (photo, 1),
        (array, 1),
        (batch, 2),
        (pixels(3), 3),
        (pixels(3)[0], 1),
        ([photo, array, Image.open(photo)], 3),
        (iter([photo.read_bytes()] * 4), 4),
        ([], 0),
    ):
        assert len(list(classifier.predict(images, task=0, batch=2))) == count
    assert [p.name for p in classifier.predict([photo, array], task=0)] == [str(photo), "image 1"]


def test_predictions_do_not_depend_on_the_batch(load: Load) -> None:
    classifier = load()
    whole = list(classifier.predict(pixels(), task="map", batch=7))
    for batch in (1, 2, 100):
        parts = list(classifier.predict(pixels(), task="map", batch=batch))
        assert [p.labels for p in parts] == [p.labels for p in whole]
        for one, other in zip(parts, whole, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_a_broken_image_is_a_prediction_with_its_error_and_the_others_go_on(
    load: Load, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image")
    whole = photo.read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    broken = [tmp_path / name for name in ("empty.jpg", "text.png", "cut.jpg", "missing.jpg")]
    found = list(load("zero_shot").predict([broken[0], photo, *broken[1:], photo], task=0, batch=2))
    assert [p.error is None for p in found] == [False, True, False, False, False, True]
    for prediction in found:
        if prediction.error is not None:
            assert prediction.name in prediction.error
            assert prediction.labels == () and prediction.label is None
    assert found[1].probabilities == pytest.approx(found[-1].probabilities)


def test_images_are_taken_as_they_are_needed(load: Load) -> None:
    taken = []

    def endless() -> Iterator[Tensor]:
        while True:
            taken.append(threading.get_ident())
            yield pixels(1)[0]

    predictions = iter(load("zero_shot").predict(endless(), task=0, batch=4))
    assert taken == []
    for _ in range(20):
        next(predictions)
    assert len(taken) <= 20 + 3 * 4
    assert set(taken) == {threading.get_ident()}, "an iterator is not asked by two threads"


def test_the_task_may_be_left_out_where_there_is_only_one(
    trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path: Path, load: Load
) -> None:
    export(trained_case("mmap", tiny_backbone, ["photo"]), tmp_path / "one", "prompts")
    one = mmap_model.load(tmp_path / "one", backbone=tiny_backbone)
    assert [p.task for p in one.predict(pixels(2))] == ["photo", "photo"]
    with pytest.raises(ConfigurationError, match=r"not given[\s\S]*art, photo, map"):
        load("zero_shot").predict(pixels(2))


def test_predicting_again_classifies_again(load: Load) -> None:
    predictions = load("zero_shot").predict(pixels(3), task=0)
    assert list(predictions) == list(predictions) and len(list(predictions)) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"task": "sculpture"}, "art, photo, map"), ({"top": 0}, "top"), ({"batch": 0}, "batch")],
)
def test_a_wrong_argument_is_refused_before_any_image_is_read(
    load: Load, wrong: dict[str, Any], said: str
) -> None:
    images = iter([pixels(1)[0]])
    with pytest.raises(ConfigurationError, match=said):
        load("zero_shot").predict(images, **{"task": 0, **wrong})
    assert len(list(images)) == 1


def test_an_image_in_memory_is_left_as_it_is(load: Load) -> None:
    encoded = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(encoded, "png")
    image = Image.open(io.BytesIO(encoded.getvalue()))
    before = (image.size, image.mode)
    load("zero_shot").preprocess(image)
    assert (image.size, image.mode) == before
