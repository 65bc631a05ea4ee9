"""DomainNet and miniDomainNet: image folders by domain, and published lists of training and test images.

``<root>/<domain>/<class>/<image>`` and ``<root>/splits[_mini]/<domain>_{train,test}.txt`` with one
``<domain>/<class>/<image> <label>`` per line. Labels are the files'; that they name the same classes in all
lists is checked, not assumed. Only images on a list count, so miniDomainNet reads the folders of DomainNet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmap_model.data.dataset import DatasetSpec, OfficialSplit, TaskInfo, choose_tasks
from mmap_model.data.faults import Fault
from mmap_model.data.sources.files import (
    FileSource,
    FileTask,
    image_root,
    readable,
)
from mmap_model.data.sources.listing import image_sizes, subfolders
from mmap_model.data.sources.registry import register_source
from mmap_model.errors import DatasetError
from mmap_model.text_files import read_text

PARTS = ("train", "test")


@dataclass(frozen=True)
class Lists:
    """One dataset that is given by lists.

    Attributes:
        name: its registered name.
        title: its name in messages.
        folders: where lists may lie below the root, the first that exists.
        domains: its tasks.
        published: images of all domains.
        complete: every domain has every class.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    domains: tuple[str, ...]
    published: int
    complete: bool

    @property
    def shape(self) -> str:
        """What the root should hold."""
        domains = self.domains
        return (
            f":\n  <root>/{domains[0]}/<class>/<image> … and so {', '.join(domains[1:])}"
            f"\n  <root>/{self.folders[0]}/{domains[0]}_train.txt, {domains[0]}_test.txt … of each domain,"
            f"\n     with lines such as: {domains[0]}/aircraft_carrier/{domains[0]}_001_000001.jpg 0"
        )

    def open(self, spec: DatasetSpec) -> FileSource:
        """Lists every image that a list names.

        Raises:
            DatasetError: a folder of images or a list is not there.
        """
        root = self._base(image_root(spec, self.shape))
        chosen = choose_tasks(spec, self.domains)
        lists = self._find(root, chosen)
        faults: list[Fault] = []
        names = _Names(faults)
        entries = {task: _read(lists[task], task, names, faults) for task in chosen}
        if self.complete:
            _check_complete(entries, names, lists, faults)
        if spec.test_source == "official":
            _check_lengths(entries, lists, faults)
        tasks = [_task(root, task, entries[task], names, lists[task], faults) for task in chosen]
        source = FileSource(self.name, root, tasks, faults)
        if spec.classes is None and len(chosen) == len(self.domains):
            source.published = self.published
        return source

    def _base(self, root: Path) -> Path:
        """The root, or the folder in it that holds lists: archives bring one of their own."""
        places = [root, *(root / name for name in subfolders(root))]
        return next((p for p in places if any((p / f).is_dir() for f in self.folders)), root)

    def _find(self, root: Path, chosen: Sequence[str]) -> dict[str, tuple[Path, Path]]:
        """The lists of each domain. One error names everything that is missing."""
        folder = next((root / f for f in self.folders if (root / f).is_dir()), root / self.folders[0])
        found = {task: (folder / f"{task}_train.txt", folder / f"{task}_test.txt") for task in chosen}
        missing = [f"the image folder {root / task}" for task in chosen if not (root / task).is_dir()]
        missing += [f"the list {p}" for pair in found.values() for p in pair if not p.is_file()]
        if missing:
            raise DatasetError(
                f"{self.title} lacks {', '.join(missing)}",
                where="dataset.root",
                fix=f"lay it out as{self.shape}",
            )
        return found


@dataclass
class _Entries:
    """What the lists of one domain say: labels by path, and which paths are of the test list."""

    labels: dict[str, int] = field(default_factory=dict)
    test: set[str] = field(default_factory=set)


class _Names:
    """Classes by label and labels by class, over all lists: both ways one to one."""

    def __init__(self, faults: list[Fault]) -> None:
        self.by_label: dict[int, str] = {}
        self._labels: dict[str, int] = {}
        self._faults = faults

    def agree(self, folder: str, label: int, task: str, where: str) -> bool:
        known, number = self.by_label.setdefault(label, folder), self._labels.setdefault(folder, label)
        if (known, number) != (folder, label):
            said = f"label {label} is {known!r}" if known != folder else f"{folder!r} has label {number}"
            problem = f"says that label {label} is {folder!r}; before, {said}"
            self._faults.append(Fault("label_conflict", problem, where, task))
        return (known, number) == (folder, label)


