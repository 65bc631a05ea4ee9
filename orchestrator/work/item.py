"""What a driver hands to a worker, and what the worker asks while it works; it answers with ``events``."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from mmap_model import references
from mmap_model.cells import Point
from mmap_model.configuration import Protocol, Seeds, Split
from mmap_model.plain import to_plain

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """Cells of one point, to be trained, measured or scored on one slot.

    Attributes:
        item_id: names the item in every event.
        study: whose driver asked.
        trial: number of the trial, or None.
        purpose: ``search`` trains the point's cells; ``probe`` trains only what its grouping needs to know;
            ``confirm`` scores finished cells (``cells``) on the test images; ``baseline`` is ``search`` for a
            reference row (zero-shot, or a point after no step at all).
        point: ``Point.to_dict()``.
        splits, seeds: the cells are their product, splits first: ``Split`` and ``Seeds`` as dictionaries.
        protocol, largest_shots, largest_percent, test_images, large_images, precision: of the cells.
        dataset, backbone: ``DatasetSpec`` and ``BackboneSpec`` as dictionaries.
        storage: root of the ledger.
        fence: the driver's fencing number; 0 where there is no driver lease.
        fuse: train the seeds of a split as one batch where the method allows it (``auto``), always, or never.
        retry_failed: train cells again that failed before; otherwise they are reported as failed.
        cells: keys to score (``confirm``).
        test: score the cells on the test images after training too; a driver scores by ``confirm`` items.
        reason: why the test images are looked at; recorded with the look.
        invocation: id of the driver's invocation, kept with what it trained.
        untrained: the point as it is before its first step (``baseline``).
        retrain: train cells to score again whose weights were dropped (``confirm``).
        more: further seeds may follow: once its cells are trained it waits, see ``Pool.go_on``.
        sources: files of an own method and an own layout of images, text by location.
        inputs: ``Inputs`` of the study as a dictionary: a worker that finds other data or weights refuses the
            item. Empty: whatever the worker has.
    """

    item_id: str
    study: str
    trial: int | None = None
    purpose: Literal["search", "probe", "confirm", "baseline"] = "search"
    point: dict[str, Any]
    splits: tuple[dict[str, Any], ...]
    seeds: tuple[dict[str, Any], ...]
    protocol: Protocol = "search"
    largest_shots: int | None = None
    largest_percent: float | None = None
    test_images: Literal["drawn", "given"] = "drawn"
    large_images: bool = False
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    dataset: dict[str, Any]
    backbone: dict[str, Any]
    storage: str
    fence: int = 0
    fuse: Literal["auto", "on", "off"] = "auto"
    retry_failed: bool = False
    cells: tuple[str, ...] = ()
    test: bool = False
    reason: str = ""
    invocation: str = ""
    untrained: bool = False
    retrain: bool = False
    more: bool = False
    sources: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("splits", "seeds", "cells"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        return dict(to_plain(self))

    @property
    def known_from_dataset(self) -> dict[str, Any]:
        """Fields of the cells that their dataset decides: records of earlier versions have none."""
        return {"test_images": self.test_images, "large_images": self.large_images}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> WorkItem:
        return cls(**data)

    @classmethod
    def of(
        cls, point: Point, *, splits: tuple[Split, ...], seeds: tuple[Seeds, ...], **fields: Any
    ) -> WorkItem:
        """An item from typed values."""
        return cls(
            **{"sources": references.sources(point.method, fields["dataset"].get("name", "")), **fields},
            point=point.to_dict(),
            splits=tuple(to_plain(s) for s in splits),
            seeds=tuple(to_plain(s) for s in seeds),
        )

    def parts(self, count: int) -> tuple[WorkItem, ...]:
        """The same cells as up to ``count`` items, in order; one item stays as it is.

        By split first: the seeds of a split may train as one batch, which is split only where slots would
        have nothing to do otherwise.
        """
        chunks = [(splits, self.seeds) for splits in _chunks(self.splits, count)]
        if count > len(self.splits):
            of_each = count // len(self.splits)
            chunks = [((split,), seeds) for split in self.splits for seeds in _chunks(self.seeds, of_each)]
        if len(chunks) == 1:
            return (self,)
        return tuple(
            self.with_(item_id=f"{self.item_id}.{number}", splits=splits, seeds=seeds)
            for number, (splits, seeds) in enumerate(chunks)
        )

    def with_(self, **changes: Any) -> WorkItem:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Control:
    """What the driver wants of a running item: stop, or leave cells out from the next epoch on."""

    cancel: bool = False
    cancelled_keys: frozenset[str] = field(default_factory=frozenset)


def _chunks(values: tuple[T, ...], count: int) -> list[tuple[T, ...]]:
    """At most ``count`` runs of ``values``, none empty, of lengths that differ by one at most."""
    count = min(count, len(values))
    bounds = [number * len(values) // count for number in range(count + 1)]
    return [values[first:last] for first, last in itertools.pairwise(bounds)]
