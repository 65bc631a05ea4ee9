"""How a prepared store lies on disk.

    manifest.json                      what it holds; written last: a folder without it is no store
    parts.json                         bytes and SHA-256 of every file below, by path
    index.arrow                        ids, labels, sizes and hashes: one record batch per task
    originals/<task>-<part>.arrow      encoded images as they came
    evaluation/<task>-<part>.arrow     uint8 [3, side, side] of tasks that are evaluated

Tasks are numbered in their order; a part holds 256 images of one task in the order of its ids, as one
uncompressed record batch. So a reader maps only the parts it needs, an image lies in one piece, and all
processes of a machine share it through the page cache. A part is written under another name and renamed; its
rows of the index, written after it, say that it is whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from mmap_model.data.dataset import TaskInfo
from mmap_model.errors import DatasetError
from mmap_model.plain import to_plain

FORMAT = 1
PART_IMAGES = 256

MANIFEST = "manifest.json"
PARTS = "parts.json"
INDEX = "index.arrow"
PLAN = "plan.json"
ROWS = "rows"

View = Literal["originals", "evaluation"]
VIEWS: tuple[View, ...] = ("originals", "evaluation")

INDEX_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.binary(32)),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("official_train", pa.bool_()),
    ]
)
"""``size``: bytes as encoded; ``sha256``: of those bytes; ``height`` and ``width``: upright;
``official_train``: on the published training list, null where the layout has no such lists."""


@dataclass(frozen=True, kw_only=True)
class StoredTask:
    """One task of a store.

    Attributes:
        name, classes: as in `TaskInfo`.
        class_keys: what draws are keyed by, aligned with the classes.
        images: how many.
        evaluated: whether it has the evaluation view.
    """

    name: str
    classes: tuple[str, ...]
    class_keys: tuple[str, ...]
    images: int
    evaluated: bool

    @property
    def info(self) -> TaskInfo:
        return TaskInfo(self.name, self.classes)


@dataclass(frozen=True, kw_only=True)
class StorePlan:
    """What a store is to hold; decides its content together with the images themselves.

    Attributes:
        dataset: name of the layout.
        manifest: of the source (`Source.manifest`); equal data, equal manifest.
        side: of the evaluation view, pixels.
        part_images: images of a part; the last one of a task may have fewer.
        tasks: in order.
        versions: of what decodes and writes.
    """

    dataset: str
    manifest: str
    side: int
    tasks: tuple[StoredTask, ...]
    versions: dict[str, str]
    part_images: int = PART_IMAGES

    def parts(self) -> list[tuple[int, int]]:
        """(task number, part number) of all parts, in order."""
        return [
            (number, part)
            for number, task in enumerate(self.tasks)
            for part in range(-(-task.images // self.part_images))
        ]

    def files(self, task: int, part: int) -> tuple[str, ...]:
        """Relative paths of what lies in one part."""
        views: tuple[View, ...] = VIEWS if self.tasks[task].evaluated else ("originals",)
        return tuple(part_path(view, task, part) for view in views)

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **to_plain(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> StorePlan:
        """Raises DatasetError if ``data`` was written by another version of this software."""
        if data.get("format") != FORMAT:
            raise DatasetError(
                f"format {data.get('format')!r} is not the one this version reads ({FORMAT})",
                where=where,
                fix="remove the folder and run: orchestrator data prepare",
            )
        tasks = tuple(
            StoredTask(
                name=t["name"],
                classes=tuple(t["classes"]),
                class_keys=tuple(t["class_keys"]),
                images=t["images"],
                evaluated=t["evaluated"],
            )
            for t in data["tasks"]
        )
        names = ("dataset", "manifest", "side", "versions", "part_images")
        return cls(tasks=tasks, **{name: data[name] for name in names})


def part_path(view: View, task: int, part: int) -> str:
    """Relative path of one part."""
    return f"{view}/{task}-{part:06d}.arrow"


def rows_path(task: int, part: int) -> str:
    """Relative path of a part's rows of the index, while the store is being written."""
    return f"{ROWS}/{task}-{part:06d}.arrow"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
