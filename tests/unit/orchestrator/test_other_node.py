"""Nodes whose data or weights differ: none of their numbers enters a mean, and the user is told which."""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mmap_model.cells import Cell, Point
from mmap_model.configuration import Grouping, Recipe, Seeds, Split, canonical_partition
from mmap_model.data.content import TaskContent
from mmap_model.methods.mmap import MmapSettings
from orchestrator.execution.executor import Executor
from orchestrator.ledger import Ledger
from orchestrator.slots.pool import DEATHS, Pool
from orchestrator.slots.worker import SlotSettings, serve
from orchestrator.work.events import CellsKnown, Done, Event, Requeued, SlotStopped, WorkEvent
from orchestrator.work.inputs import Inputs, OtherInputs
from orchestrator.work.item import Control, WorkItem

T = TypeVar("T")


STUDY = Inputs(manifest="d" * 32, fingerprint="b" * 32, versions={"pillow": "12.0.0"})


class Engine:
    """Trains nothing on the data and weights it is given."""

    device, tasks, loads = "cpu", 4, None

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.manifest, self.fingerprint = inputs.manifest, inputs.fingerprint
        self.batches = 0

    def load(self) -> None: ...

    def start(self, cells: Sequence[Cell]) -> Batch:
        self.batches += 1
        return Batch(cells)

    def is_interruption(self, error: Exception) -> bool:
        return False

    def fuses(self, point: Point) -> bool:
        return True

    def fusable(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        return [cells]

    def count(self, cell: Cell) -> int:
        return 10

    def resolve(self, grouping: Grouping, gram: bytes | None, train_seed: int) -> Any:
        return canonical_partition([[0, 1], [2, 3]]), {}


class Batch:
    """Cells in pretended training."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.active = tuple(cell.key for cell in cells)
        self.failed: dict[str, str] = {}
        self.epoch = 0
        self.position = None

    def epochs(self, should_stop: Callable[[], bool]) -> Iterator[tuple[int, dict[str, Any]]]:
        while self.epoch < 2:
            self.epoch += 1
            yield self.epoch, {key: {"accuracy": 0.5, "tasks": {}, "seconds": {}} for key in self.active}

    def state(self) -> bytes:
        return str(self.epoch).encode()

    def restore(self, state: bytes) -> None:
        self.epoch = int(state)

    def finish(self) -> dict[str, dict[str, Any]]:
        common = {"parameters": 10, "seconds": {"train": 0.1}, "versions": {}, "files": {}}
        return {key: {"metrics": {"accuracy": 0.5}, **common} for key in self.active}


class Cluster:
    """Slots on threads, each with the executor of its node, and the pool between them.

    Args:
        items: what is queued, each as parts of one trial if there are several.
        over: asked after every call whether the pool may stop.
    """

    def __init__(self, over: Callable[[Cluster], bool]) -> None:
        self.pool = Pool()
        self.told: list[Event] = []
        self._over = over
        self._lock = threading.Lock()

    def __call__(self, method: str, *arguments: Any) -> Any:
        with self._lock:
            if method in ("acquire", "wish"):
                answer = getattr(self.pool, method)(*arguments[: 2 if method == "acquire" else 3])
            elif method == "bye" and len(arguments) > 3:
                answer = self.pool.bye(*arguments[:3], final=arguments[3])
            else:
                answer = getattr(self.pool, method)(*arguments)
            self.told += [event for _, event in self.pool.events(len(self.told))]
            if self._over(self):
                self.pool.stop()
        if method in ("acquire", "wish"):
            time.sleep(0.005)
        return answer

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.told if isinstance(event, kind)]

    def serve(self, *slots: str) -> None:
        threads = [
            threading.Thread(
                target=serve,
                args=(
                    SlotSettings(slot=slot, executor=f"executor_of_{slot}:make", arguments={}, threads=1),
                    self,
                ),
                daemon=True,
            )
            for slot in slots
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)

    @property
    def stopped(self) -> dict[str, str]:
        return {event.slot: event.error for event in self.of(SlotStopped)}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Inputs], Engine]:
    """Gives a slot an executor with its own data and weights."""

    def install(slot: str, inputs: Inputs) -> Engine:
        engine = Engine(inputs)
        module = types.ModuleType(f"executor_of_{slot}")
        module.make = lambda: Executor({}, {}, str(tmp_path), engine=engine)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return engine

    return install


def item(storage: Path, **changes: Any) -> WorkItem:
    point = Point(
        method="mmap",
        settings=MmapSettings(prompt_length=4, source_rows=2, source_cols=16),
        recipe=Recipe(epochs=2),
        grouping=Grouping(mode="random"),
    )
    fields: dict[str, Any] = {
        "item_id": "trial-0",
        "study": "demo",
        "trial": 0,
        "splits": (Split(shots=3), Split(shots=6)),
        "seeds": (Seeds.both(1), Seeds.both(2)),
        "dataset": {},
        "backbone": {},
        "storage": str(storage),
        "inputs": STUDY.to_dict(),
    }
    return WorkItem.of(**{"point": point, **fields, **changes})


OTHERS = [
    (replace(STUDY, manifest="e" * 32, versions={"pillow": "11.3.0"}), ["images", "e" * 32, "pillow 12.0.0"]),
    (replace(STUDY, fingerprint="c" * 32), ["weights", "c" * 32, "b" * 32]),
]


@pytest.mark.parametrize(("others", "words"), OTHERS)
def test_cells_of_one_trial_are_never_trained_on_two_copies_of_the_data(
    tmp_path: Path, node: Callable[[str, Inputs], Engine], others: Inputs, words: list[str]
) -> None:
    good, bad = node("good", STUDY), node("bad", others)
    whole = item(tmp_path)
    leased: set[str] = set()

    def over(cluster: Cluster) -> bool:
        return bool(cluster.of(Done))

    cluster = Cluster(over)
    acquire = cluster.pool.acquire

    def one_each(slot: str, worker: str) -> Any:
        """The first leases go to both slots: neither may do everything before the other asks."""
        if slot == "good" and "bad" not in leased:
            return None
        answer = acquire(slot, worker)
        if answer and "item" in answer:
            leased.add(slot)
        return answer

    cluster.pool.acquire = one_each  # type: ignore[method-assign]
    cluster.pool.submit(whole.to_dict(), parts=[part.to_dict() for part in whole.parts(2)])
    cluster.serve("good", "bad")
    assert leased == {"good", "bad"}
    (done,) = cluster.of(Done)
    assert done.state == "complete" and done.error is None
    trained_on = {(cell.dataset, cell.backbone) for event in cluster.of(CellsKnown) for cell in event.cells}
    assert trained_on == {(STUDY.manifest, STUDY.fingerprint)}
    records = Ledger(tmp_path).get_many(Ledger(tmp_path).finished()).values()
    assert len(records) == 4 and {r["cell"]["dataset"] for r in records} == {STUDY.manifest}
    assert good.batches == 2 and bad.batches == 0, "refused before training"
    assert list(cluster.stopped) == ["bad"]
    for word in [*words, "study 'demo'", "node "]:
        assert word in cluster.stopped["bad"]


def test_an_item_that_many_nodes_refuse_is_not_lost_for_it(
    tmp_path: Path, node: Callable[[str, Inputs], Engine]
) -> None:
    bad = [f"bad{number}" for number in range(DEATHS + 1)]
    for slot in bad:
        node(slot, OTHERS[0][0])
    node("good", STUDY)
    cluster = Cluster(lambda cluster: bool(cluster.of(Done)) or len(cluster.stopped) == len(bad))
    cluster.pool.submit(item(tmp_path).to_dict())
    cluster.serve(*bad)
    assert sorted(cluster.stopped) == bad and cluster.of(Done) == []
    assert [event.deaths for event in cluster.of(Requeued)] == [0] * len(bad)


def test_the_last_node_that_refuses_leaves_the_reason(
    tmp_path: Path, node: Callable[[str, Inputs], Engine]
) -> None:
    node("bad", OTHERS[0][0])
    cluster = Cluster(lambda cluster: bool(cluster.stopped))
    cluster.pool.submit(item(tmp_path).to_dict())
    cluster.serve("bad")
    assert "Fix: copy those images to this node" in cluster.stopped["bad"]
    assert Ledger(tmp_path).finished() == set()


def test_an_item_without_inputs_is_done_with_what_there_is(tmp_path: Path) -> None:
    events: list[WorkEvent] = []
    executor = Executor({}, {}, str(tmp_path), engine=Engine(STUDY))
    executor.run(item(tmp_path, inputs={}), events.append)
    assert events[-1].state == "complete"
    with pytest.raises(OtherInputs, match="has other images than study 'demo' was begun with"):
        executor.run(item(tmp_path, inputs=replace(STUDY, manifest="e").to_dict()), events.append)


def pixels(digest: str) -> Inputs:
    content = TaskContent(classes="c", images=(3,), listed="l", pixels=digest, read=3)
    return replace(STUDY, tasks={"photo": content})


def events_of(storage: Path, inputs: Inputs, control: Callable[[], Control] = Control) -> list[WorkEvent]:
    """Of an item of a study with these inputs, on a node that has them."""
    events: list[WorkEvent] = []
    executor = Executor({}, {}, str(storage), engine=Engine(inputs))
    executor.run(item(storage, inputs=inputs.to_dict()), events.append, control)
    return events


def test_a_cell_that_another_study_trained_on_other_bytes_is_not_taken_over(tmp_path: Path) -> None:
    assert events_of(tmp_path, pixels("1"))[-1].state == "complete"
    before = Ledger(tmp_path).get_many(Ledger(tmp_path).finished())
    done = events_of(tmp_path, pixels("2"))[-1]
    assert (done.state, done.failure) == ("failed", "data")
    assert "on images of photo that have the same names and sizes as these" in done.error
    assert Ledger(tmp_path).get_many(before) == before
    assert events_of(tmp_path, pixels("1"))[-1].state == "complete", "the first study goes on"
    assert events_of(tmp_path, STUDY)[-1].state == "complete", "where bytes are unknown, names count"


def test_a_cell_begun_on_other_bytes_begins_anew(tmp_path: Path) -> None:
    asked: list[int] = []

    def once() -> Control:
        asked.append(1)
        return Control(cancel=len(asked) > 2)

    assert events_of(tmp_path, pixels("1"), once)[-1].state == "cancelled"
    assert Ledger(tmp_path).inflight_batches()
    (told,) = (event for event in events_of(tmp_path, pixels("2")) if isinstance(event, CellsKnown))
    assert {cell.status for cell in told.cells} == {"new"}
