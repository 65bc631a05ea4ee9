"""Labels beside points that hide neither points nor one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

DIRECTIONS = 16
DISTANCES = (0.0, 5.0, 12.0, 22.0, 34.0)
"""From the edge of a marker to its label, in pixels at 100 dpi."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def outside(self, frame: Box) -> float:
        """The area that lies out of a frame."""
        return (self.right - self.left) * (self.top - self.bottom) - self.overlap(frame)


def place_labels(
    markers: Sequence[Box],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    obstacles: Sequence[Box] = (),
    scale: float = 1.0,
) -> list[Box]:
    """Where each marker's label goes.

    Greedy: crowded markers first, each label to the free place nearest to its marker.

    Args:
        markers: what the labels belong to; none is to be covered.
        sizes: (width, height) of each label.
        frame: the area labels should stay in.
        obstacles: what they had better not cover, such as error bars.
        scale: pixels per 1/100 inch.
    """
    placed: dict[int, Box] = {}
    for i in sorted(range(len(markers)), key=lambda i: -_crowd(markers, i)):

        def cost(box: Box, distance: float, marker: int = i) -> float:
            labels = sum(box.overlap(other) for other in placed.values())
            covered = sum(box.overlap(other) for other in markers)
            crossed = sum(box.overlap(other) for other in obstacles)
            nearest = _nearest(markers, box)
            strange = 0 if nearest == marker else 60.0
            return (
                100 * labels
                + 60 * covered
                + 5 * crossed
                + 100 * box.outside(frame)
                + strange
                + distance / scale
            )

        candidates = [
            (cost(box, distance), box)
            for distance in (scale * d for d in DISTANCES)
            for box in _around(markers[i], sizes[i], distance)
        ]
        placed[i] = min(candidates, key=lambda pair: pair[0])[1]
    return [placed[i] for i in range(len(markers))]


def _around(marker: Box, size: tuple[float, float], distance: float) -> list[Box]:
    """Label boxes that touch the marker's circle, widened by ``distance``, in every direction."""
    x, y = (marker.left + marker.right) / 2, (marker.bottom + marker.top) / 2
    radius = (marker.right - marker.left) / 2 + distance
    width, height = size
    boxes = []
    for k in range(DIRECTIONS):
        angle = 2 * math.pi * k / DIRECTIONS
        middle_x = x + (radius + width / 2) * math.cos(angle)
        middle_y = y + (radius + height / 2) * math.sin(angle)
        boxes.append(
            Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2)
        )
    return boxes


def _crowd(markers: Sequence[Box], i: int) -> float:
    """How much other markers press on one."""
    return sum(1 / (1 + _distance(markers[i], other)) for j, other in enumerate(markers) if j != i)


def _nearest(markers: Sequence[Box], box: Box) -> int:
    return min(range(len(markers)), key=lambda i: _distance(markers[i], box))


def _distance(a: Box, b: Box) -> float:
    """Between the edges of two rectangles; 0 if they touch."""
    across = max(a.left - b.right, b.left - a.right, 0.0)
    along = max(a.bottom - b.top, b.bottom - a.top, 0.0)
    return math.hypot(across, along)
