"""A study run by processes of their own, which tests stop at moments of their choice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.ledger import Ledger, StudyStore
from orchestrator.study import load_plan

DRIVER = Path(__file__).with_name("run_driver.py")
PATIENCE = 600.0
"""Seconds to wait for a moment of a sweep on a busy machine."""


class Driver:
    """A study run by processes of their own, each the leader of a group.

    Args:
        study: study file, of a study named ``tiny``.
        folder: where the processes run, with their MLflow database.
        log: of trained epochs.
        storage: location of the records; a folder of ``folder`` if not given.
        environment: more variables of the processes.
    """

    def __init__(
        self,
        study: Path,
        folder: Path,
        log: Path,
        *,
        storage: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        storage = storage or str(folder / "runs")
        self.overrides = [f"storage={storage}", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"]
        self.plan = load_plan(str(study), self.overrides)
        self.store = StudyStore(self.plan.study.storage, "tiny")
        self.ledger = Ledger(self.plan.study.storage)
        self._study, self._folder, self._log = study, folder, log
        self._environment = dict(environment or {})
        self.output = ""

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(DRIVER), str(self._study), "logged:make", *self.overrides],
            cwd=self._folder,
            env={
                **os.environ,
                "TRAINED_EPOCHS_LOG": str(self._log),
                "OMP_NUM_THREADS": "1",
                **self._environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, number: signal.Signals, moment: Callable[[], bool]) -> tuple[int, float]:
        """Start, send a signal to the whole group at ``moment``; the exit code and the seconds it took."""
        process = self.start()
        until = time.monotonic() + PATIENCE
        while not moment():
            assert process.poll() is None, f"it ended before the moment came:\n{process.communicate()[0]}"
            assert time.monotonic() < until, "the moment never came"
            time.sleep(0.02)
        sent = time.monotonic()
        os.killpg(process.pid, number)
        self.output = process.communicate(timeout=60)[0]
        return process.returncode, time.monotonic() - sent

    def finish(self) -> str:
        process = self.start()
        output = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0, output
        return output

    def states(self) -> list[str]:
        return [trial.state for trial in self.store.load_trials()]

    def epochs(self) -> Counter[tuple[str, int]]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return Counter((key, int(epoch)) for key, epoch in (line.split() for line in lines))
