"""A trial, a reference row or a row of a comparison: does its record follow from its cells?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmap_model.cells import Configuration, Point
from mmap_model.errors import InputError
from orchestrator.auditing.cell import AuditedCell
from orchestrator.auditing.finding import Finding, differs
from orchestrator.auditing.metrics import same
from orchestrator.ledger import TrialRecord
from orchestrator.ledger.trial_record import CONSTRAINTS
from orchestrator.statistics.objectives import Aim, measure
from orchestrator.statistics.summary import objective

Cells = Mapping[str, AuditedCell]


@dataclass(frozen=True, kw_only=True)
class AuditedRow:
    """A row with the path of its record and what it is called."""

    name: str
    path: str
    record: TrialRecord

    def value(self, cells: Cells) -> float | None:
        """Its objective from the predictions of its cells; None if one of them has none."""
        return objective({(c["split"], c["seed"]): _accuracy(cells, c["key"]) for c in self.record.cells})


def audit_row(row: AuditedRow, cells: Cells, aim: Aim) -> Iterator[Finding]:
    """What of a row's record does not follow from its cells.

    Args:
        row: any.
        cells: audited, by key.
        aim: of the study: what the value of a complete trial is made of.
    """
    for cell in row.record.cells:
        yield from _cell(row, cell, cells[cell["key"]])
    yield from _epochs(row, cells)
    if row.record.state == "complete":
        yield from _value(row, cells, aim)
        yield from _constraints(row, cells, aim)
    counts = [c["parameters"] for c in row.record.cells if c.get("parameters") is not None]
    if counts and row.record.parameters != max(counts):
        yield differs(
            row.path, "parameters", row.record.parameters, max(counts), problem="the largest of its cells has"
        )


def _cell(row: AuditedRow, named: Mapping[str, Any], found: AuditedCell) -> Iterator[Finding]:
    """Is the cell what the row says it is."""
    if found.record is None:
        if row.record.state == "complete":
            yield Finding(
                record=row.path, problem=f"{row.name} is complete, but cell {found.key[:12]} cannot be read"
            )
        return
    if found.cell is None:
        return
    said: dict[str, object] = {"split": found.cell.split.label, "seed": found.cell.seeds.label}
    partition = found.cell.configuration.partition
    said |= {"partition": None if partition is None else [list(group) for group in partition]}
    said |= {"parameters": found.record.get("parameters")}
    for name, value in said.items():
        if named.get(name) is not None and named[name] != value:
            yield differs(
                row.path,
                f"cells.{found.key[:12]}.{name}",
                named[name],
                value,
                problem="the cell's record says",
            )
    if row.record.point and not _is_of(found.cell.configuration, row.record.point):
        yield Finding(
            record=row.path, problem=f"cell {found.key[:12]} is of another configuration than {row.name}"
        )


def _is_of(configuration: Configuration, point: Mapping[str, Any]) -> bool:
    """Whether a cell's configuration is a point's, whatever its partition."""
    try:
        wanted = Point.from_dict(dict(point))
    except InputError:
        return True  # a custom method that is not here; its cells have said so
    mine = (configuration.method, configuration.settings, configuration.recipe)
    return mine == (wanted.method, wanted.settings, wanted.recipe)


def _epochs(row: AuditedRow, cells: Cells) -> Iterator[Finding]:
    """Every epoch's values against the histories of the cells, and its mean against its values."""
    record = row.record
    for epoch in record.epochs:
        values, number = epoch.get("values") or [], epoch["epoch"]
        places = list(zip(record.cells, values, strict=False))
        for place, (named, value) in enumerate(places):
            cell = cells[named["key"]]
            if same(value, cell.accuracy_at(number)):
                continue
            if cell.test_accuracy is not None and same(value, cell.test_accuracy):
                problem = "which is the accuracy on the test images; the validation images gave"
            else:
                problem = f"the history of cell {named['key'][:12]} has"
            yield differs(
                row.path, f"epochs.{number}.values.{place}", value, cell.accuracy_at(number), problem=problem
            )
        if len(values) != len(record.cells) or epoch["mean"] is None:
            continue  # stopped for some of the cells, or not evaluated
        mean = objective({(c["split"], c["seed"]): value for c, value in places})
        if not same(epoch["mean"], mean):
            yield differs(row.path, f"epochs.{number}.mean", epoch["mean"], mean, problem="its values give")


def _value(row: AuditedRow, cells: Cells, aim: Aim) -> Iterator[Finding]:
    """The objective of a complete row from the predictions of its cells."""
    record = row.record
    if not aim.several:
        found = row.value(cells)
        if record.value is None and found is not None and record.epochs:
            yield differs(row.path, "value", None, found)
        elif not isinstance(record.value, list) and not same(record.value, found):
            yield differs(row.path, "value", record.value, found, problem=_of_whom(row, cells, record.value))
        return
    found_by_name = _measured(row, cells, aim)
    stored = record.value if isinstance(record.value, list) else []
    for each, value in zip(aim.objectives, stored, strict=False):
        again = found_by_name[each.name]
        if again is not None and abs(value - again) > 1e-5 * max(1.0, abs(again)):
            yield differs(row.path, f"value.{each.name}", value, again)


def _constraints(row: AuditedRow, cells: Cells, aim: Aim) -> Iterator[Finding]:
    """By how much a complete row violates the constraints of its study, which decides who can win."""
    stored = row.record.attributes.get(CONSTRAINTS, {})
    found = _measured(row, cells, aim) if aim.constraints else {}
    for each in aim.constraints:
        if (value := found[each.name]) is None:
            continue
        again, kept = each.violation(value), stored.get(each.label)
        if kept is None or abs(kept - again) > 1e-5 * max(1.0, abs(again)):
            yield differs(row.path, f"attributes.{CONSTRAINTS}.{each.label}", kept, again)


def _measured(row: AuditedRow, cells: Cells, aim: Aim) -> dict[str, float | None]:
    """Objectives and constraints by what the cells predict."""
    record = row.record
    metrics = {
        key: {**(cell.record or {}), "metrics": cell.validation}
        for key in record.keys
        if (cell := cells[key]).validation is not None
    }
    return measure(aim.names, record.cells, metrics, record.parameters)


def _of_whom(row: AuditedRow, cells: Cells, value: float | None) -> str:
    tests = objective({(c["split"], c["seed"]): cells[c["key"]].test_accuracy for c in row.record.cells})
    if tests is not None and value is not None and same(value, tests):
        return "which is the mean on the test images; the predictions on validation images give"
    return "its predictions give"


def _accuracy(cells: Cells, key: str) -> float | None:
    return cells[key].accuracy
