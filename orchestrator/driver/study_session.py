"""A study on Ray: search, the reference rows, the finalists on the test images."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping

from mmap_model.cells import Point
from orchestrator.driver import cancelling
from orchestrator.driver.baselines import Baselines, missing_baselines
from orchestrator.driver.confirmation import unscored
from orchestrator.driver.launching import Launcher
from orchestrator.driver.pool_client import PoolClient
from orchestrator.driver.rows import ZERO_STEP
from orchestrator.driver.session import Part, Session, Surroundings
from orchestrator.driver.todo import Todo
from orchestrator.driver.trials import Trials, epochs_of
from orchestrator.driver.weights import KeptWeights
from orchestrator.ledger import TrialRecord, WriteBehind
from orchestrator.search.proposals import Proposals

CLOSE_S = 5.0
"""Seconds to write the last records."""

WAIT_S = 0.5
"""Seconds between looks at what may stop the study while records are written."""

logger = logging.getLogger(__name__)


class StudySession(Session):
    """Does what is to be done of a study.

    Args:
        around: what it works with.
        todo: what is to be done.
    """

    def __init__(self, around: Surroundings, todo: Todo) -> None:
        super().__init__(around)
        self._todo = todo
        self._looked = time.monotonic()
        self._trials: Trials | None = None
        self._baselines: Baselines | None = None
        self._weights = KeptWeights(self._ledger, self._store, self._plan.study.finalists, self._say)
        self._behind = WriteBehind(self._store.storage)
        self._launcher: Launcher | None = None

    def _work(self, pool: PoolClient) -> None:
        if self._todo.search:
            self._search(pool)
        self._confirm(pool)

    def _parts(self) -> Iterable[Part]:
        return [part for part in (self._trials, self._baselines) if part is not None]

    def _after_events(self) -> None:
        if self._trials is None:
            return
        self._trials.flush()
        if time.monotonic() - self._looked > cancelling.interval(self._store):
            self._looked = time.monotonic()
            self._look_for_cancellations(self._trials)

    def _stop_work(self) -> None:
        if self._trials is not None:
            self._trials.stop()

    def _close_work(self) -> None:
        if self._launcher is not None:
            self._launcher.close(CLOSE_S)
        if self._trials is not None:
            self._trials.close()
        if self._baselines is not None:
            self._baselines.close()
        if not self._behind.close(CLOSE_S):
            logger.error("Some records of trials could not be written: those trials run again")

    def _search(self, pool: PoolClient) -> None:
        """Run the trials and the reference rows."""
        self._progress({"kind": "phase", "name": "search"})
        about = (self._store, self._tracker, self._progress, self._invocation)
        search, space = self._plan.study.search, self._plan.space
        proposals = Proposals(
            space.suggest,
            sampler=search.sampler,
            seed=search.seed,
            first=self._plan.first,
            grid=(lambda: (params for params, _ in space.points())) if search.sampler == "grid" else None,
        )
        trials = Trials(
            self._plan,
            proposals,
            pool,
            *about,
            slots=self._room,
            retry_failed=self._todo.retry_failed,
            on_end=self._weights.ended,
            behind=self._behind,
            spent=self._purse.empty,
        )
        self._trials = trials
        self._weights.ended(*(r for r in self._todo.records if r.number not in self._todo.again))
        self.failed, self.lost = trials.failed, trials.lost
        trials.recall(self._todo.records, self._todo.again, self._todo.lost)
        for number in self._todo.damaged:
            text = (
                f"The record of trial {number} cannot be read: the trial runs again, and its finished cells "
            )
            self._progress({"kind": "note", "text": text + "are taken from the ledger"})
        trials.launch_ahead(max(1, self._slot_count))
        known = self._todo.baselines
        baselines = self._measure(pool, {name: known[name] for name in known if name != ZERO_STEP})
        # Tune's own start would compete with the workers' for the same cores.
        self._until(lambda: bool(self._states.up))
        if not trials.exhausted:
            self._launcher = Launcher(trials, self._room)
            self._run_tune(trials, pool)
        self._until(lambda: not trials.live and not baselines.live)
        self.unscored |= baselines.errors
        missing = missing_baselines(self._plan, self._patient_store, self._patient_ledger, self._records())
        start = self._measure(pool, {name: missing[name] for name in missing if name == ZERO_STEP})
        if start.live:
            self._progress({"kind": "phase", "name": "baselines"})
            self._until(lambda: not start.live)
        self.unscored |= start.errors

    def _records(self) -> list[TrialRecord]:
        """Of all trials, once everything told of them is written."""
        while not self._behind.drain(WAIT_S):
            self._check()
        return self._patient_store.load_trials()

    def _measure(self, pool: PoolClient, points: Mapping[str, Point]) -> Baselines:
        """Queue reference rows; those before must be done."""
        about = (self._patient_store, self._tracker, self._progress, self._invocation)
        rows = Baselines(self._plan, points, *about)
        self._baselines = rows
        for item, probe in rows.items():
            if probe is not None:
                pool.submit(probe)
            pool.submit(item, [] if probe is None else [probe.item_id])
        return rows

    def _run_tune(self, trials: Trials, pool: PoolClient) -> None:
        from orchestrator.driver.tune_run import run_tune
        from orchestrator.search.stopping import make_scheduler, replay

        study = self._plan.study
        scheduler = make_scheduler(
            study.search.scheduler if study.protocol == "search" else "none",  # paper: nothing to go by
            epochs=study.recipe.epochs,
            reduction_factor=study.search.reduction_factor,
        )
        ended = (r for r in self._todo.records if r.state in ("complete", "pruned"))
        replay(scheduler, ((record.number, epochs_of(record)) for record in ended))
        try:
            run_tune(
                trials,
                scheduler,
                pool.actor,
                folder=self._folder / "tune",
                should_stop=self._should_stop,
                stop_early=trials.stop_early,
            )
        finally:
            self._check()  # of two reasons to end, the first one

    def _confirm(self, pool: PoolClient) -> None:
        rows = list(self._todo.confirm)
        if self._todo.search:
            rows = unscored(self._plan, self._patient_store, self._patient_ledger, self._records())
        self._score(pool, rows, self._todo.reason, retrain=self._todo.retrain)
        self._weights.scored(rows, self._patient_ledger)

    def _look_for_cancellations(self, trials: Trials) -> None:
        with contextlib.suppress(OSError):
            for number, requests in cancelling.requested(self._store).items():
                if trials.cancel(number) or not trials.is_waiting(number):
                    cancelling.clear(self._store, requests)
