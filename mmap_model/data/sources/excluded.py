"""The record of images that are left out: written by ``data check --fix``, obeyed by every source.

A JSON file beside the images; nothing is ever deleted. An entry holds for the file as it was: one that has
another size by now was replaced, and is taken back.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmap_model.data.dataset import DatasetSpec
from mmap_model.data.faults import Fault
from mmap_model.errors import DatasetError
from mmap_model.paths import expanded
from mmap_model.text_files import read_json

FILE = "excluded.json"
MISSING = -1
"""The size of an image that a list names and that is not there."""

_FORMAT = 1


def excluded_path(spec: DatasetSpec) -> Path | None:
    """Where the record of a dataset lies: ``dataset.excluded``, else with the images."""
    if spec.excluded is not None:
        return expanded(spec.excluded)
    if spec.root is None:
        return None
    root = expanded(spec.root)
    return root / FILE if root.is_dir() else root.with_name(f"{root.name}.{FILE}")


def read_excluded(spec: DatasetSpec) -> dict[str, int]:
    """Bytes by id of the images left out.

    Raises:
        DatasetError: the record cannot be read, or ``dataset.excluded`` names none.
    """
    path = excluded_path(spec)
    if path is None or not path.exists():
        if spec.excluded is not None:
            raise DatasetError(
                f"{path} does not exist", where="dataset.excluded", fix="leave it out, or data check --fix"
            )
        return {}
    return {entry["id"]: entry["size"] for entry in _entries(path)}


def add_excluded(path: Path, faults: Iterable[Fault]) -> int:
    """Add images to the record at ``path``; returns how many it had not yet."""
    entries = {entry["id"]: entry for entry in (_entries(path) if path.exists() else ())}
    before = len(entries)
    for fault in faults:
        entries[fault.id] = {
            "id": fault.id,
            "size": fault.size,
            "task": fault.task,
            "kind": fault.kind,
            "problem": fault.problem,
        }
    document = {"format": _FORMAT, "images": sorted(entries.values(), key=lambda entry: entry["id"])}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, suffix=".partial", delete=False, encoding="utf-8"
    ) as file:
        json.dump(document, file, indent=1, ensure_ascii=False)
    Path(file.name).chmod(0o666 & ~_umask())
    Path(file.name).replace(path)
    return len(entries) - before


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        document = read_json(path, "dataset.excluded", DatasetError)
    except DatasetError as error:
        problem = f"{path} is not a record of excluded images: {error.problem}"
        raise DatasetError(problem, where="dataset.excluded", fix=error.fix) from error
    try:
        entries: list[dict[str, Any]] = document["images"]
        assert document["format"] == _FORMAT
        assert all(isinstance(e["id"], str) and isinstance(e["size"], int) for e in entries)
    except (KeyError, TypeError, AssertionError) as error:
        raise DatasetError(
            f"{path} is not a record of excluded images: {error or type(error).__name__}",
            where="dataset.excluded",
            fix="remove it and run data check --fix again",
        ) from error
    return entries


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