def _read(lists: tuple[Path, Path], task: str, names: _Names, faults: list[Fault]) -> _Entries:
    entries = _Entries()
    for part, path in zip(PARTS, lists, strict=True):
        for number, line in enumerate(read_text(path, "dataset.root", DatasetError).split("\n"), 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            image, _, label = line.strip().rpartition(" ")
            image = image.strip().replace("\\", "/")
            parts = image.split("/")
            if len(parts) != 3 or not _is_label(label):
                problem = f"{line.strip()!r} is not <domain>/<class>/<image> <label>"
                faults.append(Fault("bad_line", problem, where, task))
                continue
            if parts[0] != task:
                problem = f"lists images of {parts[0]!r}, such as {image}, not of {task!r}"
                faults.append(Fault("swapped_lists", problem, where, task))
                break
            if image in entries.labels:
                problem = f"{image} is listed a second time"
                faults.append(Fault("listed_twice", problem, where, task))
            elif names.agree(parts[1], int(label), task, where):
                entries.labels[image] = int(label)
                if part == "test":
                    entries.test.add(image)
    return entries


def _is_label(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _check_complete(
    entries: Mapping[str, _Entries],
    names: _Names,
    lists: Mapping[str, tuple[Path, Path]],
    faults: list[Fault],
) -> None:
    for task, own in entries.items():
        if any(fault.kind == "swapped_lists" and fault.task == task for fault in faults):
            continue
        for label in sorted(names.by_label.keys() - set(own.labels.values())):
            name = f"{names.by_label[label]!r} (label {label})"
            problem = f"domain {task!r} has no line of class {name}, which other domains have"
            where = " and ".join(map(str, lists[task]))
            faults.append(Fault("missing_class", problem, where, task))


def _check_lengths(
    entries: Mapping[str, _Entries], lists: Mapping[str, tuple[Path, Path]], faults: list[Fault]
) -> None:
    """About 70 % of each domain train: a test list that is longer than its training list is in its place."""
    for task, own in entries.items():
        if len(own.test) > len(own.labels) - len(own.test) > 0:
            problem = f"is longer than {lists[task][0].name}: training and test lists seem swapped"
            faults.append(Fault("swapped_lists", problem, str(lists[task][1]), task))


def _task(
    root: Path,
    task: str,
    entries: _Entries,
    names: _Names,
    lists: tuple[Path, Path],
    faults: list[Fault],
) -> FileTask:
    sizes: dict[str, int] = {}
    for label in sorted(set(entries.labels.values())):
        sizes.update(image_sizes(root, f"{task}/{names.by_label[label]}"))
    for image in entries.labels:
        if image not in sizes:
            where = str(lists[image in entries.test])
            faults.append(Fault("missing_file", f"{image} is listed and not there", where, task, image))
    paths = sorted((p for p in entries.labels if p in sizes), key=lambda p: (entries.labels[p], p))
    given = np.array([entries.labels[p] for p in paths], np.int64)
    present = np.unique(given)
    classes = tuple(readable(names.by_label[label]) for label in present.tolist())
    in_test = np.array([p in entries.test for p in paths], bool)
    return FileTask(
        info=TaskInfo(task, classes),
        keys=classes,
        ids=paths,
        labels=np.searchsorted(present, given),
        sizes=np.array([sizes[p] for p in paths], np.int64),
        paths=paths,
        official=OfficialSplit(np.flatnonzero(~in_test), np.flatnonzero(in_test)),
    )


MINI_DOMAINNET = Lists(
    name="mini_domainnet",
    title="miniDomainNet",
    folders=("splits_mini",),
    domains=("clipart", "painting", "real", "sketch"),
    published=140_006,
    complete=True,
)

DOMAINNET = Lists(
    name="domainnet",
    title="DomainNet",
    folders=("splits",),
    domains=("clipart", "infograph", "painting", "quickdraw", "real", "sketch"),
    published=586_575,
    complete=False,
)

for _lists in (MINI_DOMAINNET, DOMAINNET):
    register_source(_lists.name, _lists.open)
