"""The cells of one item: its point at its splits and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Seeds, Split
from mmap_model.plain import from_plain
from orchestrator.execution.engine import Engine
from orchestrator.work.events import CellState, CellStatus
from orchestrator.work.item import WorkItem

ORIGIN = ("study", "trial", "invocation")
"""What is told of who finished a cell."""

Reports = dict[str, dict[str, Any]]
"""How partitions were found, by key of the cell."""


class ItemCells:
    """Makes the cells of an item.

    Args:
        item: what is to be done.
        engine: knows data and weights, and finds partitions.

    Attributes:
        point, splits, seeds: of the item.
    """

    def __init__(self, item: WorkItem, engine: Engine) -> None:
        self._item, self._engine = item, engine
        self.point = Point.from_dict(item.point)
        self.splits = [from_plain(Split, split, "split") for split in item.splits]
        self.seeds = [from_plain(Seeds, seed, "seeds") for seed in item.seeds]

    @property
    def need_probes(self) -> bool:
        """Whether their partitions follow from a probe."""
        grouping = self.point.grouping
        return grouping is not None and grouping.mode == "gradient" and self._engine.tasks > 1

    def of_split(self, split: Split, grams: Sequence[bytes | None]) -> tuple[list[Cell], Reports]:
        """The cells of one split, by seed, and how their partitions were found.

        Args:
            split: one of the item's.
            grams: what the probe of each seed measured; None where there is none.
        """
        cells: list[Cell] = []
        reports: Reports = {}
        for seeds, gram in zip(self.seeds, grams, strict=True):
            partition, report = None, None
            if self.point.grouping is not None:
                partition, report = self._engine.resolve(self.point.grouping, gram, seeds.train)
            configuration = Configuration(
                method=self.point.method,
                settings=self.point.settings,
                recipe=self.point.recipe,
                partition=partition,
            )
            cells.append(self._cell(configuration, split, seeds))
            if report is not None:
                reports[cells[-1].key] = report
        return cells, reports

    def probes(self, split: Split) -> list[Cell]:
        """The cells that measure what the grouping of one split needs, by seed."""
        grouping = self.point.grouping
        assert grouping is not None, "a probe item has a grouped point"
        configuration = self._engine.probe(self.point)
        every = grouping.probe.snapshot_every
        return [
            replace(self._cell(configuration, split, seeds), kind="probe", snapshot_every=every)
            for seeds in self.seeds
        ]

    def describe(
        self,
        cell: Cell,
        *,
        finished: Mapping[str, Mapping[str, Any]],
        failed: Mapping[str, object],
        epochs: Mapping[str, int],
        grouping: Mapping[str, Mapping[str, Any]],
    ) -> CellState:
        """How a cell stands as work begins.

        Args:
            cell: any.
            finished: records, by key.
            failed: has the keys of cells that failed.
            epochs: of cells that will be trained, those behind them.
            grouping: how partitions were found.
        """
        epoch = epochs.get(cell.key, 0)
        status: CellStatus = "resumed" if epoch else "new"
        if cell.key in finished:
            status, epoch = "finished", finished[cell.key]["epochs"]
        elif cell.key in failed:
            status = "failed"
        record = finished.get(cell.key)
        partition = cell.configuration.partition
        return CellState(
            key=cell.key,
            split=cell.split.label,
            seed=cell.seeds.label,
            partition=None if partition is None else [list(group) for group in partition],
            parameters=self._engine.count(cell),
            grouping=grouping.get(cell.key),
            status=status,
            epoch=epoch,
            origin=None if record is None else {name: record[name] for name in ORIGIN},
            dataset=cell.dataset,
            backbone=cell.backbone,
        )

    def _cell(self, configuration: Configuration, split: Split, seeds: Seeds) -> Cell:
        return Cell(
            kind="untrained" if self._item.untrained else "train",
            configuration=configuration,
            split=split,
            seeds=seeds,
            protocol=self._item.protocol,
            largest_shots=self._item.largest_shots,
            largest_percent=self._item.largest_percent,
            **self._item.known_from_dataset,
            precision=self._item.precision,
            dataset=self._engine.manifest,
            backbone=self._engine.fingerprint,
        )
