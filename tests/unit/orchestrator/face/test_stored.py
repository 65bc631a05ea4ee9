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
    path = written(tmp_path, "first", lists=str(tmp_path / "first" / "lists"), store=str(tmp_path / "store"))
    study = load_study(str(path))
    StudyStore(study.storage, study.name).save_study(study.to_plain())
    return path


def written(folder: Path, images: str | None, **dataset: str) -> Path:
    path = folder / "made.yaml"
    root = {} if images is None else {"root": str(folder / images)}
    keys = {"name": "folder", **root, **dataset}
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
    assert found.store == str(folder / "store"), "the file names none"


def test_lists_that_are_still_there_are_those_of_the_study(file: Path) -> None:
    folder = file.parent
    lists = folder / "kept"
    lists.mkdir()
    study = load_study(str(written(folder, "first", lists=str(lists))))
    StudyStore(study.storage, study.name).save_study(study.to_plain())
    (folder / "first").rmdir()
    written(folder, "second", lists=str(folder / "others"))
    found = find_stored(str(file), None).study.dataset
    assert (found.root, found.lists) == (str(folder / "second"), str(lists))


def test_prepared_images_that_are_still_there_need_no_others(file: Path) -> None:
    folder = file.parent
    (folder / "first").rmdir()
    (folder / "store").mkdir()
    written(folder, "second")
    assert find_stored(str(file), None).study.dataset.root == str(folder / "first")


def test_images_that_are_still_there_are_those_of_the_study(file: Path) -> None:
    written(file.parent, "second")
    assert find_stored(str(file), None).study.dataset.root == str(file.parent / "first")


@pytest.mark.parametrize("given", ["third", None, "by name"])
def test_images_that_are_nowhere_are_looked_for_where_they_were(file: Path, given: str | None) -> None:
    (file.parent / "first").rmdir()
    if given != "by name":
        written(file.parent, given)
    found = find_stored("made" if given == "by name" else str(file), str(file.parent / "runs"))
    assert found.study.dataset.root == str(file.parent / "first")


def test_what_the_file_says_of_anything_else_changes_nothing(file: Path) -> None:
    folder = file.parent
    (folder / "first").rmdir()
    written(folder, "second", test_source="official")
    found = find_stored(str(file), None).study
    assert (found.dataset.root, found.dataset.test_source) == (str(folder / "second"), "pooled")
