"""Rows on the test images: finalists and reference rows of a study, the chosen rows of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mmap_model.cells import Point
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.ledger.told import ToldStore
from orchestrator.rows.row import End, Ends, Row
from orchestrator.rows.rows import Rows
from orchestrator.study import StudyPlan
from orchestrator.tracking.row import ZERO_STEP as ZERO_STEP
from orchestrator.tracking.row import row_name
from orchestrator.work.events import Done

ZERO_SHOT = "zero_shot"

Named = tuple[int | str, TrialRecord]
"""A trial's number or another row's name, and its record."""


class ScoreEnds(Ends):
    """The scores of a row, as the workers recorded them, are told as a mean.

    Args:
        rows: of the driver.
        ledger: where the scores are read back from.
        name: of the row.
        scored: its record.
    """

    def __init__(self, rows: Rows, ledger: Ledger, name: int | str, scored: TrialRecord) -> None:
        self._rows, self._ledger, self._name, self._scored = rows, ledger, name, scored

    def ended(self, row: Row, end: End, done: Done) -> None:
        error = self._tell() if end == "complete" else done.error or done.state
        if error:
            self._rows.unscored[str(self._name)] = error
            self._rows.note(f"Test images of {self._name}: {error}")

    def _tell(self) -> str | None:
        keys = self._scored.keys
        scores = self._ledger.tests(keys)
        if missing := [key for key in keys if key not in scores]:
            return f"the score of cell {missing[0][:8]} cannot be read; the same command scores it again"
        tracked = tracked_as(self._name, self._scored)
        label = f"trial {tracked}" if isinstance(tracked, int) else tracked
        ToldStore(self._ledger.storage, self._rows.plan.study.name).save_scored(label, keys)
        self._rows.tracker.trial_tested(tracked, self._scored.cells, scores)
        return None


def scoring_rows(
    rows: Rows, ledger: Ledger, named: Iterable[Named], reason: str, *, retrain: bool = False
) -> Iterator[Row]:
    """Rows whose cells are scored on the test images, one item each.

    Args:
        rows: of the driver.
        ledger: where the scores are.
        named: what to score.
        reason: recorded with each look at the test images.
        retrain: train cells again whose weights were dropped; those with broken files always are.
    """
    for name, scored in named:
        point = Point.from_dict(scored.point)
        item = rows.item(
            point,
            item_id=f"confirm-{name}",
            purpose="confirm",
            trial=name if isinstance(name, int) else None,
            cells=tuple(scored.keys),
            reason=reason,
            untrained=name == ZERO_STEP,
            retry_failed=True,
            retrain=retrain,
        )
        yield Row(item=item, record=rows.record(point), ends=ScoreEnds(rows, ledger, name, scored))


def finalists(trials: Iterable[TrialRecord], count: int) -> list[TrialRecord]:
    """The best complete trials by validation: highest mean, then fewest parameters, then the earliest.

    Those that violate a constraint of the study are none.
    """
    complete = [trial for trial in trials if trial.state == "complete" and not trial.violated]
    complete.sort(key=lambda t: (t.accuracy is None, -(t.accuracy or 0.0), t.parameters or 0, t.number))
    return complete[:count]


def final_rows(plan: StudyPlan, store: StudyStore, trials: Iterable[TrialRecord]) -> list[Named]:
    """Finalists, and then the reference rows; none as long as no trial is complete."""
    chosen: list[Named] = [(trial.number, trial) for trial in finalists(trials, plan.study.finalists)]
    known = store.load_baselines() if chosen else {}
    return chosen + [(name, TrialRecord.from_dict({"number": -1, **row})) for name, row in known.items()]


def unscored(
    plan: StudyPlan, store: StudyStore, ledger: Ledger, trials: Iterable[TrialRecord]
) -> list[Named]:
    """Final rows of which a cell has not been scored on the test images."""
    final = final_rows(plan, store, trials)
    scored = ledger.tests(key for _, record in final for key in record.keys)
    return [row for row in final if any(key not in scored for key in row[1].keys)]


def tracked_as(name: int | str, record: TrialRecord) -> int | str:
    """A row's name in tracking."""
    return row_name(name, record.point)
