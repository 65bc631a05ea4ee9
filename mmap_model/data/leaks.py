"""Images on which one seed or split of a study is tested while another trains or validates on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmap_model.configuration import Split
from mmap_model.data.draws import Draw

Where = tuple[Split, int]
"""A split and a draw seed."""


@dataclass(frozen=True)
class Leak:
    """One such image of a task, the first of ``count``.

    Attributes:
        index: of the image.
        part: what it is elsewhere.
        tested, used: where it tests, and where it trains or validates.
        count: how many images of the task leak.
    """

    index: int
    part: Literal["train", "validation"]
    tested: Where
    used: Where
    count: int


def find_leak(draws: Mapping[Where, Draw], images: int) -> Leak | None:
    """Return the first leak between the draws of one task of so many images, or None."""
    places: Sequence[Where] = list(draws)
    tested, used = np.full(images, -1), np.full(images, -1)
    for number, drawn in enumerate(draws.values()):
        tested[drawn.test] = number
        used[drawn.train] = used[drawn.validation] = number
    both = np.flatnonzero((tested >= 0) & (used >= 0))
    if not len(both):
        return None
    index = int(both[0])
    place = places[used[index]]
    part: Literal["train", "validation"] = "train" if index in draws[place].train else "validation"
    return Leak(index, part, places[tested[index]], place, len(both))
