"""Half of the classes of every task as a dataset of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Seeds, Split
from mmap_model.data import Dataset, DatasetSpec, open_dataset
from mmap_model.data.generated import write_coop
from mmap_model.errors import DatasetError
from mmap_model.inference.transfer import Halves, harmonic_mean
from mmap_model.methods.zero_shot import ZeroShotSettings
from mmap_model.training.replicate import draw_tasks


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> DatasetSpec:
    """Two tasks of five classes of six images, with a published division."""
    root = tmp_path_factory.mktemp("coop")
    write_coop(root, tasks=("dtd", "eurosat"), classes=5, per_class=6, side=40)
    return DatasetSpec(name="coop", root=str(root), tasks=("dtd", "eurosat"))


def halves(spec: DatasetSpec) -> list[Dataset]:
    return [open_dataset(replace(spec, class_half=half)) for half in ("all", "base", "new")]  # type: ignore[arg-type]


def test_they_divide_the_classes_and_the_images_of_every_task(spec: DatasetSpec) -> None:
    whole, base, new = halves(spec)
    for task in whole.tasks:
        assert (
            base.task(task.name).classes == task.classes[:3]
            and new.task(task.name).classes == task.classes[3:]
        )
        assert base.class_keys(task.name) + new.class_keys(task.name) == whole.class_keys(task.name)
        ids = [*base.sample_ids(task.name), *new.sample_ids(task.name)]
        assert sorted(ids) == sorted(whole.sample_ids(task.name))
        assert set(new.labels(task.name).tolist()) == {0, 1}
    assert len({whole.manifest, base.manifest, new.manifest}) == 3


def test_images_are_those_of_the_whole(spec: DatasetSpec) -> None:
    whole, _, new = halves(spec)
    ids = list(whole.sample_ids("dtd"))
    for index, name in enumerate(new.sample_ids("dtd")):
        own, place = np.array([index]), np.array([ids.index(name)])
        assert torch.equal(new.images("dtd", own, 16), whole.images("dtd", place, 16))
    wanted = [np.array([0, 3]), np.array([1])]
    pixels = new.training_pixels(wanted, 16)
    assert pixels is not None
    first = next(pixels.images(pixels.rows(0, np.array([3]))))
    place = np.array([ids.index(new.sample_ids("dtd")[3])])
    inner = whole.training_pixels([place, np.array([], np.int64)], 16)
    assert inner is not None and np.array_equal(first, next(inner.images(inner.rows(0, place))))


@pytest.mark.parametrize("test_source", ["pooled", "official"])
def test_an_image_is_drawn_alike_in_a_half_and_in_the_whole(spec: DatasetSpec, test_source: str) -> None:
    drawn = []
    for dataset in halves(replace(spec, test_source=test_source)):  # type: ignore[arg-type]
        cell = Cell(
            configuration=Configuration(method="zero_shot", settings=ZeroShotSettings()),
            split=Split(shots=2),
            seeds=Seeds.both(1),
            dataset=dataset.manifest,
            backbone="b",
        )
        ids = dataset.sample_ids("eurosat")
        own = draw_tasks(cell, dataset)[1]
        drawn.append({part: {ids[i] for i in getattr(own, part)} for part in ("train", "validation", "test")})
    whole, base, new = drawn
    for part, images in whole.items():
        assert base[part] | new[part] == images and not base[part] & new[part]


def test_too_few_classes_are_refused(tmp_path: Path) -> None:
    write_coop(tmp_path, tasks=("dtd",), classes=3, per_class=4)
    spec = DatasetSpec(name="coop", root=str(tmp_path), tasks=("dtd",), class_half="base")
    with pytest.raises(DatasetError, match="'dtd' has 3 classes, so its new half has 1"):
        open_dataset(replace(spec, class_half="new"))
    assert len(open_dataset(spec).tasks[0].classes) == 2


def test_each_half_is_scored_among_its_own_classes() -> None:
    probabilities = np.array(
        [
            [0.2, 0.1, 0.1, 0.6],  # base, right among base classes only
            [0.1, 0.7, 0.1, 0.1],  # base, right
            [0.1, 0.1, 0.5, 0.3],  # new, wrong
            [0.4, 0.1, 0.2, 0.3],  # new, right among new classes only
        ]
    )
    found = Halves.of(probabilities, np.array([0, 1, 3, 3]))
    assert (found.base, found.new, found.every) == (1.0, 0.5, 0.25)
    assert harmonic_mean(found.base, found.new) == pytest.approx(2 / 3)
    assert harmonic_mean(0.5, 0.0) == 0.0
