"""What of two sets of data and weights is said to differ."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec, content, open_dataset
from mmap_model.data.content import chosen
from mmap_model.errors import BackboneError
from orchestrator.execution.engine import ModelEngine
from orchestrator.work.inputs import Inputs, OtherInputs, differences, require_same


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two tasks of two classes with three uncompressed images each: all files have one size."""
    for t, task in enumerate(("ink", "paint")):
        for c, name in enumerate(("bell", "key")):
            folder = tmp_path / "images" / task / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.full((8, 8, 3), 100 * t + 50 * c + number, np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.bmp")
    return tmp_path / "images"


def inputs(root: Path, fingerprint: str = "f") -> Inputs:
    return Inputs.of(open_dataset(DatasetSpec(name="folder", root=str(root))), fingerprint)


def said(known: Inputs, root: Path) -> str:
    (found,) = differences(known, inputs(root))
    assert found.what == "images"
    return found.text


def test_moved_images_are_the_same(root: Path, tmp_path: Path) -> None:
    known = inputs(root)
    shutil.move(root, tmp_path / "elsewhere")
    assert differences(known, inputs(tmp_path / "elsewhere")) == []


def test_inputs_survive_their_record(root: Path) -> None:
    known = inputs(root)
    assert Inputs.from_dict(known.to_dict()) == known
    assert Inputs.from_dict(known.short().to_dict()) == known.short()
    assert differences(known, known.short()) == differences(known.short(), known) == []


def test_a_missing_image_is_told_with_its_task_and_class(root: Path) -> None:
    known = inputs(root)
    (root / "ink" / "key" / "2.bmp").unlink()
    text = said(known, root)
    assert "task 'ink' has 6 images, found 5 (key: 3, found 2)" in text and "'paint'" not in text
    assert known.manifest in text and inputs(root).manifest in text
    assert "(key: 3, found 2)" in said(known.short(), root), "names of classes are known here"


def test_other_classes_are_told_by_name(root: Path) -> None:
    known = inputs(root)
    shutil.move(root / "ink" / "key", root / "ink" / "lock")
    assert "task 'ink' has other class names (without key, with lock)" in said(known, root)
    shutil.copytree(root / "ink" / "lock", root / "ink" / "nut")
    assert "task 'ink' has 2 classes, found 3 (without key, with lock, nut)" in said(known, root)


def test_renamed_files_and_other_sizes_are_told(root: Path) -> None:
    known = inputs(root)
    (root / "paint" / "key" / "2.bmp").rename(root / "paint" / "key" / "3.bmp")
    assert "task 'paint' has other file names or sizes" in said(known, root)


def test_other_images_of_the_same_names_and_sizes_are_not_the_same(root: Path) -> None:
    known = inputs(root)
    pixels = np.full((8, 8, 3), 7, np.uint8)
    Image.fromarray(pixels).save(root / "ink" / "bell" / "1.bmp")
    assert inputs(root).manifest == known.manifest, "a manifest does not read images"
    assert "task 'ink' has other bytes under the same file names and sizes" in said(known, root)


def test_a_difference_that_no_task_shows_is_told_as_far_as_known(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = inputs(root)
    (lists,) = differences(known, replace(known, manifest="m"))
    assert lists.text.startswith("the fixed lists, or the division into training and test images, differ")
    monkeypatch.setattr(content, "LIST_ALL", 3)
    large = inputs(root)
    assert {task.listed for task in large.tasks.values()} == {None}
    assert differences(known, large) == [], "what is unknown counts as the same"
    (text,) = differences(large, replace(large, manifest="m"))
    assert text.text.startswith("images, their names, the fixed lists")


def test_tasks_that_came_or_went_are_told(root: Path) -> None:
    known = inputs(root)
    shutil.move(root / "ink", root / "wood")
    text = said(known, root)
    assert "task 'ink' is missing" in text and "task 'wood' is new" in text


def test_other_versions_are_told_only_with_other_images(root: Path) -> None:
    known = replace(inputs(root), versions={"pillow": "1.0", "numpy": "2.0"})
    assert differences(known, replace(known, versions={"pillow": "2.0", "numpy": "2.0"})) == []
    other = replace(known, manifest="x", versions={"pillow": "2.0", "numpy": "2.0"})
    assert "pillow 1.0, found 2.0" in differences(known, other)[0].text
    assert "numpy" not in differences(known, other)[0].text


def test_other_weights_are_told_with_the_tensors_that_differ(root: Path) -> None:
    known = replace(inputs(root), weights={"text": "1", "image": "2"})
    other = replace(known, fingerprint="g", weights={"text": "1", "image": "3"})
    (found,) = differences(known, other)
    assert found.what == "weights" and "the backbone differs in image (" in found.text
    assert "fingerprint f, found g" in found.text
    (found,) = differences(replace(known, weights={}), other)
    assert "the backbone differs (fingerprint f, found g" in found.text


def test_what_differs_is_an_input_error_with_its_fix(root: Path) -> None:
    known = inputs(root)
    require_same(known, inputs(root), opening="x", fix="y")
    with pytest.raises(OtherInputs, match="begun with other images and weights: ") as raised:
        require_same(
            known,
            replace(known, manifest="m", fingerprint="g"),
            opening="the study was begun with other {what}",
            fix="put those {what} back",
        )
    assert raised.value.where == "dataset" and raised.value.fix == "put those images and weights back"


def test_loaded_weights_that_are_others_than_were_read_before_are_an_input_error() -> None:
    engine = ModelEngine({"name": "symbols"}, {"model": "symbols"})
    vars(engine).update(fingerprint="remembered", _backbone=SimpleNamespace(fingerprint="loaded"))
    with pytest.raises(BackboneError, match=r"were replaced .* fingerprint remembered, found loaded"):
        engine.load()


@pytest.mark.parametrize(
    ("count", "total", "read"),
    [
        (5, None, 5),
        (1000, None, 16),
        (1000, 10, 1000),
        (1000, 10**9, 16),
        (1000, 8 * 2**33, 1),
        (9, 2**26, 4),
    ],
)
def test_a_large_task_is_sampled_evenly(count: int, total: int | None, read: int) -> None:
    positions = chosen(count, total)
    assert len(set(positions)) == read and positions == sorted(positions)
    assert positions[0] == 0 and positions[-1] >= count - count / read - 1


def test_symbols_are_told_apart_by_their_pixels() -> None:
    dataset = open_dataset(DatasetSpec(name="symbols", tasks=("photo", "sketch")))
    found = Inputs.of(dataset, "f")
    assert [content.read for content in found.tasks.values()] == [1, 1]
    assert len({content.pixels for content in found.tasks.values()}) == 2
