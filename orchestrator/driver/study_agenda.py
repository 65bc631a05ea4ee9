"""A study on Ray: search, the reference rows, the finalists on the test images."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping

from mmap_model.cells import Point
from orchestrator.driver import cancelling
from orchestrator.driver.early_scores import EarlyScores
from orchestrator.driver.launching import Launcher
from orchestrator.driver.session import Session
from orchestrator.driver.staging import Staging
from orchestrator.driver.todo import Todo
from orchestrator.driver.trials import Trials
from orchestrator.driver.weights import KeptWeights
from orchestrator.ledger import TrialRecord, WriteBehind
from orchestrator.rows.reference import Measured, missing_references, reference_rows
from orchestrator.rows.row import epochs_of
from orchestrator.rows.scoring import ZERO_STEP, unscored
from orchestrator.search.proposals import Proposals
from orchestrator.search.samplers import Samplers
from orchestrator.search.stop_rule import stop_rule
from orchestrator.study.scheduler import VERSION
from orchestrator.work.shown import NoteShown

CLOSE_S = 5.0
"""Seconds to write the last records."""

WAIT_S = 0.5
"""Seconds between looks at what may stop the study while records are written."""

logger = logging.getLogger(__name__)


class StudyAgenda:
    """Does what is to be done of a study.

    Args:
        session: does it.
        todo: what is to be done.
    """

    def __init__(self, session: Session, todo: Todo) -> None:
        self._session, self._todo, self._plan = session, todo, session.plan
        self._store = session.around.store
        self._looked = time.monotonic()
        self._trials: Trials | None = None
        finalists = self._plan.study.finalists
        self._weights = KeptWeights(session.around.ledger, self._store, finalists, session.say)
        self._behind = WriteBehind(self._store.storage)
        self._launcher: Launcher | None = None
        self._early = EarlyScores(
            session,
            todo.reason,
            retrain=todo.retrain,
            ended=(record for record in todo.records if record.number not in todo.again),
        )

    def work(self) -> None:
        """Run the search, then score the finalists and whatever reference row has not been scored."""
        session, rows = self._session, list(self._todo.confirm)
        if self._todo.search:
            self._search()
            final = unscored(self._plan, session.store, session.ledger, self._records())
            rows = [row for row in final if self._early.claim(*row)]
        session.score(rows, self._todo.reason, retrain=self._todo.retrain)
        self._weights.scored(self._early.named.items() if self._todo.search else rows, session.ledger)

    def after_events(self) -> None:
        """Write what changed, score what is final, and look for trials that a user wants cancelled."""
        if self._trials is None:
            return
        self._trials.flush()
        self._early.look(self._trials.last_in_work)
        if time.monotonic() - self._looked > cancelling.interval(self._store):
            self._looked = time.monotonic()
            with contextlib.suppress(OSError):
                for number, requests in cancelling.requested(self._store).items():
                    if self._trials.cancel(number) or not self._trials.is_waiting(number):
                        cancelling.clear(self._store, requests)

    def stop(self) -> None:
        if self._trials is not None:
            self._trials.stop()

    def close(self) -> None:
        if self._launcher is not None:
            self._launcher.close(CLOSE_S)
        if self._trials is not None:
            self._trials.close()
        if not self._behind.close(CLOSE_S):
            logger.error("Some records of trials could not be written: those trials run again")

    def _search(self) -> None:
        """Run the trials and the reference rows."""
        session, todo = self._session, self._todo
        session.phase("search")
        trials = self._trials = self._make_trials()
        for source in todo.warm_start.sources if not todo.records else ():
            session.progress(NoteShown(text=f"Taken from study {source.in_words}"))
        self._weights.ended(*(r for r in todo.records if r.number not in todo.again))
        trials.recall(todo.records, todo.again, todo.lost)
        for number in todo.damaged:
            text = (
                f"The record of trial {number} cannot be read: the trial runs again, and its finished cells "
            )
            session.progress(NoteShown(text=text + "are taken from the ledger"))
        trials.launch_ahead(max(1, session.crew.count))
        first = {name: point for name, point in todo.baselines.items() if name != ZERO_STEP}
        self._measure(first, self._early.measured)
        # Tune's own start would compete with the workers' for the same cores.
        session.until(lambda: bool(session.crew.states.up))
        if not trials.exhausted:
            self._launcher = Launcher(trials, session.crew.room)
            self._run_tune(trials)
        session.until(lambda: not trials.live)
        missing = missing_references(self._plan, session.store, session.ledger, self._records())
        if ZERO_STEP in missing:
            session.phase("baselines")
            self._measure({ZERO_STEP: missing[ZERO_STEP]}, self._early.score)

    def _measure(self, points: Mapping[str, Point], measured: Measured) -> None:
        """Queue reference rows."""
        session = self._session
        session.rows.submit(reference_rows(session.rows, session.store, points, measured=measured))

    def _ended(self, record: TrialRecord) -> None:
        self._weights.ended(record)
        self._early.ended(record)

    def _make_trials(self) -> Trials:
        session, space, search = self._session, self._plan.space, self._plan.study.search
        proposals = Proposals(
            space.suggest,
            samplers=Samplers(name=search.sampler, options=search.sampler_options, seed=search.seed),
            directions=search.aim.directions,
            first=(*self._plan.first, *self._todo.warm_start.first),
            known=self._todo.warm_start.known(search.sampler),
            grid=(lambda: (params for params, _ in space.points())) if search.sampler == "grid" else None,
        )
        rule = stop_rule(self._plan.study)
        return Trials(
            session.rows,
            proposals,
            self._store,
            slots=session.crew.room,
            retry_failed=self._todo.retry_failed,
            on_end=self._ended,
            behind=self._behind,
            spent=session.budget_meter.exhausted,
            staging=None if rule is None else Staging(rule),
        )

    def _records(self) -> list[TrialRecord]:
        """Of all trials, once everything told of them is written."""
        while not self._behind.drain(WAIT_S):
            self._session.check()
        return self._session.store.load_trials()

    def _run_tune(self, trials: Trials) -> None:
        from orchestrator.driver.tune_run import run_tune
        from orchestrator.search.stopping import make_scheduler, replay

        study = self._plan.study
        scheduler = make_scheduler(
            # By its own rule the driver stops trials; under ``paper`` there is nothing to go by.
            "none" if study.search.is_staged or study.protocol != "search" else study.search.scheduler,
            epochs=study.recipe.epochs,
            reduction_factor=study.search.reduction_factor,
            warmup=study.recipe.warmup_epochs,
            version=study.search.scheduler_version or VERSION,
        )
        ended = (r for r in self._todo.records if r.state in ("complete", "pruned"))
        replay(scheduler, ((record.number, epochs_of(record)) for record in ended))
        try:
            run_tune(
                trials,
                scheduler,
                self._session.pool.actor,
                folder=self._session.around.folder / "tune",
                should_stop=self._session.should_stop,
                stop_early=trials.stop_early,
            )
        finally:
            self._session.check()  # of two reasons to end, the first one
