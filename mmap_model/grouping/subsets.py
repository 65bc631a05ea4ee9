"""Exact search by dynamic programming over subsets, 3^N / 2 steps: seconds for 16 tasks.

f[c, S] is the best value of splitting the task set S into c groups (or into any number). The group T that
holds the lowest task of S is chosen first: f[c, S] = max over T of w[T] + f[c - 1, S - T].
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from mmap_model.configuration import Partition

Values = npt.NDArray[np.float64]
Masks = npt.NDArray[np.int64]


class GroupValues(Protocol):
    """Values of single groups."""

    def masks(self) -> Values:
        """Of all groups as bit masks, [2^N]."""


def solve(
    weigh: GroupValues, tasks: int, groups: int | None, tolerance: float
) -> tuple[Partition, Partition | None]:
    """The best partition and the best of the others; ties as `best_partition` says.

    A small charge per group, below the tolerance in sum, lets ties fall to fewer groups.
    """
    charge = tolerance / tasks
    weights = weigh.masks() - charge
    weights[0] = 0.0
    everything = (1 << tasks) - 1
    best = _fill(weights, tasks, groups)
    first = _walk(best, weights, everything, len(best) - 1, charge / 4)
    second_value, branch, block = -np.inf, 0, 0
    before, remaining = 0.0, everything
    for number, chosen in enumerate(first):
        blocks, values = _options(best, weights, remaining, _layer(best, number))
        values = np.where(blocks == chosen, -np.inf, values)
        at = int(values.argmax())
        if before + values[at] > second_value + charge / 4:
            second_value, branch, block = before + float(values[at]), number, int(blocks[at])
        before += float(weights[chosen])
        remaining &= ~chosen
    if second_value == -np.inf:
        return _partition(first), None
    kept = first[:branch]
    rest = everything & ~sum(kept) & ~block
    tail = _walk(best, weights, rest, _layer(best, branch + 1), charge / 4)
    return _partition(first), _partition([*kept, block, *tail])


def _fill(weights: Values, tasks: int, groups: int | None) -> Values:
    """f [layers, 2^N]: one layer for any number of groups, else layers 0 to ``groups``."""
    layers = 1 if groups is None else groups + 1
    best = np.full((layers, 1 << tasks), -np.inf)
    best[0, 0] = 0.0
    for mask in range(1, 1 << tasks):
        blocks = _blocks(mask)
        rest = mask & ~blocks
        if groups is None:
            best[0, mask] = (weights[blocks] + best[0, rest]).max()
        else:
            best[1:, mask] = (weights[blocks] + best[:-1, rest]).max(axis=1)
    return best


def _layer(best: Values, chosen: int) -> int:
    """The layer that holds the rest of a partition after ``chosen`` of its groups."""
    return max(0, len(best) - 1 - chosen)


def _options(best: Values, weights: Values, mask: int, layer: int) -> tuple[Masks, Values]:
    """All blocks that may hold the lowest task of ``mask``, with the best total of what is in ``mask``."""
    blocks = _blocks(mask)
    previous = best[0] if len(best) == 1 else best[layer - 1]
    return blocks, weights[blocks] + previous[mask & ~blocks]


def _walk(best: Values, weights: Values, mask: int, layer: int, slack: float) -> list[int]:
    """The blocks of the best split of ``mask``; among ties the block with the lowest tasks, one by one."""
    chosen = []
    while mask:
        blocks, values = _options(best, weights, mask, layer)
        tied = blocks[values >= values.max() - slack]
        block = max((int(b) for b in tied), key=lambda b: f"{b:b}"[::-1])
        chosen.append(block)
        mask &= ~block
        layer -= 1
    return chosen


def _blocks(mask: int) -> Masks:
    """All subsets of ``mask`` that hold its lowest bit."""
    low = mask & -mask
    blocks = np.array([low], np.int64)
    rest = mask ^ low
    while rest:
        bit = rest & -rest
        blocks = np.concatenate([blocks, blocks | bit])
        rest ^= bit
    return blocks


def _partition(blocks: list[int]) -> Partition:
    return tuple(tuple(t for t in range(block.bit_length()) if block >> t & 1) for block in blocks)
