"""CoOp's image datasets other than ImageNet, with its lists (Zhou et al., IJCV 2022); a task each.

They lie as CoOp's ``DATASETS.md`` asks for: a folder for each dataset below one root, in it the images and
``split_zhou_<Name>.json``: lists of [path, label, class name] under ``train``, ``val`` and ``test``.
FGVC-Aircraft has three text files of its own in place of it. Labels are the files'; that they name the same
classes in all parts is checked. Only images on a list count. ``test_source: official`` tests on the published
test list and draws the rest from the published training and validation lists, taken together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mmap_model.data.dataset import DatasetSpec, OfficialSplit, TaskInfo, choose_tasks
from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import loose
from mmap_model.data.sources.files import FileSource, FileTask, image_root, readable
from mmap_model.data.sources.listing import image_sizes
from mmap_model.data.sources.registry import register_source
from mmap_model.errors import DatasetError
from mmap_model.text_files import read_text

PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class PublishedDataset:
    """One dataset.

    Attributes:
        folder: below the root.
        images: below that, to which paths in the list are relative.
        split: name of the file with the lists; empty for FGVC-Aircraft's text files.
        classes: how many.
        counts: images of the published training, validation and test lists.
    """

    folder: str
    images: str
    split: str
    classes: int
    counts: tuple[int, int, int]


DATASETS: Mapping[str, PublishedDataset] = {
    "caltech101": PublishedDataset(
        folder="caltech-101",
        images="101_ObjectCategories",
        split="split_zhou_Caltech101.json",
        classes=100,
        counts=(4_128, 1_649, 2_465),
    ),
    "oxford_pets": PublishedDataset(
        folder="oxford_pets",
        images="images",
        split="split_zhou_OxfordPets.json",
        classes=37,
        counts=(2_944, 736, 3_669),
    ),
    "stanford_cars": PublishedDataset(
        folder="stanford_cars",
        images="",
        split="split_zhou_StanfordCars.json",
        classes=196,
        counts=(6_509, 1_635, 8_041),
    ),
    "oxford_flowers": PublishedDataset(
        folder="oxford_flowers",
        images="jpg",
        split="split_zhou_OxfordFlowers.json",
        classes=102,
        counts=(4_093, 1_633, 2_463),
    ),
    "food101": PublishedDataset(
        folder="food-101",
        images="images",
        split="split_zhou_Food101.json",
        classes=101,
        counts=(50_500, 20_200, 30_300),
    ),
    "fgvc_aircraft": PublishedDataset(
        folder="fgvc_aircraft", images="images", split="", classes=100, counts=(3_334, 3_333, 3_333)
    ),
    "sun397": PublishedDataset(
        folder="sun397",
        images="SUN397",
        split="split_zhou_SUN397.json",
        classes=397,
        counts=(15_880, 3_970, 19_850),
    ),
    "dtd": PublishedDataset(
        folder="dtd",
        images="images",
        split="split_zhou_DescribableTextures.json",
        classes=47,
        counts=(2_820, 1_128, 1_692),
    ),
    "eurosat": PublishedDataset(
        folder="eurosat",
        images="2750",
        split="split_zhou_EuroSAT.json",
        classes=10,
        counts=(13_500, 5_400, 8_100),
    ),
    "ucf101": PublishedDataset(
        folder="ucf101",
        images="UCF-101-midframes",
        split="split_zhou_UCF101.json",
        classes=101,
        counts=(7_639, 1_898, 3_783),
    ),
}
"""By task name, in CoOp's order."""

VARIANTS = {part: f"images_variant_{part}.txt" for part in PARTS}
"""FGVC-Aircraft's lists; ``variants.txt`` has its classes in the order of their labels."""

SHAPE = """:
  <root>/caltech-101/101_ObjectCategories/… and split_zhou_Caltech101.json
  <root>/fgvc_aircraft/images/…, variants.txt and images_variant_{train,val,test}.txt
  … and so oxford_pets, stanford_cars, oxford_flowers, food-101, sun397, dtd, eurosat and ucf101,
  as CoOp's DATASETS.md describes; choose those that you have with dataset.tasks"""

_ALIASES = {loose(one.folder): name for name, one in DATASETS.items()} | {
    "flowers102": "oxford_flowers",
    "describabletextures": "dtd",
    "pets": "oxford_pets",
    "cars": "stanford_cars",
    "aircraft": "fgvc_aircraft",
}


@dataclass(frozen=True)
class _Line:
    """One image of a list: its path below the dataset's folder of images, and where it was read."""

    path: str
    label: int
    name: str
    part: str
    where: str


def open_coop(spec: DatasetSpec) -> FileSource:
    """List every image that a list names.

    Raises:
        DatasetError: a folder of images or a list is not there.
    """
    root = image_root(spec, SHAPE)
    chosen = choose_tasks(spec, tuple(DATASETS))
    folders = _find(root, chosen)
    faults: list[Fault] = []
    tasks = [_task(root, folders[task], task, faults) for task in chosen]
    source = FileSource("coop", root, tasks, faults)
    source.aliases = _ALIASES
    if spec.classes is None:
        source.published = sum(sum(DATASETS[task].counts) for task in chosen)
    return source


