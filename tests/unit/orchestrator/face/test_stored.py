"""The records of a study, whose images may have moved since."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.face.stored import find_stored
from orchestrator.ledger import StudyStore
from orchestrator.study import load_study


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A study that was begun on images in ``first``; its file may be written anew."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    path = written(tmp_path, "first")
    study = load_study(str(path))
    StudyStore(study.storage, study.name).save_study(study.to_plain())
    return path


def written(folder: Path, images: str, **dataset: str) -> Path:
    path = folder / "made.yaml"
    keys = {"name": "folder", "root": str(folder / images), **dataset}
    path.write_text(
        yaml.safe_dump({"name": "made", "dataset": keys, "storage": str(folder / "runs"), "space": []})
    )
    return path


def test_images_that_moved_are_where_the_file_says(file: Path) -> None:
    folder = file.parent
    (folder / "first").rmdir()
    written(folder, "second", lists=str(folder / "lists"))
    found = find_stored(str(file), None).study.dataset
    assert (found.root, found.lists) == (str(folder / "second"), str(folder / "lists"))


def test_images_that_are_still_there_are_those_of_the_study(file: Path) -> None:
    written(file.parent, "second")
    assert find_stored(str(file), None).study.dataset.root == str(file.parent / "first")


@pytest.mark.parametrize("by_file", [True, False])
def test_images_that_are_nowhere_are_looked_for_where_they_were(file: Path, by_file: bool) -> None:
    (file.parent / "first").rmdir()
    if by_file:
        written(file.parent, "third")
    found = find_stored(str(file) if by_file else "made", str(file.parent / "runs"))
    assert found.study.dataset.root == str(file.parent / "first")


def test_what_the_file_says_of_anything_else_changes_nothing(file: Path) -> None:
    folder = file.parent
    (folder / "first").rmdir()
    written(folder, "second", test_source="official")
    found = find_stored(str(file), None).study
    assert (found.dataset.root, found.dataset.test_source) == (str(folder / "second"), "pooled")
