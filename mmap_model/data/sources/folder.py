"""Any ``<root>/<domain>/<class>/<image>`` tree: every domain is a task, with its own classes."""

from __future__ import annotations

from pathlib import Path

from mmap_model.data.dataset import DatasetSpec, TaskInfo, choose_tasks
from mmap_model.data.faults import Fault
from mmap_model.data.sources.files import (
    EXTENSIONS,
    FileSource,
    FileTask,
    file_task,
    image_files,
    image_root,
    readable,
    subfolders,
)
from mmap_model.data.sources.registry import register_source
from mmap_model.errors import DatasetError

SHAPE = ", laid out as <root>/<domain>/<class>/<image>"


def open_folder(spec: DatasetSpec) -> FileSource:
    """Domains and classes are the sorted folder names; ``_`` in a class name reads as a space."""
    root = image_root(spec, SHAPE)
    domains = subfolders(root)
    if not domains:
        raise DatasetError(
            f"{root} holds no domain folders",
            where="dataset.root",
            fix="lay images out as <root>/<domain>/<class>/<image>",
        )
    faults: list[Fault] = []
    tasks = [_list(root, domain, faults) for domain in choose_tasks(spec, domains)]
    return FileSource("folder", root, tasks, faults)


def _list(root: Path, domain: str, faults: list[Fault]) -> FileTask:
    folders, images, classes = [], [], []
    for folder in subfolders(root / domain):
        name = readable(folder)
        found = image_files(root, f"{domain}/{folder}")
        if name in classes:
            problem = f"another folder of {root / domain} has the same name once _ reads as a space"
            faults.append(Fault("same_class", problem, str(root / domain / folder), domain))
        elif not found:
            problem = f"{folder} holds no image ({', '.join(sorted(EXTENSIONS))})"
            faults.append(Fault("empty_class", problem, str(root / domain / folder), domain))
        else:
            folders.append(folder)
            images.append(found)
            classes.append(name)
    if not folders and not faults:
        problem = f"{domain} holds no class folder with images"
        faults.append(Fault("empty_class", problem, str(root / domain), domain))
    return file_task(TaskInfo(domain, tuple(classes)), tuple(classes), folders, images)


register_source("folder", open_folder)
