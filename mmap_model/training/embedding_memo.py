"""What the plain image tower made of images, kept for the cells that follow in this process.

A study tries many rates, and many methods, on the same views of the same images: where a method leaves the
image tower alone, the tower is nearly all that its training costs, and says the same every time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mmap_model.configuration import Recipe
from mmap_model.training.batches import EpochLength
from mmap_model.training.replicate import Replicate, Stopwatch

KEPT_BYTES = 512 << 20
"""Of embeddings, at most, that one memo holds."""


@dataclass(frozen=True)
class KeptEmbeddings:
    """Embeddings, and what they took.

    Attributes:
        tensors: as whoever keeps them lays them out.
        seconds: by phase of a cell, all replicates together.
    """

    tensors: Sequence[Tensor]
    seconds: Mapping[str, float]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


class EmbeddingMemo:
    """Embeddings by the batch of cells that they are of, and by part; of one backbone and one dataset.

    What was asked for longest ago makes way for what is new, all parts of a batch at once. A batch of cells
    never drives out its own: what it has beyond the limit is computed every time.

    Args:
        limit: in bytes.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit, self._bytes = limit, 0
        self._kept: OrderedDict[Hashable, dict[Hashable, KeptEmbeddings]] = OrderedDict()

    def get(self, batch: Hashable, part: Hashable) -> KeptEmbeddings | None:
        """What is kept; None for nothing."""
        if batch not in self._kept:
            return None
        self._kept.move_to_end(batch)
        return self._kept[batch].get(part)

    def has_room(self, batch: Hashable, further: int) -> bool:
        """Whether so many bytes more of a batch would be kept."""
        return _bytes(self._kept.get(batch, {})) + further <= self._limit

    def clear(self) -> None:
        """Give back what is kept, where memory runs out."""
        self._kept.clear()
        self._bytes = 0

    def put(self, batch: Hashable, part: Hashable, embedded: KeptEmbeddings) -> None:
        """Keep it, where there is room for it."""
        own = self._kept.setdefault(batch, {})
        self._kept.move_to_end(batch)
        if part in own or not self.has_room(batch, embedded.bytes):
            return
        while self._bytes + embedded.bytes > self._limit:
            _, others = self._kept.popitem(last=False)
            self._bytes -= _bytes(others)
        own[part] = embedded
        self._bytes += embedded.bytes


@dataclass(frozen=True)
class Shelf:
    """The place in a memo of one batch of cells.

    What is found there is charged to the batch with the seconds of the cell that computed it: a cell's
    seconds are about what it takes by itself, whatever was trained before it.

    Attributes:
        batch: says which images are shown when, and how.
        watch: of the batch.
    """

    memo: EmbeddingMemo
    batch: Hashable
    watch: Stopwatch

    def find(self, part: Hashable) -> KeptEmbeddings | None:
        """What an earlier batch of cells kept, charged; None for nothing."""
        found = self.memo.get(self.batch, part)
        for phase, seconds in found.seconds.items() if found is not None else ():
            self.watch.charge(phase, seconds)
        return found

    def has_room(self, further: int) -> bool:
        """Whether so many bytes more would be kept."""
        return self.memo.has_room(self.batch, further)

    def keep(self, part: Hashable, embedded: KeptEmbeddings) -> None:
        """For the batches that follow."""
        self.memo.put(self.batch, part, embedded)


def shown_images(replicates: Sequence[Replicate], recipe: Recipe, precision: str) -> Hashable:
    """Equal for batches of cells that show the same views of the same images in the same order.

    Args:
        replicates: with their draws.
        recipe: for their split.
        precision: of the cells.
    """
    return (
        precision,
        recipe.augment,
        recipe.views,
        tuple(
            (EpochLength.of(r.draws, recipe), r.cell.seeds.train, *(own.train.tobytes() for own in r.draws))
            for r in replicates
        ),
    )


def _bytes(parts: Mapping[Hashable, KeptEmbeddings]) -> int:
    return sum(embedded.bytes for embedded in parts.values())
