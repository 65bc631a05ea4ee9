"""The reference rows of a study: zero-shot CLIP, and the best trial before its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from mmap_model.cells import Point
from mmap_model.configuration import Seeds
from mmap_model.methods.registry import get_method
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.rows.row import End, Ends, Row
from orchestrator.rows.rows import Rows
from orchestrator.rows.scoring import ZERO_SHOT, ZERO_STEP, finalists, tracked_as
from orchestrator.study import StudyPlan
from orchestrator.work.events import Done

IN_WORDS = {ZERO_SHOT: "Zero-shot CLIP", ZERO_STEP: "The best trial before its first step"}

Measured = Callable[[str, TrialRecord], None]


class ReferenceEnds(Ends):
    """A measured row is recorded under its name; the user is told what was measured, or why nothing was.

    Args:
        store: takes the records.
        rows: of the driver.
        measured: takes name and record of each that was recorded.
    """

    def __init__(self, store: StudyStore, rows: Rows, measured: Measured) -> None:
        self._store, self._rows, self._measured = store, rows, measured

    def ended(self, row: Row, end: End, done: Done) -> None:
        name = row.item.item_id.removeprefix("baseline-")
        if end == "complete":
            row.record.epochs = row.record.epochs[-1:]
            kept = {field: value for field, value in row.record.to_dict().items() if field != "number"}
            self._store.save_baseline(name, kept)
            if (accuracy := row.record.accuracy) is not None:
                seeds = len({cell["seed"] for cell in row.record.cells})
                over = f", mean over {seeds} seeds" if seeds > 1 else ""
                self._rows.note(f"{IN_WORDS[name]}: {100 * accuracy:.1f} % on validation images{over}")
            self._measured(name, row.record)
        else:
            row.record.state = "failed"
            self._rows.unscored[name] = done.error or done.state
            self._rows.note(f"Reference row {name}: {self._rows.unscored[name]}")


def reference_rows(
    rows: Rows,
    store: StudyStore,
    points: Mapping[str, Point],
    *,
    seeds: tuple[Seeds, ...] | None = None,
    measured: Measured = lambda name, record: None,
) -> Iterator[Row]:
    """Rows to measure, by their names, at the seeds of the study or at ``seeds``.

    ``measured`` is told of each that was recorded, on the thread that reads the events.
    """
    where = {} if seeds is None else {"seeds": seeds}
    ends = ReferenceEnds(store, rows, measured)
    for name, point in points.items():
        item = rows.item(
            point,
            item_id=f"baseline-{name}",
            purpose="baseline",
            retry_failed=True,
            untrained=name == ZERO_STEP,
            **where,
        )
        record = rows.record(point)
        keep = name == ZERO_STEP  # the next best trial's takes its place in the records
        yield Row(item=item, record=record, ends=ends, run=tracked_as(name, record), keep=keep)


def reference_points(plan: StudyPlan, trials: Iterable[TrialRecord]) -> dict[str, Point]:
    """The reference rows that a study has, by name; the zero-step row belongs to the best trial so far."""
    if not get_method(plan.study.method).trains:
        return {}
    zero_shot = get_method(ZERO_SHOT)
    points = {ZERO_SHOT: Point(method=ZERO_SHOT, settings=zero_shot.Settings(), recipe=plan.study.recipe)}
    for best in finalists(trials, 1):
        points[ZERO_STEP] = Point.from_dict(best.point)
    return points


def missing_references(
    plan: StudyPlan, store: StudyStore, ledger: Ledger, trials: Iterable[TrialRecord]
) -> dict[str, Point]:
    """Reference rows that have no record, or one of another point or of cells that cannot be read."""
    known = store.load_baselines()
    readable = ledger.get_many([cell["key"] for row in known.values() for cell in row["cells"]])

    def recorded(name: str, point: Point) -> bool:
        row = known.get(name)
        return (
            row is not None
            and row["point"] == point.to_dict()
            and all(cell["key"] in readable for cell in row["cells"])
        )

    return {
        name: point for name, point in reference_points(plan, trials).items() if not recorded(name, point)
    }
