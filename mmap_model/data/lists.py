"""Fixed lists of images in place of draws, read and written.

``<folder>/<task>/<part>_<split>[_seed<draw seed>].txt`` with part ``train``, ``validation`` or ``test`` and
split ``6-shot`` or ``10`` (per cent); each line is ``<path> <label>``. The lists of VMTL (Shen et al.,
NeurIPS 2021), which the paper's protocol goes back to, lie like this: ``Real_World/train_10.txt``. Paths may
be of another machine: images are found by the last three components, whatever the case and spaces of the
first two. Labels only have to go with classes one to one. A list without a seed serves every seed.

What lists leave open is filled in (`mmap_model.data.draws`): without a test list all images test that do not
train or validate. Lists of several seeds or splits may therefore test on what others train on, as published
ones do. That is refused under the ``search`` protocol: see `check_lists`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmap_model.configuration import Split
from mmap_model.data.dataset import Dataset, FixedParts
from mmap_model.data.draws import Draw
from mmap_model.data.leaks import Where, find_leak
from mmap_model.data.sources.base import Source, loose
from mmap_model.errors import DatasetError
from mmap_model.paths import expanded, is_folder
from mmap_model.plain import content_key
from mmap_model.text_files import read_text

Indices = npt.NDArray[np.int64]

PARTS = ("train", "validation", "test")

SHAPE = "lay lists out as <lists>/<task>/train_6-shot_seed1.txt, or train_10.txt for 10 % whatever the seed"


class FixedLists:
    """The lists of one folder, on the images of one source.

    Raises:
        DatasetError: no such folder, or none in it for a task.
    """

    def __init__(self, folder: str, source: Source) -> None:
        root = expanded(folder)
        if not is_folder(root):
            raise DatasetError(f"{root} is not a folder", where="dataset.lists", fix=SHAPE)
        self._source = source
        here = {source.task_called(p.name): p for p in sorted(root.iterdir()) if p.is_dir()}
        missing = [task.name for task in source.tasks if task.name not in here]
        if missing:
            raise DatasetError(
                f"{root} has no folder of lists for {', '.join(missing)}", where="dataset.lists", fix=SHAPE
            )
        self._folders = {task.name: here[task.name] for task in source.tasks}
        self._parts: dict[tuple[str, Split, int], FixedParts] = {}

    @cached_property
    def key(self) -> str:
        """Hash of all lists of the tasks, the same whatever machine their paths are of."""
        digests = []
        for task, folder in self._folders.items():
            for path in sorted(folder.glob("*.txt")):
                images = sorted(_in_key(image) for _, image, _ in _lines(path))
                digests.append([task, path.name, hashlib.sha256("\n".join(images).encode()).hexdigest()])
        return content_key(digests)

    def parts(self, task: str, split: Split, draw_seed: int) -> FixedParts:
        """What the lists say of a task, a split and a seed.

        Raises:
            DatasetError: no training list, an image that is not there, or one in two parts.
        """
        asked = (task, split, draw_seed)
        if asked not in self._parts:
            self._parts[asked] = self._read_parts(*asked)
        return self._parts[asked]

    def path(self, part: str, task: str, split: Split, draw_seed: int) -> Path | None:
        """The list of a part of a task at a split and a seed, or None where no list says."""
        names = (list_name(part, split, draw_seed), list_name(part, split))
        paths = (self._folders[task] / name for name in names)
        return next((path for path in paths if path.is_file()), None)

    def _read_parts(self, task: str, split: Split, draw_seed: int) -> FixedParts:
        folder, found = self._folders[task], {}
        for part in PARTS:
            path = self.path(part, task, split, draw_seed)
            if path is not None:
                found[part] = self._read(path, task)
        if "train" not in found:
            wanted = f"{list_name('train', split, draw_seed)} nor {list_name('train', split)}"
            raise DatasetError(f"{folder} has neither {wanted}", where="dataset.lists", fix=SHAPE)
        images, counts = np.unique(np.concatenate(list(found.values())), return_counts=True)
        if (counts > 1).any():
            twice = self._source.ids(task)[int(images[counts > 1][0])]
            raise DatasetError(
                f"{twice} is in two of the lists {', '.join(found)} of {split.label} in {folder}",
                where="dataset.lists",
                fix="keep it in one of them",
            )
        return FixedParts(found["train"], found.get("validation"), found.get("test"))

    @cached_property
    def _places(self) -> Mapping[str, Mapping[tuple[str, str], int]]:
        """By task, indices by class folder and image as written, and by loose ones that no two share."""
        found: dict[str, dict[tuple[str, str], int]] = {}
        for task in self._source.tasks:
            ids = self._source.ids(task.name)
            places = [_place(image) for image in ids]
            often = {place for place, times in Counter(places).items() if times > 1}
            own = found[task.name] = {p: n for n, p in enumerate(places) if p not in often}
            own.update({_last_three(image)[1:]: n for n, image in enumerate(ids)})
        return found

    def _read(self, path: Path, task: str) -> Indices:
        places, labels = self._places[task], self._source.labels(task)
        class_of: dict[str, int] = {}
        label_of: dict[int, str] = {}
        found: set[int] = set()
        for number, image, label in _lines(path):
            domain = self._source.task_called(_last_three(image)[0]) or task
            if domain != task:
                raise _wrong(path, number, f"{image} is of {domain}, not of {task}", "swap the lists")
            index = places.get(_last_three(image)[1:], places.get(_place(image)))
            if index is None:
                raise _wrong(path, number, f"{task} has no image {image}", "check dataset.root")
            if index in found:
                raise _wrong(path, number, f"{image} is listed twice", "drop one of the lines")
            own = int(labels[index])
            if class_of.setdefault(label, own) != own or label_of.setdefault(own, label) != label:
                raise _wrong(
                    path, number, f"label {label} of {image} does not go with its class", "correct it"
                )
            found.add(index)
        return np.array(sorted(found), np.int64)


def check_lists(
    dataset: Dataset, lists: FixedLists | None, draws: Mapping[Where, Mapping[str, Draw]], *, several: str
) -> None:
    """Refuse fixed parts by which one seed or split tests on what another trains or validates with.

    Args:
        dataset: whose images they are.
        lists: where they come from, to name the files.
        draws: of every split and seed of a study, by task.
        several: what may be left out so that they do not meet, for the message.

    Raises:
        DatasetError: naming the first such image, its two lists and what to change.
    """
    for task in dataset.tasks:
        of_task = {where: tasks[task.name] for where, tasks in draws.items()}
        leak = find_leak(of_task, len(dataset.labels(task.name)))
        if leak is None:
            continue
        tests, used = (
            _named(lists, part, task.name, where)
            for part, where in (("test", leak.tested), (leak.part, leak.used))
        )
        does = "trains" if leak.part == "train" else "validates"
        others = f"; {leak.count - 1} more images of {task.name!r} do alike" if leak.count > 1 else ""
        raise DatasetError(
            f"{dataset.sample_ids(task.name)[leak.index]} tests by {tests} and {does} by {used}, so the test "
            f"images would be seen{others}",
            where="dataset.lists",
            fix=f"leave it out of one of them (a test list says which images test), {several}, or use "
            "protocol: clap or paper, which choose nothing",
        )


def write_lists(
    folder: Path, dataset: Dataset, task: str, drawn: Draw, split: Split, draw_seed: int
) -> list[Path]:
    """Write one task's draw as lists that `FixedLists` reads back; returns their paths.

    Raises:
        DatasetError: a task of the dataset whose name cannot be that of a folder; nothing is written.
    """
    for name in (known.name for known in dataset.tasks):
        if name in ("", ".", "..") or {"/", "\0"} & {*name}:
            raise DatasetError(
                f"task {name!r} cannot have lists: its name cannot be that of a folder",
                where="dataset.tasks",
                fix="rename it where the images are listed, or leave it out",
            )
    ids, labels = dataset.sample_ids(task), dataset.labels(task)
    written = []
    for part in PARTS:
        path = folder / task / list_name(part, split, draw_seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (f"{ids[index]} {labels[index]}\n" for index in getattr(drawn, part).tolist())
        path.write_text("".join(lines), encoding="utf-8")
        written.append(path)
    return written


def list_name(part: str, split: Split, draw_seed: int | None = None) -> str:
    """``train_6-shot_seed1.txt``, ``test_10.txt``."""
    of = split.label.removesuffix("%")
    return f"{part}_{of}.txt" if draw_seed is None else f"{part}_{of}_seed{draw_seed}.txt"


def _named(lists: FixedLists | None, part: str, task: str, where: Where) -> str:
    """The list that a part comes from, or of which it is the rest."""
    split, seed = where
    at = f"{split.label} seed {seed}"
    if lists is None:
        return f"the fixed {part} images of {at}"
    path = lists.path(part, task, split, seed)
    if path is None and part == "validation":
        path = lists.path("test", task, split, seed)
    left = "" if path is not None else "what is left by "
    return f"{left}{path or lists.path('train', task, split, seed)} ({at})"


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, path and label of every line that is not blank."""
    for number, line in enumerate(read_text(path, "dataset.lists", DatasetError).split("\n"), 1):
        if line.strip():
            image, _, label = line.strip().rpartition(" ")
            if not image:
                raise _wrong(path, number, f"{line.strip()!r} is not <path> <label>", "correct the line")
            yield number, image, label


def _last_three(path: str) -> tuple[str, str, str]:
    """Domain, class folder and image of a path; what it does not have is empty."""
    parts = ["", "", *path.replace("\\", "/").split("/")]
    return parts[-3], parts[-2], parts[-1]


def _place(path: str) -> tuple[str, str]:
    _, folder, image = _last_three(path)
    return loose(folder), unicodedata.normalize("NFC", image)


def _in_key(path: str) -> str:
    """A listed image in the hash of lists: in the form that earlier records have in their keys."""
    _, folder, image = _last_three(path)
    folder = re.sub(r"[\W_]+", "", folder).casefold()
    return f"{folder}/{image}"


def _wrong(path: Path, line: int, problem: str, fix: str) -> DatasetError:
    return DatasetError(f"{path}:{line}: {problem}", where="dataset.lists", fix=fix)
