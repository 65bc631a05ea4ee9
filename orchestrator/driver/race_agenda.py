"""A race on Ray: fresh seeds for all that still stand, as many at once as the slots have room for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from mmap_model.cells import Point
from orchestrator.driver import cancelling
from orchestrator.driver.draws import keep_draws
from orchestrator.driver.race_todo import RaceTodo, lacks_reference, on_seeds
from orchestrator.driver.recorded_search import trial_item
from orchestrator.driver.session import Session
from orchestrator.driver.weights import drop_weights, keeps_weights
from orchestrator.ledger import StudyStore, TrialRecord
from orchestrator.ledger.documents import now
from orchestrator.rows.reference import reference_points, reference_rows
from orchestrator.rows.row import End, Ends, Row
from orchestrator.rows.rows import Rows
from orchestrator.rows.scoring import unscored
from orchestrator.rows.showing import trial_shown
from orchestrator.statistics.race import Fall, Race
from orchestrator.statistics.race_records import (
    COURSE,
    FALLEN,
    Records,
    Terms,
    course_of,
    fell_record,
    standing,
)
from orchestrator.statistics.summary import objective
from orchestrator.work.events import Done
from orchestrator.work.item import WorkItem
from orchestrator.work.shown import NoteShown, TrialStage


class RaceEnds(Ends):
    """A finalist's seeds are trained: its record stays ``running`` until the race decides on it.

    Args:
        store: takes the records.
        rows: of the driver.
    """

    def __init__(self, store: StudyStore, rows: Rows) -> None:
        self._store, self._rows = store, rows

    def settle(self, row: Row, done: Done) -> End:
        end = super().settle(row, done)
        if end == "complete":
            row.record.state = "running"
        return end

    def ended(self, row: Row, end: End, done: Done) -> None:
        if end != "interrupted":
            row.record.epochs = row.record.epochs[-1:]
            self._store.save_trial(row.record)

    def over(self, row: Row) -> None:
        self._rows.queue.forget(row.item.item_id)


class RaceAgenda:
    """Does what is to be done of a race.

    Every decision follows from the values of the seeds in their order (``statistics.race``). Slots that
    have nothing else to do train the next seeds ahead; what a finalist trained beyond the seed at which it
    fell, or at which the race ended, is not used. So the number of slots changes the time and not the end.

    Args:
        session: does it.
        todo: what is to be done.
    """

    def __init__(self, session: Session, todo: RaceTodo) -> None:
        self._session, self._plan, self._records = session, todo.plan, dict(todo.records)
        self._terms: Terms = todo.plan.terms
        self._reason = todo.reason
        self._told = {fall.finalist for fall in todo.race.fallen} if todo.settled else set()
        self._looked = time.monotonic()

    def work(self) -> None:
        """Train and decide until the race ends, then measure zero-shot CLIP and score those that stand."""
        session = self._session
        session.phase("race")
        race = self._decide()
        while race.end is None and not session.rows.lost:
            session.check()
            session.rows.submit(self._rows(race))
            session.until(lambda: not session.rows.live)
            race = self._decide()
        if race.end is None:
            return
        base, store, ledger = self._plan.base, session.store, session.ledger
        if lacks_reference(self._plan, store, ledger, race):
            session.phase("baselines")
            points = reference_points(base, ())
            seeds = self._plan.seeds(race.seeds)
            session.rows.submit(reference_rows(session.rows, store, points, seeds=seeds))
            session.until(lambda: not session.rows.live)
        session.score(unscored(base, store, ledger, self._records.values()), self._reason, retrain=True)

    def after_events(self) -> None:
        """Tell users who want a finalist cancelled that a race decides for itself."""
        store = self._session.around.store
        if time.monotonic() - self._looked > cancelling.interval(store):
            self._looked = time.monotonic()
            with contextlib.suppress(OSError):
                for number, requests in cancelling.requested(store).items():
                    cancelling.clear(store, requests)
                    self._session.progress(
                        NoteShown(text=f"Trial {number} is not cancelled: the race decides on it")
                    )

    def stop(self) -> None: ...

    def close(self) -> None: ...

    # Training

    def _rows(self, race: Race) -> Iterator[Row]:
        """The next seeds of all that stand, with those behind them: their cells are finished."""
        session, terms = self._session, self._terms
        ahead = ahead_of(race, terms, session.crew.room())
        seeds = self._plan.seeds(race.seeds + ahead)
        fresh = on_seeds(self._plan.base.study, seeds[race.seeds :])
        keep_draws(session.store, fresh, self._plan.base.dataset)
        labels = " and ".join(seed.label for seed in seeds[race.seeds :])
        who = f"trials {_listed(race.standing)}"
        text = f"Seed {labels}: {who}; {race.cells} of {terms.budget} cells so far"
        session.progress(NoteShown(text=text))
        ends = RaceEnds(session.store, session.rows)
        for number in race.standing:
            record = session.rows.taken(self._records[number])
            record.attempts += 1
            record.epochs = []
            item = session.rows.item(
                Point.from_dict(record.point),
                item_id=f"{trial_item(number)}-seeds-{len(seeds)}",
                trial=number,
                seeds=seeds,
                fuse="off",
                retry_failed=True,
            )
            yield Row(
                item=item,
                record=record,
                ends=ends,
                run=number,
                values=self._plan.base.space.values(record.params),
                parts=seed_parts(item, race.seeds),
            )

    # Deciding

    def _decide(self) -> Race:
        """Decide as far as the cells go, record it, tell it."""
        session, terms = self._session, self._terms
        readable = session.ledger.get_many(key for r in self._records.values() for key in r.keys)
        race = standing(terms, self._records, readable)
        for fall in race.fallen:
            self._fell(fall, readable)
        if race.end is not None:
            for number in race.standing:
                record = self._records[number]
                cut(record, terms, race.seeds, readable)
                record.state, record.ended_at = "complete", record.ended_at or now()
                session.store.save_trial(record)
                self._show(record, "complete")
        course = course_of(terms, race, self._records, readable)
        session.store.save_race(COURSE, course, fence=session.rows.invocation.fence)
        if race.end is not None:
            session.progress(NoteShown(text=end_in_words(race, terms)))
        return race

    def _show(self, record: TrialRecord, state: TrialStage) -> None:
        values = self._plan.base.space.values(record.params)
        self._session.progress(trial_shown(record, values, state))

    def _fell(self, fall: Fall, readable: Records) -> None:
        record = self._records[fall.finalist]
        if fall.finalist in self._told:
            return
        self._told.add(fall.finalist)
        session, terms = self._session, self._terms
        if fall.evidence is not None:
            cut(record, terms, fall.seed, readable)
            record.state = "pruned"
            record.attributes["stopped_by"] = FALLEN
        record.attributes["fell"] = fell_record(fall, terms)
        session.store.save_trial(record)
        if fall.evidence is not None:
            session.rows.tracker.trial_settled(fall.finalist, "pruned", at=record.ended_at or now())
            self._show(record, "pruned")
        session.progress(NoteShown(text=fall_in_words(fall, terms)))
        if not keeps_weights(record):
            drop_weights(session.ledger, record.keys, own=session.store.name, tell=session.say)


def ahead_of(race: Race, terms: Terms, slots: int) -> int:
    """Seeds to train at once: one, or as many as the slots have room for and the budget pays for."""
    cells = len(race.standing) * len(terms.splits)
    left = min((terms.budget - race.cells) // cells, len(terms.seeds) - race.seeds)
    return max(1, min(slots // cells, left))


def seed_parts(item: WorkItem, behind: int) -> tuple[WorkItem, ...]:
    """A finalist's item with every fresh cell by itself, in the order of the whole.

    Each cell is then trained alone whatever else is trained at once, so that its numbers do not depend on the
    number of slots. Finished cells go with the first fresh one of their split.

    Args:
        item: of the seeds so far and the fresh ones.
        behind: how many are finished.
    """
    chunks = [item.seeds[: behind + 1], *((seed,) for seed in item.seeds[behind + 1 :])]
    return tuple(
        item.with_(item_id=f"{item.item_id}.{number}", splits=(split,), seeds=seeds)
        for number, (split, seeds) in enumerate((split, seeds) for split in item.splits for seeds in chunks)
    )


def cut(record: TrialRecord, terms: Terms, seeds: int, readable: Records) -> None:
    """Leave a finalist's record with the cells of its first seeds, and their mean."""
    wanted = set(terms.seeds[:seeds])
    record.cells = [cell for cell in record.cells if cell["seed"] in wanted]
    values: Mapping[tuple[str, str], float | None] = {
        (cell["split"], cell["seed"]): readable[cell["key"]]["metrics"].get("accuracy")
        for cell in record.cells
    }
    record.value = objective(values)
    if record.epochs:
        last = {"epoch": record.epochs[-1]["epoch"], "mean": record.value, "values": list(values.values())}
        record.epochs = [last]


def fall_in_words(fall: Fall, terms: Terms) -> str:
    """Who left the race, when and why."""
    seed = f"seed {terms.seeds[fall.seed - 1]} (number {fall.seed} of the race)"
    if fall.evidence is None:
        return f"Trial {fall.finalist} leaves the race: a cell of {seed} failed"
    return (
        f"Trial {fall.finalist} falls after {seed}: evidence {fall.evidence:.3g} against it, "
        f"{1 / terms.alpha:.3g} suffice; the strongest rival is trial {fall.against}"
    )


def end_in_words(race: Race, terms: Terms) -> str:
    """Why the race ended, and who stands."""
    who = f"trial{'s' * (len(race.standing) > 1)} {_listed(race.standing)}"
    reasons = {
        "one left": f"{who} is left",
        "within": f"{who} stand, and differ by {100 * race.gap:.2g} points at most",
        "budget": f"the budget of {terms.budget} cells is too small for another seed; {who} stand",
        "none left": "no finalist is left: a cell of each failed",
    }
    assert race.end is not None, "it ended"
    return f"The race is over after {race.seeds} seeds and {race.cells} cells: {reasons[race.end]}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
