"""What followed from the numbers: the ranks, the winner, and when test images were evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.auditing.cell import AuditedCell
from orchestrator.auditing.finding import Finding, differs
from orchestrator.auditing.row import AuditedRow, Cells
from orchestrator.ledger.cells import TEST

TestEvaluation = Mapping[str, Any]


def audit_ranks(trials: Sequence[AuditedRow], cells: Cells) -> Iterator[Finding]:
    """Where the order of complete trials by their stored values is not that by their predictions.

    Args:
        trials: of the study.
        cells: audited, by key.
    """
    found = {row.record.number: row.value(cells) for row in trials if row.record.state == "complete"}
    complete = [row for row in trials if found.get(row.record.number) is not None]
    by_value = _order(complete, {row.record.number: row.record.accuracy for row in complete})
    stored = {row.record.number: _stored(row, cells) for row in complete}
    by_predictions, by_records = _order(complete, found), _order(complete, stored)
    for place, again in enumerate(by_predictions):
        for order, source in ((by_value, "their stored values"), (by_records, "the records of their cells")):
            if order[place] != again:
                path = next(row.path for row in complete if row.record.number == order[place])
                yield differs(
                    path,
                    f"rank {place + 1} by {source}",
                    f"trial {order[place]}",
                    f"trial {again}",
                    problem="their predictions give",
                )
                return


def winner(trials: Sequence[AuditedRow], cells: Cells) -> int | None:
    """Number of the complete trial that is first by its predictions on validation images."""
    found = {row.record.number: row.value(cells) for row in trials if row.record.state == "complete"}
    complete = [row for row in trials if found.get(row.record.number) is not None]
    return next(iter(_order([row for row in complete if not row.record.violated], found)), None)


def audit_test_evaluations(
    study: str,
    trials: Iterable[AuditedRow],
    cells: Cells,
    evaluations: Mapping[str, Sequence[TestEvaluation]],
) -> Iterator[Finding]:
    """Test scores that no evaluation is on record for, and trials that began after one.

    Args:
        study: its name.
        trials: of the study.
        cells: audited, by key.
        evaluations: of test images, by study of this storage.
    """
    rows = list(trials)
    keys = {key for row in rows for key in row.record.keys}
    seen = {key for found in evaluations.values() for evaluation in found for key in evaluation["keys"]}
    for key in sorted(keys):
        if cells[key].score is not None and key not in seen:
            yield Finding(
                record=f"cells/{key}/{TEST}",
                problem="it was scored on test images, and no test-set evaluation is on record",
            )
    for name, found in evaluations.items():
        own = [evaluation for evaluation in found if name == study or keys & set(evaluation["keys"])]
        first = min((evaluation["time"] for evaluation in own), default=None)
        later = [row for row in rows if first is not None and row.record.created_at > first]
        if first is not None and later:
            whose = "" if name == study else f" by study {name}"
            numbers = ", ".join(str(row.record.number) for row in later[:5])
            more = f" and {len(later) - 5} more" if len(later) > 5 else ""
            yield Finding(
                severity="warning",
                record=later[0].path,
                problem=f"test images were evaluated{whose} on {first[:19]}, before trial {numbers}{more}",
            )


def _order(rows: Iterable[AuditedRow], values: Mapping[int, float | None]) -> list[int]:
    """Numbers as the ranking has them: within constraints, highest value, fewest parameters, earliest."""

    def place(row: AuditedRow) -> tuple[bool, float, int, int]:
        value, outside = values[row.record.number], bool(row.record.violated)
        return outside, -round(value or 0.0, 12), row.record.parameters or 0, row.record.number

    return [row.record.number for row in sorted(rows, key=place)]


def _stored(row: AuditedRow, cells: Cells) -> float | None:
    from orchestrator.statistics.summary import objective

    return objective({(c["split"], c["seed"]): _accuracy(cells[c["key"]]) for c in row.record.cells})


def _accuracy(cell: AuditedCell) -> float | None:
    value = ((cell.record or {}).get("metrics") or {}).get("accuracy")
    return None if value is None else float(value)
