"""Trials are proposed and queued on a thread of their own, so that no slot waits for Tune's loop.

Between the end of a trial's work and the start of the next, Tune would have to hear of the end, ask for a
configuration, wait for the sampler and for a record to be written. With many slots the next work is queued
before; with few the search would learn too little from it, there it is queued when a trial has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from orchestrator.driver.trials import Trials

SLOTS_PER_TRIAL_AHEAD = 8
"""A trial is queued ahead for each so many slots: the sampler misses at most an eighth more results than the
trials in work make it miss anyway."""

PATIENCE_S = 0.2
"""Seconds between looks at the number of slots."""


class Launcher:
    """Keeps a study's queue filled.

    Args:
        trials: of the study.
        slots: trials that may be in work at the same time.
    """

    def __init__(self, trials: Trials, slots: Callable[[], int]) -> None:
        self._trials = trials
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="launcher", daemon=True)
        trials.launch_in_background(lambda: slots() // SLOTS_PER_TRIAL_AHEAD)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Launch nothing more."""
        self._closing.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._trials.launch_wanted(PATIENCE_S)
