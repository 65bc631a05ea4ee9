"""Made-up trials as a driver tells them, and what of them a database of MLflow holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.tracking import Backend, Connection, Delivery, Operation, Tracker
from orchestrator.tracking.narration import Narration
from orchestrator.work.events import CellFinished, CellsKnown, CellState, EpochReached

STUDY = "tracking-benchmark"
SEEDS = 3
EPOCHS = 5
TASKS = ("art", "clipart", "product", "real_world")
BEGAN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def tracker_to(connect: Callable[[], Backend], folder: Path) -> Tracker:
    """As a driver has it: an outbox on disk, a courier that empties it."""
    return Tracker("", folder, connect=connect, narration=Narration(study=STUDY), fence=1)


def connection(uri: str) -> Connection:
    return Connection(uri=uri, experiment=STUDY, study="a1")


def tell(tracker: Tracker, trial: int) -> None:
    """A trial of three cells from its beginning to its end, with the numbers that training reports."""
    keys = [f"{trial:06d}{seed}" for seed in range(SEEDS)]
    point = {
        "method": "mmap",
        "settings": {"prompt_length": 4, "source_rows": 2, "source_cols": 16},
        "recipe": {"lr": 0.001 * (trial + 1)},
    }
    cells = [
        CellState(
            key=key,
            split="6-shot",
            seed=str(seed),
            partition=[[0, 1], [2, 3]],
            parameters=3240,
            dataset="d" * 32,
            backbone="b" * 32,
        )
        for seed, key in enumerate(keys)
    ]
    tracker.trial_started(trial, point, started_at=_stamp(trial, 0))
    tracker.event(trial, CellsKnown(item_id="", cells=cells))
    for epoch in range(1, EPOCHS + 1):
        reports = {key: _report(trial, epoch, seed) for seed, key in enumerate(keys)}
        values = [report["accuracy"] for report in reports.values()]
        told = EpochReached(item_id="", epoch=epoch, mean=None, values=values, reports=reports)
        tracker.event(trial, told)
    for key in keys:
        seconds = {"train": 20.0, "evaluate": 4.0, "data": 1.0}
        finished = CellFinished(
            item_id="", key=key, at=_stamp(trial, EPOCHS), metrics={}, parameters=3240, seconds=seconds
        )
        tracker.event(trial, finished)
    about: dict[str, Any] = {"device_seconds": 75.0, "parameters": 3240, "share": 0.002}
    tracker.trial_ended(trial, "complete", ended_at=_stamp(trial, EPOCHS + 1), **about)


def _report(trial: int, epoch: int, seed: int) -> dict[str, Any]:
    accuracy = 0.3 + 0.05 * epoch + 0.001 * seed
    scores = {"accuracy": accuracy, "nll": 2.0 / epoch, "ece": 0.05, "macro_f1": accuracy - 0.01}
    return {
        "epoch": epoch,
        "at": _stamp(trial, epoch),
        **scores,
        "train_loss": 3.0 / epoch,
        "lr": 0.01 / epoch,
        "tasks": {task: {**scores, "train_loss": 3.0 / epoch} for task in TASKS},
        "seconds": {"train": 4.0, "evaluate": 1.0, "data": 0.2},
    }


def _stamp(trial: int, step: int) -> str:
    return (BEGAN + timedelta(seconds=10 * trial + step)).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class Held:
    """What a database holds: runs, those of them that ended well, values, and what is there twice."""

    runs: int
    finished: int
    metrics: int
    params: int
    tags: int
    twice: int

    @property
    def values(self) -> int:
        return self.metrics + self.params + self.tags


def held(uri: str) -> Held:
    """Count what MLflow's tables hold."""
    import sqlalchemy

    def one(query: str) -> int:
        return int(opened.execute(sqlalchemy.text(query)).scalar() or 0)

    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as opened:
            twice = one(
                "SELECT count(*) FROM "
                "(SELECT 1 FROM metrics GROUP BY run_uuid, key, step HAVING count(*) > 1) t"
            )
            twice += one(
                "SELECT count(*) FROM "
                "(SELECT 1 FROM tags WHERE key = 'mmap.run' GROUP BY value HAVING count(*) > 1) t"
            )
            return Held(
                runs=one("SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'"),
                finished=one("SELECT count(*) FROM runs WHERE status = 'FINISHED'"),
                metrics=one("SELECT count(*) FROM metrics"),
                params=one("SELECT count(*) FROM params"),
                tags=one("SELECT count(*) FROM tags"),
                twice=twice,
            )
    finally:
        engine.dispose()


class Listener(Backend):
    """Counts what is told: what a database must hold in the end."""

    def __init__(self) -> None:
        super().__init__(connection(""))
        self.runs: set[str] = set()
        self.points: set[tuple[str, str, int]] = set()
        self.params: set[tuple[str, str]] = set()

    def write(self, operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        for operation in operations:
            run = operation["run"]
            self.runs.add(run)
            self.points |= {(run, name, step) for name, _, step, _ in operation.get("metrics", ())}
            self.params |= {(run, name) for name in operation.get("params", {})}
        return Delivery()
