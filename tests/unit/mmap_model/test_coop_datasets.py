"""CoOp's datasets: the published classes, lists and faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmap_model.data import DatasetSpec
from mmap_model.data.generated import write_coop
from mmap_model.data.sources import list_source, open_source
from mmap_model.data.sources.coop import DATASETS
from mmap_model.errors import DatasetError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All ten with the published classes, two images a class."""
    folder = tmp_path_factory.mktemp("coop")
    write_coop(folder, side=8)
    return folder


def spec(root: Path, **options: Any) -> DatasetSpec:
    return DatasetSpec(name="coop", root=str(root), **options)


def test_all_ten_have_the_published_classes(root: Path) -> None:
    source = open_source(spec(root))
    assert {task.name: len(task.classes) for task in source.tasks} == {
        name: one.classes for name, one in DATASETS.items()
    }
    assert sum(len(task.classes) for task in source.tasks) == 1_191
    assert source.published == sum(sum(one.counts) for one in DATASETS.values())
    for task in source.tasks:
        division = source.official(task.name)
        assert division is not None and len(division.train) == len(division.test) == len(task.classes)
        assert task.classes[0] == "kind 001"


@pytest.mark.parametrize("name", DATASETS)
def test_each_is_found_alone_in_its_own_folder_too(root: Path, name: str) -> None:
    below = open_source(spec(root, tasks=(name,)))
    alone = open_source(spec(root / DATASETS[name].folder, tasks=(name,)))
    assert list(alone.ids(name)) == list(below.ids(name)) and alone.manifest == below.manifest
    assert alone.read(name, 0) == below.read(name, 0)


def test_names_that_people_use_are_known(root: Path) -> None:
    source = open_source(spec(root, tasks=("Flowers102", "food-101")))
    assert [task.name for task in source.tasks] == ["oxford_flowers", "food101"]


def test_the_published_test_list_tests(root: Path) -> None:
    source = open_source(spec(root, tasks=("dtd",), test_source="official"))
    division = source.official("dtd")
    assert division is not None
    ids = list(source.ids("dtd"))
    assert {ids[i].rpartition("_")[2] for i in division.test.tolist()} == {"0002.jpg"}


def test_slashes_in_names_stay_within_their_part_of_an_id(tmp_path: Path) -> None:
    write_coop(tmp_path, tasks=("fgvc_aircraft",), classes=2, per_class=4)
    for file in (tmp_path / "fgvc_aircraft").glob("*.txt"):
        file.write_text(file.read_text().replace("kind_001", "F-16A/B"))
    source = open_source(spec(tmp_path, tasks=("fgvc_aircraft",)))
    assert source.tasks[0].classes == ("F-16A/B", "kind 002")
    assert all(len(name.split("/")) == 3 for name in source.ids("fgvc_aircraft"))


def change(root: Path, **parts: Any) -> Path:
    write_coop(root, tasks=("dtd",), classes=3, per_class=4)
    path = root / "dtd" / DATASETS["dtd"].split
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))
    return path


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"val": [["kind_001/0001.jpg", 0, "kind_001"]]}, "listed_twice"),
        ({"val": [["kind_001/0003.jpg", 1, "kind_001"]]}, "label_conflict"),
        ({"val": [["kind_001/9999.jpg", 0, "kind_001"]]}, "missing_file"),
    ],
)
def test_what_a_list_says_wrong_is_a_finding(tmp_path: Path, parts: dict[str, Any], kind: str) -> None:
    path = change(tmp_path, **parts)
    source = list_source(spec(tmp_path, tasks=("dtd",)))
    assert [fault.kind for fault in source.faults] == [kind]
    assert source.faults[0].where == f"{path}: val"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"val": None}, "has no list 'val'"),
        ({"val": [["a.jpg", "0", "kind_001"]]}, "val[0] is ['a.jpg', '0', 'kind_001']"),
    ],
)
def test_a_list_of_another_form_is_refused(tmp_path: Path, parts: dict[str, Any], words: str) -> None:
    change(tmp_path, **parts)
    with pytest.raises(DatasetError) as caught:
        open_source(spec(tmp_path, tasks=("dtd",)))
    assert words in caught.value.problem and "[path, label, class name]" in str(caught.value.fix)


def test_one_error_names_all_that_is_missing(tmp_path: Path) -> None:
    write_coop(tmp_path, tasks=("dtd",), classes=2)
    with pytest.raises(DatasetError) as caught:
        open_source(spec(tmp_path, tasks=("dtd", "eurosat", "fgvc_aircraft")))
    for name in ("split_zhou_EuroSAT.json", "eurosat/2750", "variants.txt", "images_variant_test.txt"):
        assert name in caught.value.problem
    assert "dtd" not in caught.value.problem.removeprefix(str(tmp_path))


def test_a_variant_that_is_not_listed_is_named(tmp_path: Path) -> None:
    write_coop(tmp_path, tasks=("fgvc_aircraft",), classes=2)
    (tmp_path / "fgvc_aircraft" / "variants.txt").write_text("kind_001\n")
    with pytest.raises(DatasetError, match=r"images_variant_train.txt:2: 'kind_002' is not in variants.txt"):
        open_source(spec(tmp_path, tasks=("fgvc_aircraft",)))
