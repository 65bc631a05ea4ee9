"""One small study that something happens to, and what its records say of it afterwards."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

import orchestrator.driver.invocation as driver_run
from orchestrator.driver import Options, Outcome, run_study
from orchestrator.driver.session import Session
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.study import load_plan
from orchestrator.terminal.lines import TOLD_STAGES, LineDisplay
from orchestrator.tracking import Tracker
from orchestrator.work.events import Event
from orchestrator.work.shown import Shown

T = TypeVar("T")

PATIENCE_S = 600.0
"""Seconds to wait for something that must happen, on a busy machine."""

ROUTINE = re.compile(
    r"^(run|phase|epoch|best|still) |^trial .*state=(running|complete)\b"
    rf"|^slot .*state=({'|'.join(TOLD_STAGES)})\b"
)
"""What a user is shown whether or not something goes wrong."""


@dataclass(frozen=True)
class Line:
    """A line of ``times.log``: see ``bench``."""

    at: float
    what: str
    kind: str
    key: str
    epoch: int
    pid: int


class Scene:
    """A study with pretended training on the Ray of this process.

    Args:
        folder: of this scene; records lie in ``runs`` below it.
        control: the folder that steers the workers' training.
        overrides: of the study.
        epoch_s: seconds of an epoch.
        uri: of MLflow; by default a copy of ``database`` in the scene's folder.
        database: of MLflow, in sqlite, without a run.
        fresh: forget what steered and what logged an earlier scene.
    """

    def __init__(
        self,
        folder: Path,
        control: Path,
        *overrides: str,
        database: Path,
        epoch_s: float = 0.4,
        uri: str | None = None,
        fresh: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(database, folder / "mlflow.db")
        for left in control.iterdir() if fresh else ():
            left.unlink()
        self.folder, self.control, self.epoch_s = folder, control, epoch_s
        self.uri = uri or f"sqlite:///{folder / 'mlflow.db'}"
        (control / "epoch_s").write_text(str(epoch_s))
        (control / "times.log").touch()
        self.overrides = [
            f"name={folder.name}",
            f"storage={folder / 'runs'}",
            f"tracking.uri={self.uri}",
            "search.trials=4",
            "search.scheduler=none",
            "slots.count=2",
            "finalists=1",
            *overrides,
        ]
        self.struck = 0.0
        self.mended = 0.0
        self.events: list[tuple[float, Event]] = []
        self._said: list[tuple[float, str]] = []
        self._acts: list[tuple[type[Shown], Mapping[str, Any], Callable[[], Any]]] = []
        self._acting: list[threading.Thread] = []
        self.faults: list[Exception] = []
        self.tracker: Any = None

    # Running

    @property
    def store(self) -> StudyStore:
        return StudyStore(self.folder / "runs", self.folder.name)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "runs")

    def when(self, act: Callable[[], Any], what: type[Shown], **values: Any) -> None:
        """Act once, beside the driver, when the user is shown something of a type with these values."""
        self._acts.append((what, values, act))

    def run(self, **options: Any) -> Outcome:
        """One invocation of the driver, in this process."""
        display, console = LineDisplay(console_to(self.say)), Options(executor="bench:make")
        take_one, make_tracker = Session._take_one, driver_run.open_tracker

        def keep_tracker(*arguments: Any) -> Tracker:
            self.tracker = make_tracker(*arguments)
            return self.tracker

        def take(session: Session, event: Event) -> None:
            self.events.append((time.time(), event))
            take_one(session, event)

        def show(event: Shown) -> None:
            display.apply(event)
            for what, values, act in list(self._acts):
                if isinstance(event, what) and all(getattr(event, n) == value for n, value in values.items()):
                    self._acts.remove((what, values, act))
                    self._acting.append(threading.Thread(target=self._act, args=(act,)))
                    self._acting[-1].start()

        Session._take_one = take  # type: ignore[method-assign]
        driver_run.open_tracker = keep_tracker
        try:
            outcome = run_study(load_plan("demo", self.overrides), show, options=console, **options)
        finally:
            Session._take_one = take_one  # type: ignore[method-assign]
            driver_run.open_tracker = make_tracker
        for thread in self._acting:
            thread.join()
        if self.faults:
            raise self.faults[0]
        for text in (outcome.error, outcome.note):
            if text:
                self.say(text)
        return outcome

    def listen(self, driver: subprocess.Popen[str]) -> threading.Thread:
        """Take what a driver of another process says for what the user sees."""

        def read() -> None:
            for line in driver.stdout or ():
                self.say(line)

        thread = threading.Thread(target=read)
        thread.start()
        return thread

    def _act(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:  # raised where the run is awaited
            self.faults.append(error)

    def strike(self) -> None:
        """From now on the fault is there."""
        self.struck = time.time()

    def mend(self) -> None:
        """From now on it is not there any more; recovery counts from here."""
        self.mended = time.time()

    def arm(self, name: str) -> None:
        """Let one batch of a trial be hit by a fault of ``bench``."""
        (self.control / name).touch()

    def hit(self, name: str) -> tuple[float, list[str]]:
        """When a fault of ``bench`` hit, and which cells."""
        at, *keys = self.wait(lambda: (self.control / f"{name}.keys").read_text().split(), OSError)
        self.struck = float(at)
        return float(at), keys

    # What happened

    def lines(self) -> list[Line]:
        rows = (line.split() for line in (self.control / "times.log").read_text().splitlines())
        return [Line(float(r[0]), r[1], r[2], r[3], int(r[4]), int(r[5])) for r in rows]

    def whats(self) -> set[str]:
        """What was written down so far: ``epoch``, ``finished``, ``scoring``."""
        return {line.what for line in self.lines()}

    def next_epoch(self, after: float, accept: Callable[[Line], bool] = lambda line: True) -> float | None:
        """Seconds from ``after`` to the end of the first epoch of a trial's cell that counts."""
        times = [
            line.at
            for line in self.lines()
            if line.at > after and line.what == "epoch" and line.kind == "train" and accept(line)
        ]
        return round(min(times) - after, 1) if times else None

    def told(self, kind: type[T]) -> list[T]:
        """Events of the pool of a type since the fault, oldest first."""
        return [event for at, event in self.events if at >= self.struck and isinstance(event, kind)]

    def wait(self, condition: Callable[[], Any], *errors: type[Exception]) -> Any:
        """What ``condition`` returns once it is true; ``errors`` count as not yet."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                found = condition()
            except errors:
                found = None
            if found:
                return found
            time.sleep(0.05)
        raise TimeoutError(f"{self.folder.name}: it did not happen within {PATIENCE_S:.0f} s")

    def states(self) -> list[Path]:
        """Files of batches in training."""
        return [path for path in (self.folder / "runs" / "inflight").iterdir() if path.name[0] != "."]

    def seen(self) -> list[str]:
        """What the user was shown since the fault, apart from the routine."""
        lines = [text for at, text in self._said if at >= self.struck - 0.1]
        return list(dict.fromkeys(line for line in lines if line and not ROUTINE.search(line)))

    def measures(self) -> dict[str, Any]:
        """The counts of the table, from records and from what the workers wrote down."""
        trials = self.store.load_trials()
        keys = [key for trial in trials for key in trial.keys]
        ledger = self.ledger
        ended = ledger.finished() | set(ledger.failures(keys))
        lines = self.lines()
        finished = Counter(line.key for line in lines if line.what == "finished")
        epochs = Counter((line.key, line.epoch) for line in lines if line.what == "epoch")
        repeated = Counter(key for (key, _), count in epochs.items() for _ in range(count - 1))
        # This process may see fewer GPUs than the cluster of the study.
        asked = load_plan("demo", [text for text in self.overrides if not text.startswith("slots.")])
        missing = asked.trials * asked.cells_per_trial - len(keys)
        return {
            "cells_lost": missing + sum(key not in ended for key in keys),
            "cells_finished_twice": sum(count > 1 for count in finished.values()),
            "epochs_repeated": max(repeated.values(), default=0),
            "mlflow_duplicates": self._duplicates(),
        }

    def _duplicates(self) -> int:
        runs = Counter(run.data.tags["mmap.run"] for run in self.mlflow_runs())
        return sum(count - 1 for count in runs.values())

    def mlflow_runs(self) -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        experiment = client.get_experiment_by_name(self.folder.name)
        return [] if experiment is None else client.search_runs([experiment.experiment_id], max_results=1000)

    def say(self, text: str) -> None:
        """Take lines for what the user sees."""
        for line in text.splitlines():
            said = re.sub(r"^\d{4}-[\d:T-]*Z ", "", line).strip().replace(str(self.folder), "…")
            self._said.append((time.time(), said))


class _Written(io.TextIOBase):
    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take

    def write(self, text: str) -> int:
        self._take(text)
        return len(text)


def console_to(take: Callable[[str], None]) -> Console:
    """A console that hands over what is printed."""
    return Console(file=_Written(take), width=400, force_terminal=False)  # type: ignore[arg-type]


def processes_called(prefix: bytes, control: Path) -> list[int]:
    """Processes of this Ray by the beginning of their title; known by the folder in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            title, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if title.startswith(prefix) and str(control).encode() in environment:
            found.append(int(process.name))
    return found


def kill(*pids: int) -> None:
    """SIGKILL, if they are still there."""
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
