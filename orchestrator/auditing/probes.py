"""The partition of a cell, from the gradients that its probe measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mmap_model.cells import Cell, Point
from mmap_model.errors import InputError
from orchestrator.auditing.cell import AuditedCell, audit_cell
from orchestrator.auditing.finding import Finding, differs
from orchestrator.auditing.row import AuditedRow, Cells
from orchestrator.ledger import Storage
from orchestrator.ledger.cell_files import path_of
from orchestrator.ledger.cell_records import RECORD

GRAM = "gram.safetensors"


class Probes:
    """Checks partitions; every probe is read once.

    Args:
        storage: of the records.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[str, AuditedCell] = {}

    def audit(self, row: AuditedRow, cells: Cells) -> Iterator[Finding]:
        """What is wrong with the probes of a row's cells, and partitions that do not follow from them."""
        try:
            point = Point.from_dict(dict(row.record.point)) if row.record.point else None
        except InputError:
            return
        if point is None or point.grouping is None or point.grouping.mode != "gradient":
            return
        for named in row.record.cells:
            found = cells[named["key"]]
            tasks = len(((found.record or {}).get("metrics") or {}).get("tasks") or {})
            if found.cell is None or found.cell.configuration.partition is None or tasks < 2:
                continue
            yield from self._partition(found, found.cell, point, tasks)

    def _partition(self, found: AuditedCell, cell: Cell, point: Point, tasks: int) -> Iterator[Finding]:
        from mmap_model.grouping import GramStack, probe_configuration, resolve_partition

        grouping, path = point.grouping, f"{found.path}/{RECORD}"
        assert grouping is not None, "a grouped point"
        probe = replace(
            cell,
            kind="probe",
            configuration=probe_configuration(grouping, point, tasks=tasks),
            snapshot_every=grouping.probe.snapshot_every,
        )
        if probe.key not in self._known:
            self._known[probe.key] = audit_cell(self._storage, probe.key)
            yield from self._known[probe.key].findings
        gram = self._gram(self._known[probe.key])
        if gram is None:
            yield Finding(
                severity="warning",
                record=path,
                problem=f"its partition cannot be checked: there is no probe {probe.key[:12]}",
            )
            return
        resolved = resolve_partition(
            grouping, GramStack.from_bytes(gram), tasks=tasks, train_seed=cell.seeds.train
        )
        if resolved.partition != cell.configuration.partition:
            yield differs(
                path,
                "cell.configuration.partition",
                _lists(cell.configuration.partition),
                _lists(resolved.partition),
                problem=f"probe {probe.key[:12]} gives",
            )

    def _gram(self, probe: AuditedCell) -> bytes | None:
        entry = (probe.record or {}).get("files", {}).get(GRAM)
        return None if entry is None else self._storage.read(path_of(probe.key, GRAM, entry))


def _lists(partition: Any) -> list[list[int]]:
    return [list(group) for group in partition]
