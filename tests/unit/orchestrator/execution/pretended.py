"""An engine that only pretends to train, and a storage folder to run items on with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Partition, Recipe, Seeds, Split, canonical_partition
from mmap_model.methods.mmap import MmapSettings
from orchestrator.execution.executor import Executor
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.ledger.cell_files import path_of
from orchestrator.ledger.cell_records import COPY, RECORD
from orchestrator.ledger.cells import HISTORY, WEIGHTS
from orchestrator.work.events import (
    CellsKnown,
    WorkEvent,
)
from orchestrator.work.item import Control, WorkItem

T = TypeVar("T")


EPOCHS = 3


class Stopped(Exception):
    """What the pretended training raises when it is told to stop."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


class OutOfMemoryError(Exception):
    """Named as torch names it."""


def accuracy(key: str, epoch: int) -> float:
    return int(hashlib.sha256(f"{key}{epoch}".encode()).hexdigest()[:6], 16) / 16**6


class PretendedRun:
    """Its state is the text of everything that was trained, so that a lost or repeated epoch shows."""

    def __init__(self, cells: Sequence[Cell], engine: PretendedEngine) -> None:
        self._engine = engine
        self._cells = {cell.key: cell for cell in cells}
        self._recipe = cells[0].configuration.recipe
        self.epoch = 0
        self.position = None
        self.trace: list[str] = []
        self.failed: dict[str, str] = {}
        self.cancelled: set[str] = set()

    @property
    def active(self) -> tuple[str, ...]:
        return tuple(key for key in self._cells if key not in self.failed and key not in self.cancelled)

    def epochs(self, should_stop: Callable[[], bool]) -> Iterator[tuple[int, dict[str, dict[str, Any]]]]:
        while self.epoch < self._recipe.epochs and self.active:
            epoch = self.epoch + 1
            self._engine.before_epoch(self, epoch)
            if should_stop():
                raise Stopped
            for key in self.active:
                if (epoch, self._cells[key].seeds.train) in self._engine.diverging:
                    self.failed[key] = f"training diverged in epoch {epoch}"
            if not self.active:
                yield epoch, {}
                return
            self.epoch = epoch
            self.trace.append(f"{epoch}:{','.join(self.active)}")
            self._engine.epochs_run += len(self.active)
            self._engine.trained += [(key, epoch) for key in self.active]
            yield epoch, {key: self._report(key, epoch) for key in self.active}

    def initial(self) -> tuple[int, dict[str, dict[str, Any]]]:
        return 0, {key: self._report(key, 0) for key in self.active}

    def state(self) -> bytes:
        return json.dumps([self.epoch, self.trace, self.failed, list(self._cells)]).encode()

    def restore(self, state: bytes) -> None:
        self.epoch, self.trace, self.failed, cells = json.loads(state)
        assert cells == list(self._cells), "the state is of another batch"

    def cancel(self, key: str) -> None:
        self.cancelled.add(key)

    def finish(self) -> dict[str, dict[str, Any]]:
        self._engine.before_finish()
        return {
            key: {
                "metrics": {"accuracy": accuracy(key, self.epoch)},
                "parameters": 10,
                "seconds": {"train": 1.0},
                "versions": {"torch": "0"},
                "files": {
                    "prompts.safetensors": "\n".join(self.trace).encode(),
                    **({"gram.safetensors": b"gram"} if self._cells[key].kind == "probe" else {}),
                },
            }
            for key in self.active
        }

    def _report(self, key: str, epoch: int) -> dict[str, Any]:
        value = accuracy(key, epoch)
        return {"accuracy": value, "lr": 0.1, "tasks": {"clipart": {"accuracy": value}}, "seconds": {}}


