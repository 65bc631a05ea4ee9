"""Tasks whose groups are known: three styles and one conflict, each in two tasks of other classes.

What two tasks want of one prompt follows from how their images are drawn and what they call them. So a group
is one way of drawing and naming, and its two tasks are two halves of the classes. What would make other
groups: tasks of one half share class names across groups, and the groups ``photo`` and ``exchanged`` draw
alike. In ``exchanged`` the names of neighbouring classes are exchanged (a picture of the sun is called a
cloud, of a cloud a sun): whatever makes a prompt better there makes it worse elsewhere.

`groups.json` is the list of record; the true partition follows from it and is known to nothing that trains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmap_model.symbols.canvas import IMAGE_SIZE
from mmap_model.symbols.glyphs import BENCHMARK_GLYPHS, Glyph
from mmap_model.symbols.renderer import render


@dataclass(frozen=True)
class GroupedTask:
    """One task of the benchmark with known groups.

    Attributes:
        name: ``sketch_2`` is the second half of the classes in the group ``sketch``.
        style: how its images are drawn, one of ``DOMAINS``.
        group: its true group, counted from 0.
        classes: names in the order of labels.
        drawn: code points of what the images of each label show.
    """

    name: str
    style: str
    group: int
    classes: tuple[str, ...]
    drawn: tuple[int, ...]


def _read() -> tuple[tuple[GroupedTask, ...], int, int]:
    record = json.loads((Path(__file__).parent / "groups.json").read_text(encoding="utf-8"))
    each = record["classes_per_task"]
    tasks = []
    for number, group in enumerate(record["groups"]):
        for half in range(record["halves"]):
            named = BENCHMARK_GLYPHS[half * each : (half + 1) * each]
            drawn = [named[label ^ 1] if group["exchanged"] else named[label] for label in range(each)]
            tasks.append(
                GroupedTask(
                    f"{group['name']}_{half + 1}",
                    group["style"],
                    number,
                    tuple(glyph.name for glyph in named),
                    tuple(glyph.codepoint for glyph in drawn),
                )
            )
    return tuple(tasks), record["image_seed"], record["images_per_class"]


GROUPED_TASKS, GROUPS_SEED, GROUPED_IMAGES_PER_CLASS = _read()
_GLYPHS: dict[int, Glyph] = {glyph.codepoint: glyph for glyph in BENCHMARK_GLYPHS}


def grouped_images(task: GroupedTask) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All images [n, 32, 32, 3] of a task with their labels [n], ordered by label.

    No image is one of ``symbols``, and none is in two tasks.
    """
    each = GROUPED_IMAGES_PER_CLASS
    images = np.empty((len(task.drawn) * each, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for label, codepoint in enumerate(task.drawn):
        for index in range(each):
            seed = (GROUPS_SEED, task.group, index)
            images[label * each + index] = render(_GLYPHS[codepoint], task.style, seed)
    return images, np.repeat(np.arange(len(task.drawn)), each)


def known_partition(tasks: Sequence[str] | None = None) -> tuple[tuple[int, ...], ...]:
    """The true groups of tasks, as indices into ``tasks`` (names; None: all of them), in canonical order.

    Raises:
        KeyError: a name that is not among the tasks.
    """
    group_of = {task.name: task.group for task in GROUPED_TASKS}
    groups: dict[int, list[int]] = {}
    for index, name in enumerate([*group_of] if tasks is None else tasks):
        groups.setdefault(group_of[name], []).append(index)
    return tuple(tuple(members) for members in groups.values())


def groups_sha256(images: Sequence[npt.NDArray[np.uint8]] | None = None) -> str:
    """SHA-256 over tasks, names, true groups and the raw bytes of all images.

    Args:
        images: of every task in order; None: render them (some 6 s on one core).
    """
    digest = hashlib.sha256()
    for number, task in enumerate(GROUPED_TASKS):
        digest.update(json.dumps(asdict(task), sort_keys=True).encode())
        digest.update((grouped_images(task)[0] if images is None else images[number]).tobytes())
    return digest.hexdigest()
