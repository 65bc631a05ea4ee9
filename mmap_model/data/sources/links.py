"""Symbolic links among images: they may lead anywhere on the machine, which not everybody wants."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mmap_model.data.dataset import DatasetSpec
from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Source
from mmap_model.paths import expanded


def links_outside(source: Source, spec: DatasetSpec) -> Iterator[Fault]:
    """Images whose file does not lie below ``dataset.root`` once links are followed.

    The root itself may be a link: it is what the user named.
    """
    root = Path(os.path.realpath(expanded(spec.root or "")))
    base = root if root.is_dir() else root.parent
    folders: dict[Path, bool] = {}
    for task in source.tasks:
        for index, image in enumerate(source.ids(task.name)):
            path = source.path(task.name, index)
            if path is None:
                continue
            if path.parent not in folders:
                folders[path.parent] = _below(base, path.parent)
            # Asking for the folder once and for each file's own link is quicker than following each path.
            if folders[path.parent] if not path.is_symlink() else _below(base, path):
                continue
            problem = f"{image} lies outside of the root, at {os.path.realpath(path)}"
            size = int(source.sizes(task.name)[index])
            yield Fault("outside", problem, source.location(task.name, index), task.name, image, size)


def _below(base: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(base)
