"""Packing the class prompts of several tasks, so that nothing common and no padding is computed.

Legend: T tasks, C classes (the most of any task), M common words, W rows of Q tokens per task, Z ends of
text in a row (at most).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROW_STEP = 8
"""Row widths tried are multiples of this (GPU kernels like it)."""


@dataclass(frozen=True)
class Packing:
    """Where each token of each class goes. SOS is left out: it is a constant of the backbone.

    Attributes:
        common: token ids of the words before the class name, [T, M].
        rows: token ids of the rest of the classes, several in a row, [T, W, Q]; zero where padded.
        positions: of ``rows`` in their own text, where SOS has position 0.
        same_class: bool [T, W, Q, Q], True where the key is the query itself or an earlier token of its
            class.
        ends: places of the ends of text within each row [T, W, Z]; zero where padded.
        classes: place of each class among the W·Z ends, [T, C]; zero where padded.
        class_mask: bool [T, C], False where a task has fewer classes.
    """

    common: Tensor
    rows: Tensor
    positions: Tensor
    same_class: Tensor
    ends: Tensor
    classes: Tensor
    class_mask: Tensor

    @property
    def ends_among_rows(self) -> Tensor:
        """Place of each class's end of text among the W·Q tokens of its task, [T, C]."""
        row_tokens, end_count = self.rows.shape[2], self.ends.shape[2]
        return self.classes // end_count * row_tokens + self.ends.flatten(1).gather(1, self.classes)

    @property
    def end_classes(self) -> Tensor:
        """Class of each end, [T, W·Z]; zero where padded."""
        found = torch.zeros_like(self.ends).flatten(1)
        for task, (places, real) in enumerate(zip(self.classes, self.class_mask, strict=True)):
            found[task, places[real]] = torch.arange(int(real.sum()))
        return found


def pack(texts: Sequence[Sequence[Sequence[int]]], *, width: int, context: int) -> Packing:
    """Pack the classes of every task.

    Args:
        texts: token ids per task and class, from SOS to the end of text.
        width: D, to weigh attention against everything else.
        context: keys besides a row's own and the common words (SOS and prompts).
    """
    common = min(_common_prefix(task) for task in texts)
    tails = [[list(text[1 + common :]) for text in task] for task in texts]
    lengths = [[len(tail) for tail in task] for task in tails]
    row_tokens = _row_tokens(lengths, width=width, context=context + common)
    placed = [_first_fit(task, row_tokens) for task in lengths]

    tasks, most = len(texts), max(map(len, texts))
    row_count = max(len(rows) for rows in placed)
    end_count = max(len(row) for rows in placed for row in rows)
    packing = Packing(
        common=torch.tensor([task[0][1 : 1 + common] for task in texts], dtype=torch.int64),
        rows=torch.zeros(tasks, row_count, row_tokens, dtype=torch.int64),
        positions=torch.zeros(tasks, row_count, row_tokens, dtype=torch.int64),
        same_class=torch.eye(row_tokens, dtype=torch.bool).repeat(tasks, row_count, 1, 1),
        ends=torch.zeros(tasks, row_count, end_count, dtype=torch.int64),
        classes=torch.zeros(tasks, most, dtype=torch.int64),
        class_mask=torch.zeros(tasks, most, dtype=torch.bool),
    )
    for t, rows in enumerate(placed):
        packing.class_mask[t, : len(texts[t])] = True
        for w, row in enumerate(rows):
            first = 0
            for z, c in enumerate(row):
                span = slice(first, first + lengths[t][c])
                packing.rows[t, w, span] = torch.tensor(tails[t][c])
                packing.positions[t, w, span] = torch.arange(lengths[t][c]) + 1 + common
                packing.same_class[t, w, span, span] = torch.ones(lengths[t][c], lengths[t][c]).tril().bool()
                packing.ends[t, w, z] = span.stop - 1
                packing.classes[t, c] = w * end_count + z
                first = span.stop
    return packing


def _common_prefix(texts: Sequence[Sequence[int]]) -> int:
    """Words that all texts of a task begin with, SOS not counted; an end of text is never among them."""
    shortest = min(map(len, texts)) - 2
    for place in range(shortest):
        if len({text[1 + place] for text in texts}) > 1:
            return place
    return shortest


def _row_tokens(lengths: Sequence[Sequence[int]], *, width: int, context: int) -> int:
    """Q with the fewest multiplications: wide rows waste attention, narrow ones leave gaps."""
    longest = max(max(task) for task in lengths)
    total = max(sum(task) for task in lengths)
    first = -(-longest // ROW_STEP) * ROW_STEP

    def cost(q: int) -> int:
        rows = max(len(_first_fit(task, q)) for task in lengths)
        return rows * (q * (12 * width + 2 * (context + q)) + 2 * context)

    return min(range(first, max(first, min(total, 256)) + ROW_STEP, ROW_STEP), key=cost)


def _first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of ``lengths`` in rows of at most ``capacity``, longest first into the first row with room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        row = next((w for w, left in enumerate(room) if left >= lengths[index]), None)
        if row is None:
            rows.append([])
            room.append(capacity)
            row = len(rows) - 1
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows
