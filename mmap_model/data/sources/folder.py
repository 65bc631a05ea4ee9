"""Any ``<root>/<domain>/<class>/<image>`` tree: every domain is a task, with its own classes.

A domain may be divided into ``train``, ``val`` and ``test`` folders of classes; they are taken together, and
``dataset.test_source: official`` keeps to the division.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mmap_model.data.dataset import DatasetSpec, OfficialSplit, TaskInfo, choose_tasks
from mmap_model.data.faults import Fault
from mmap_model.data.sources.files import FileSource, FileTask, ImageFile, file_task, image_root, readable
from mmap_model.data.sources.listing import (
    TESTED,
    USUAL,
    image_files,
    named,
    parts_of,
    strays,
    subfolders,
)
from mmap_model.data.sources.registry import register_source
from mmap_model.data.sources.shape import check_shape, looks_like

SHAPE = ", laid out as <root>/<domain>/<class>/<image>"


def open_folder(spec: DatasetSpec) -> FileSource:
    """Domains and classes are the sorted folder names; ``_`` in a class name reads as a space."""
    root = image_root(spec, SHAPE)
    domains = subfolders(root)
    chosen = choose_tasks(spec, domains) if domains else ()
    check_shape(root, chosen, spec)
    faults = [*strays(root, "")]
    tasks = [_list(root, domain, faults) for domain in chosen]
    return FileSource("folder", root, tasks, faults)


def _list(root: Path, domain: str, faults: list[Fault]) -> FileTask:
    parts = parts_of(root / domain)
    images: dict[str, list[ImageFile]] = {}
    tested: set[str] = set()
    empty: list[Fault] = []
    for part in parts:
        place = f"{domain}/{part}" if part else domain
        faults += strays(root, place, domain)
        for folder in subfolders(root / place):
            own = images.setdefault(folder, [])
            found = named(image_files(root, f"{place}/{folder}", faults, domain), part, own)
            own += found
            if part.lower() in TESTED:
                tested.update(image.path for image in found)
    for folder in [folder for folder, found in images.items() if not found]:
        del images[folder]
        problem = f"{folder} holds no image ({USUAL}, or such content)"
        empty.append(Fault("empty_class", problem, str(root / domain / folder), domain))
    if not images:
        problem = f"{domain} holds no class folder with images: {looks_like(root / domain)}"
        empty = [Fault("empty_class", problem, str(root / domain), domain)]
    faults += empty
    folders: dict[str, str] = {}
    for folder in sorted(images):
        name = readable(folder)
        if name in folders:
            problem = f"another folder of {root / domain} has the same name once _ reads as a space"
            faults.append(Fault("same_class", problem, str(root / domain / folder), domain))
        else:
            folders[name] = folder
    classes = tuple(folders)
    ordered = [sorted(images[folder], key=lambda image: image.name) for folder in folders.values()]
    task = file_task(TaskInfo(domain, classes), classes, [*folders.values()], ordered)
    if not tested or len(tested) == len(task.paths):
        return task
    in_test = np.array([path in tested for path in task.paths], bool)
    return replace(task, official=OfficialSplit(np.flatnonzero(~in_test), np.flatnonzero(in_test)))


register_source("folder", open_folder)
