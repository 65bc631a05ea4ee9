"""What keeps the keys of cells as they are while the software grows, and what changes them.

A key is the hash of everything that decides a cell's numbers. Two rules let old results stay valid:

- A field that is added to a dataclass which enters keys (``Cell``, ``Recipe``, a method's ``Settings``, …) is
  declared with ``added_field``. At its default it is left out of every plain form, so keys, names of rows
  and records are those of the version before it came.
- A change of the numbers themselves (a mended rule of the draws, say) is a ``Revision``. It enters the keys
  of the cells to which it applies and of no others, and their records say which ones they were trained with.

Imports nothing, so that whatever has fields or keys can use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mmap_model.cells import Cell

T = TypeVar("T")

_ADDED = "left out at its default"


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A change after which the same cell has other numbers.

    Attributes:
        name: what changed; the same for all its numbers.
        number: counts from 2; 1 is how it was at first and enters no key.
        reason: one sentence for people whose earlier results no longer count.
        applies: True for cells whose numbers may differ from those of the number before.
    """

    name: str
    number: int
    reason: str
    applies: Callable[[Cell], bool]


DRAWS = Revision(
    name="draws",
    number=2,
    reason="test images were drawn for each seed, so one seed's were training and validation images of "
    "others; now a class has one test block for all seeds and splits",
    applies=lambda cell: cell.protocol != "paper" and cell.test_images == "drawn",
)

CROPS = Revision(
    name="crops",
    number=2,
    reason="training crops of images with a side of 4 times the backbone's image size or more came from "
    "shrunk copies and were blurred; now they are as sharp as of the images themselves",
    applies=lambda cell: (
        cell.large_images
        and cell.kind != "untrained"
        and cell.configuration.method != "zero_shot"
        and cell.configuration.recipe.augment
    ),
)

REVISIONS: tuple[Revision, ...] = (DRAWS, CROPS)
"""All revisions. Of those of one name that apply to a cell the highest number counts."""


def revisions_of(cell: Cell) -> dict[str, int]:
    """Return the revisions that ``cell`` is trained with, numbers by name; empty if it never changed."""
    numbers: dict[str, int] = {}
    for revision in REVISIONS:
        if revision.applies(cell):
            numbers[revision.name] = max(revision.number, numbers.get(revision.name, 1))
    return numbers


def reasons_between(earlier: dict[str, int], later: dict[str, int]) -> list[str]:
    """Return why numbers of the revisions ``earlier`` and ``later`` do not compare; empty if they do.

    A revision that this version does not know is named by its number alone: a later version wrote it.
    """
    reasons = []
    for name in sorted({*earlier, *later}):
        old, new = earlier.get(name, 1), later.get(name, 1)
        if old == new:
            continue
        known = [r.reason for r in REVISIONS if r.name == name and min(old, new) < r.number <= max(old, new)]
        reasons += known or [f"{name} {max(old, new)} is of a later version of this software"]
    return reasons


def added_field(default: T) -> T:
    """Declare a dataclass field that came after the first records: absent from plain forms at its default.

    The default must be immutable and must never change. A test lists the fields that were there at first, so
    that a new one without this mark fails.
    """
    return dataclasses.field(default=default, metadata={_ADDED: True})


def is_left_out(field: dataclasses.Field[Any], value: Any) -> bool:
    """True if ``value`` is the default of an added field."""
    return field.metadata.get(_ADDED, False) and bool(value == field.default)