def _find(root: Path, chosen: tuple[str, ...]) -> dict[str, str]:
    """The folder of each dataset, relative to the root. One error names everything that is missing."""
    found, missing = {}, []
    for task in chosen:
        one = DATASETS[task]
        alone = len(chosen) == 1 and all((root / name).is_file() for name in _lists(one))
        found[task] = "" if alone else one.folder
        base = root / found[task]
        missing += [f"the list {base / name}" for name in _lists(one) if not (base / name).is_file()]
        if not (base / one.images).is_dir():
            missing.append(f"the image folder {base / one.images}")
    if missing:
        raise DatasetError(
            f"{root} lacks {', '.join(missing)}", where="dataset.root", fix=f"lay it out as{SHAPE}"
        )
    return found


def _lists(one: PublishedDataset) -> tuple[str, ...]:
    return (one.split,) if one.split else ("variants.txt", *VARIANTS.values())


def _task(root: Path, folder: str, task: str, faults: list[Fault]) -> FileTask:
    one, base = DATASETS[task], root / folder
    lines = _of_json(base / one.split) if one.split else _of_text(base)
    listed: dict[str, _Line] = {}
    names: dict[int, str] = {}
    for line in lines:
        where = f"{line.where}: {line.part}"
        if line.path in listed:
            faults.append(Fault("listed_twice", f"{line.path} is listed a second time", where, task))
        elif names.setdefault(line.label, line.name) != line.name:
            problem = (
                f"says that label {line.label} is {line.name!r}; before, label {line.label} is "
                f"{names[line.label]!r}"
            )
            faults.append(Fault("label_conflict", problem, where, task))
        else:
            listed[line.path] = line
    sizes = _sizes(root, folder, one, listed)
    for path, line in listed.items():
        if path not in sizes:
            where = f"{line.where}: {line.part}"
            faults.append(Fault("missing_file", f"{path} is listed and not there", where, task, path))
    return _file_task(folder, task, [line for path, line in listed.items() if path in sizes], sizes, names)


def _file_task(
    folder: str, task: str, there: list[_Line], sizes: Mapping[str, int], names: Mapping[int, str]
) -> FileTask:
    there.sort(key=lambda line: (line.label, line.path))
    given = np.array([line.label for line in there], np.int64)
    present = np.unique(given)
    classes = tuple(readable(names[label]) for label in present.tolist())
    of_test = np.array([line.part == "test" for line in there], bool)
    below = PurePosixPath(folder) / DATASETS[task].images
    return FileTask(
        info=TaskInfo(task, classes),
        keys=classes,
        ids=[f"{task}/{_flat(line.name)}/{_flat(line.path)}" for line in there],
        labels=np.searchsorted(present, given),
        sizes=np.array([sizes[line.path] for line in there], np.int64),
        paths=[str(below / line.path) for line in there],
        official=OfficialSplit(np.flatnonzero(~of_test), np.flatnonzero(of_test)),
    )


def _flat(name: str) -> str:
    """One part of an id: names such as ``F-16A/B`` and paths of several folders have slashes."""
    return name.replace("/", "_")


def _sizes(root: Path, folder: str, one: PublishedDataset, listed: Mapping[str, _Line]) -> dict[str, int]:
    """Bytes of the files that are there, by path; every folder is read once."""
    base = PurePosixPath(folder) / one.images
    found: dict[str, int] = {}
    for parent in sorted({str(PurePosixPath(path).parent) for path in listed}):
        for path, size in image_sizes(root, str(base / parent)).items():
            found[str(PurePosixPath(path).relative_to(base))] = size
    return found


def _of_json(path: Path) -> Iterator[_Line]:
    """Lines of ``split_zhou_<Name>.json``.

    Raises:
        DatasetError: it is not JSON, or not of this form; names the part and the entry.
    """

    def wrong(problem: str) -> DatasetError:
        fix = "get it again; every part is a list of [path, label, class name]"
        return DatasetError(f"{path}: {problem}", where="dataset.root", fix=fix)

    try:
        parts: Any = json.loads(read_text(path, "dataset.root", DatasetError))
    except ValueError as error:
        raise wrong(f"not JSON: {error}") from None
    for part in PARTS:
        entries = parts.get(part) if isinstance(parts, dict) else None
        if not isinstance(entries, list):
            raise wrong(f"has no list {part!r}")
        for number, entry in enumerate(entries):
            match entry:
                case [str(image), int(label), str(name)] if image and name and label >= 0:
                    yield _Line(_relative(image), label, name, part, str(path))
                case _:
                    raise wrong(f"{part}[{number}] is {entry!r:.80}, not [path, label, class name]")


def _of_text(base: Path) -> Iterator[_Line]:
    """Lines of FGVC-Aircraft's lists: ``<image number> <variant>``.

    Raises:
        DatasetError: a line names a variant that ``variants.txt`` does not have.
    """
    variants = [
        x.strip() for x in read_text(base / "variants.txt", "dataset.root", DatasetError).splitlines()
    ]
    labels = {name: label for label, name in enumerate(filter(None, variants))}
    for part, file in VARIANTS.items():
        for number, line in enumerate(read_text(base / file, "dataset.root", DatasetError).splitlines(), 1):
            image, _, name = line.strip().partition(" ")
            if not image:
                continue
            if name.strip() not in labels:
                raise DatasetError(
                    f"{base / file}:{number}: {name.strip()!r} is not in variants.txt",
                    where="dataset.root",
                    fix="get both files from one release of the dataset",
                )
            yield _Line(f"{image}.jpg", labels[name.strip()], name.strip(), part, str(base / file))


def _relative(path: str) -> str:
    """A path of a list as it is below the folder of images, in one spelling."""
    return str(PurePosixPath(path.replace("\\", "/").lstrip("/")))


register_source("coop", open_coop, _ALIASES)
