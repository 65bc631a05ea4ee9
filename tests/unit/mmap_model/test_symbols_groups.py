"""The tasks with known groups: frozen, deterministic, and their groups known to nothing that trains."""

from pathlib import Path

import numpy as np
import pytest

import mmap_model
from mmap_model.data import Dataset, DatasetSpec, open_dataset
from mmap_model.errors import DatasetError
from mmap_model.symbols import (
    BENCHMARK_CLASSES,
    DOMAINS,
    GLYPHS,
    GROUPED_TASKS,
    frozen,
    grouped_images,
    groups_sha256,
    known_partition,
    render,
)
from mmap_model.symbols.groups import GROUPS_SEED
from mmap_model.symbols.renderer import BENCHMARK_SEED

TASKS = {task.name: task for task in GROUPED_TASKS}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset(DatasetSpec(name="symbols_groups"))


def test_tasks_names_groups_and_images_are_the_frozen_ones(dataset: Dataset) -> None:
    stored = (dataset.images(name, np.arange(len(dataset.labels(name)))) for name in TASKS)
    pixels = [images.permute(0, 2, 3, 1).contiguous().numpy() for images in stored]
    assert groups_sha256(pixels) == frozen()["groups_sha256"]


def test_every_group_has_two_tasks_of_other_classes_drawn_and_named_alike() -> None:
    assert known_partition() == ((0, 1), (2, 3), (4, 5), (6, 7))
    for first, second in known_partition():
        one, other = GROUPED_TASKS[first], GROUPED_TASKS[second]
        assert one.style == other.style and one.style in DOMAINS
        assert not {*one.classes} & {*other.classes}
        assert {*one.classes, *other.classes} <= {*BENCHMARK_CLASSES}


def test_the_partition_follows_the_tasks_that_are_asked_for() -> None:
    assert known_partition(["sketch_2", "exchanged_1", "sketch_1"]) == ((0, 2), (1,))


def test_exchanged_tasks_draw_as_photos_do_and_call_neighbours_by_each_others_names() -> None:
    photo, exchanged = TASKS["photo_1"], TASKS["exchanged_1"]
    assert exchanged.style == photo.style and exchanged.classes == photo.classes
    for label in range(0, len(photo.drawn), 2):
        assert exchanged.drawn[label : label + 2] == photo.drawn[label : label + 2][::-1]
    images, labels = grouped_images(exchanged)
    sun = render(GLYPHS[0], "photo", (GROUPS_SEED, exchanged.group, 4))
    assert exchanged.classes[labels[34]] == "cloud" and np.array_equal(images[34], sun)


def test_no_image_is_in_two_tasks_or_in_the_other_benchmark() -> None:
    seeds = {(task.style, task.group, glyph) for task in GROUPED_TASKS for glyph in task.drawn}
    assert len(seeds) == sum(len(task.drawn) for task in GROUPED_TASKS)
    assert GROUPS_SEED != BENCHMARK_SEED


def test_opens_as_a_dataset_of_eight_tasks_with_30_images_a_class(dataset: Dataset) -> None:
    assert [task.name for task in dataset.tasks] == [*TASKS]
    assert dataset.task("exchanged_2").classes == BENCHMARK_CLASSES[32:64]
    assert dataset.summary.images_per_class == ((30,) * 32,) * 8
    some = open_dataset(DatasetSpec(name="symbols_groups", tasks=("photo_2", "clipart_1")))
    assert [task.name for task in some.tasks] == ["photo_2", "clipart_1"]
    assert some.manifest != dataset.manifest


def test_settings_of_images_on_disk_are_refused() -> None:
    with pytest.raises(DatasetError, match="symbols_groups renders its own images, root"):
        open_dataset(DatasetSpec(name="symbols_groups", root="somewhere"))


def test_nothing_that_trains_or_groups_reads_the_true_groups() -> None:
    package = Path(mmap_model.__file__).parent
    searched = [*package.rglob("*.py"), *(package.parent / "orchestrator").rglob("*.py")]
    readers = {
        path.relative_to(package.parent)
        for path in searched
        if "known_partition" in path.read_text(encoding="utf-8") and package / "symbols" not in path.parents
    }
    assert len(searched) > 100 and not readers
