"""A pretended tracking server, trackers that tell it, and news as the executor reports them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from orchestrator.tracking import Backend, Connection, Delivery, Operation, Tracker, courier
from orchestrator.tracking.narration import Narration
from orchestrator.tracking.row import TrackedRow
from orchestrator.work.events import CellsKnown, CellState, EpochReached


class Server(Backend):
    """Keeps runs as a tracking server would; fails on request."""

    schemes = ("pretended",)

    def __init__(self) -> None:
        super().__init__(Connection(uri="pretended:", experiment="demo"))
        self.operations: list[Operation] = []
        self.down = False
        self.refused = ""
        self.odd = ""
        self.heard: str | None = None
        self.forgets = False
        self.attempts = threading.Semaphore(0)
        self.meanwhile: Callable[[], None] = lambda: None

    def open(self) -> str | None:
        if self.down:
            self.attempts.release()
            raise ConnectionError("nobody listens")
        return self.heard

    def write(self, operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        self.attempts.release()
        if self.down:
            raise ConnectionError("nobody listens")
        delivery = Delivery()
        for operation in operations:
            if self.refused and operation["run"] == self.refused:
                delivery.refused.append((operation, "INVALID_PARAMETER_VALUE"))
            elif self.odd and operation["run"] == self.odd:
                delivery.undecided.append((operation, "400: <html>s3://key:secret@bucket</html>"))
            else:
                self.operations.append(operation)
        if self.forgets:
            self.forgets, self.operations, delivery.lost = False, [], True
        self.meanwhile()
        return delivery

    def finish(self, mark: str) -> None:
        self.heard = mark

    def of(self, run: str, kind: str) -> list[Operation]:
        return [o for o in self.operations if o["run"] == run and o["op"] == kind]

    def metrics(self, run: str) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        for operation in self.of(run, "log"):
            for name, value, step, _ in operation["metrics"]:
                found.setdefault(name, []).append((step, value))
        return found


class News:
    """Events of a trial of two seeds, with the keys that production's have."""

    POINT: ClassVar[dict[str, Any]] = {
        "method": "mmap",
        "settings": {"prompt_length": 4, "source_rows": 2, "source_cols": 16, "scale_init": None},
        "recipe": {"lr": 0.0035, "epochs": 2},
        "grouping": {"mode": "gradient", "probe": {"prompt_length": 4}},
    }
    AT = "2026-11-21T12:00:00.000000+00:00"

    @staticmethod
    def cells(**changes: Any) -> CellsKnown:
        rows = [
            CellState(
                key=f"k{seed}",
                split="3-shot",
                seed=str(seed),
                partition=[[0, 1], [2, 3]],
                parameters=99,
                dataset="d" * 32,
                backbone="b" * 32,
                **changes,
            )
            for seed in (1, 2)
        ]
        return CellsKnown(item_id="", cells=rows)

    @classmethod
    def epoch(cls, number: int, *values: float) -> EpochReached:
        def report(value: float) -> dict[str, Any]:
            return {
                "epoch": number,
                "at": cls.AT,
                "accuracy": value,
                "nll": None,
                "train_loss": 1.0,
                "lr": 0.1,
                "tasks": {"Real World": {"accuracy": value}},
                "seconds": {"train": 0.5},
            }

        reports = {f"k{seed}": report(value) for seed, value in enumerate(values, start=1)}
        return EpochReached(item_id="", epoch=number, mean=0.0, values=list(values), reports=reports)

    @classmethod
    def score(cls, accuracy: float) -> dict[str, Any]:
        metrics = {"accuracy": accuracy, "tasks": {"a": {"accuracy": accuracy}}}
        return {"metrics": metrics, "scored_at": cls.AT}

    @classmethod
    def recorded(cls, trial: int) -> TrackedRow:
        cells = [cell.to_dict() for cell in cls.cells(status="finished").cells]
        row = TrackedRow(trial=trial, point=cls.POINT, started_at=cls.AT, cells=cells)
        row.add_epoch(1, cls.epoch(1, 0.4, 0.6).reports)
        return row


@pytest.fixture
def news() -> type[News]:
    return News


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def tracker_on(server: Server) -> Callable[..., Tracker]:
    """Makes a tracker that tells the server; takes the folder of its outboxes."""

    def make(folder: Path, **about: Any) -> Tracker:
        narration = Narration(study="demo", locate=lambda key: f"/c/{key}")
        return Tracker("pretended:", folder, connect=lambda: server, narration=narration, **about)

    return make


@pytest.fixture
def tracker(server: Server, tracker_on: Callable[..., Tracker], tmp_path: Path) -> Iterator[Tracker]:
    tracker = tracker_on(tmp_path / "outbox")
    yield tracker
    server.down = False
    tracker.close(5)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "BACKOFF", (0.01,))
    monkeypatch.setattr(courier, "LINGER", 0.01)