class PretendedEngine:
    """Trains nothing, counts everything."""

    manifest, fingerprint, device, tasks = "d" * 32, "b" * 32, "cpu", 4

    def __init__(self) -> None:
        self.epochs_run = 0
        self.trained: list[tuple[str, int]] = []
        self.widths: list[int] = []
        self.kinds: list[str] = []
        self.scored: list[str] = []
        self.diverging: set[tuple[int, int]] = set()
        self.capacity = 100
        self.lengths: dict[int, int] = {}
        """Of the epochs of a seed, where they are not as long as others'."""
        self.before_epoch: Callable[[PretendedRun, int], None] = lambda run, epoch: None
        self.before_finish: Callable[[], None] = lambda: None
        self.before_scoring: Callable[[], None] = lambda: None

    loads = None

    def load(self) -> None: ...

    def start(self, cells: Sequence[Cell]) -> PretendedRun:
        if len(cells) > self.capacity:
            raise OutOfMemoryError("the device is full")
        self.widths.append(len(cells))
        self.kinds.append(cells[0].kind)
        return PretendedRun(cells, self)

    def is_interruption(self, error: Exception) -> bool:
        return isinstance(error, Stopped)

    def fuses(self, point: Point) -> bool:
        return point.method != "full"

    def fusable(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        found: dict[int, list[Cell]] = {}
        for cell in cells:
            found.setdefault(self.lengths.get(cell.seeds.train, 0), []).append(cell)
        return list(found.values())

    def count(self, cell: Cell) -> int:
        return 10 * len(cell.configuration.partition or ())

    def probe(self, point: Point) -> Configuration:
        return Configuration(method="mmap", settings=MmapSettings(), partition=((0, 1, 2, 3),))

    def resolve(
        self, grouping: Grouping, gram: bytes | None, train_seed: int
    ) -> tuple[Partition, dict[str, Any]]:
        assert (gram is not None) == (grouping.mode == "gradient")
        other = 1 + train_seed % 3
        rest = sorted({1, 2, 3} - {other})
        return canonical_partition([[0, other], rest]), {"margin": 0.5}

    def score_test(
        self,
        cells: Sequence[Cell],
        files: Mapping[str, Mapping[str, bytes]],
        check: Callable[[], None],
    ) -> dict[str, dict[str, Any]]:
        assert len({cell.split.label for cell in cells}) == 1, "one split at a time"
        assert all("prompts.safetensors" in files[cell.key] for cell in cells)
        self.before_scoring()
        check()
        self.scored += [cell.key for cell in cells]
        return {
            cell.key: {
                "metrics": {"accuracy": accuracy(cell.key, -1)},
                "files": {"test_predictions.parquet": b"t"},
            }
            for cell in cells
        }


class Scene:
    """A storage folder and the means to run items on it, each in a fresh process as it were."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.engine = PretendedEngine()

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.root)

    def item(self, **changes: Any) -> WorkItem:
        point = Point(
            method="mmap",
            settings=MmapSettings(prompt_length=4, source_rows=2, source_cols=16),
            recipe=Recipe(epochs=EPOCHS),
            grouping=Grouping(mode="random"),
        )
        fields: dict[str, Any] = {
            "item_id": "i",
            "study": "demo",
            "trial": 0,
            "splits": (Split(shots=3), Split(shots=6)),
            "seeds": (Seeds.both(1), Seeds.both(2), Seeds.both(3)),
            "dataset": {},
            "backbone": {},
            "storage": self.root,
        }
        return WorkItem.of(**{"point": point, **fields, **changes})

    def run(self, control: Callable[[], Control] = Control, **changes: Any) -> list[WorkEvent]:
        events: list[WorkEvent] = []
        self.executor = Executor({}, {}, self.root, engine=self.engine)
        self.executor.run(self.item(**changes), events.append, control)
        assert all(event.item_id == "i" for event in events)
        return events


def of_kind(events: Sequence[WorkEvent], kind: type[T]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


def keys_of(events: Sequence[WorkEvent]) -> list[str]:
    return [cell.key for cell in of_kind(events, CellsKnown)[0].cells]


def place_of(scene: Scene, key: str, name: str) -> str:
    """Where a file of a finished cell lies."""
    record = scene.ledger.get(key)
    assert record is not None
    return path_of(key, name, record["files"][name])


def kill_before(epoch: int) -> Callable[[PretendedRun, int], None]:
    def kill(run: PretendedRun, at: int) -> None:
        if at == epoch:
            raise Killed

    return kill


def looks(scene: Scene) -> list[dict[str, Any]]:
    return StudyStore(scene.root, "demo").load_test_evaluations()


def break_files(scene: Scene, keys: Sequence[str]) -> None:
    """Of each cell another file: torn prompts, a missing history, a record and copy that are torn."""
    storage = scene.ledger.storage
    torn, gone, lost = keys
    storage.write(place_of(scene, torn, WEIGHTS), b"torn")
    storage.delete(place_of(scene, gone, HISTORY))
    for name in (RECORD, COPY):
        storage.write(f"cells/{lost}/{name}", b"torn")
