"""Order, resuming, failures and records of work items, with an engine that only pretends to train."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmap_model import revisions
from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Partition, Recipe, Seeds, Split, canonical_partition
from mmap_model.errors import DatasetError
from mmap_model.methods.mmap import MmapSettings
from mmap_model.methods.zero_shot import ZeroShotSettings
from mmap_model.revisions import Revision
from orchestrator.execution.executor import Executor
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.ledger.cell_files import path_of
from orchestrator.ledger.cell_records import COPY, RECORD
from orchestrator.ledger.cells import HISTORY, WEIGHTS
from orchestrator.work.events import (
    CellFailure,
    CellFinished,
    CellScored,
    CellsKnown,
    Done,
    EpochReached,
    Note,
    ProbeFinished,
    ProbesKnown,
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


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def of_kind(events: Sequence[WorkEvent], kind: type[T]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


def keys_of(events: Sequence[WorkEvent]) -> list[str]:
    return [cell.key for cell in of_kind(events, CellsKnown)[0].cells]


def place_of(scene: Scene, key: str, name: str) -> str:
    """Where a file of a finished cell lies."""
    record = scene.ledger.get(key)
    assert record is not None
    return path_of(key, name, record["files"][name])


def test_items_survive_json(scene: Scene) -> None:
    item = scene.item(cells=("a",), fence=3)
    assert WorkItem.from_dict(json.loads(json.dumps(item.to_dict()))) == item


def test_a_trial_trains_its_cells_in_step_and_records_them(scene: Scene) -> None:
    events = scene.run()
    cells = of_kind(events, CellsKnown)[0].cells
    assert [(c.split, c.seed) for c in cells] == [
        (split, seed) for split in ("3-shot", "6-shot") for seed in ("1", "2", "3")
    ]
    assert {c.status for c in cells} == {"new"} and {c.parameters for c in cells} == {20}
    epochs = of_kind(events, EpochReached)
    assert [e.epoch for e in epochs] == [1, 2, 3]
    for event in epochs:
        expected = [accuracy(c.key, event.epoch) for c in cells]
        assert event.values == expected
        assert event.mean == pytest.approx(sum(expected) / 6)
    assert scene.engine.widths == [3, 3], "the seeds of a split are one batch"
    assert isinstance(events[-1], Done) and events[-1].state == "complete"
    assert scene.ledger.finished() == set(keys_of(events))
    assert scene.ledger.inflight_batches() == []
    record = scene.ledger.get(cells[0].key, verify=True)
    assert record is not None
    assert Cell.from_dict(record["cell"]).key == cells[0].key
    assert record["grouping"] == {"margin": 0.5} and record["trial"] == 0 and record["epochs"] == EPOCHS
    assert record["metrics"]["tasks"]["clipart"]["accuracy"] == accuracy(cells[0].key, 3)
    assert [h["epoch"] for h in scene.ledger.history(cells[0].key)] == [1, 2, 3]


def test_all_cells_are_committed_before_the_last_epoch_is_told(scene: Scene) -> None:
    events = scene.run()
    kinds = [type(event) for event in events]
    assert kinds.count(CellFinished) == 6
    assert max(i for i, k in enumerate(kinds) if k is CellFinished) < max(
        i for i, k in enumerate(kinds) if k is EpochReached
    )


def test_finished_cells_are_not_trained_again_but_told(scene: Scene) -> None:
    first = scene.run()
    scene.engine.epochs_run = 0
    events = scene.run(trial=5)
    assert scene.engine.epochs_run == 0
    assert {c.status for c in of_kind(events, CellsKnown)[0].cells} == {"finished"}
    assert of_kind(events, CellsKnown)[0].cells[0].origin["trial"] == 0
    assert of_kind(events, CellFinished) == []
    assert [e.mean for e in of_kind(events, EpochReached)] == [e.mean for e in of_kind(first, EpochReached)]
    assert events[-1].state == "complete"


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("split", [0, 1])
def test_after_a_kill_at_most_one_epoch_of_a_cell_is_repeated(scene: Scene, epoch: int, split: int) -> None:
    calls = []

    def kill(run: PretendedRun, at: int) -> None:
        calls.append(at)
        if len(calls) == 2 * (epoch - 1) + split + 1:
            raise Killed

    scene.engine.before_epoch = kill
    with pytest.raises(Killed):
        scene.run()
    scene.engine.before_epoch = lambda run, at: None
    events = scene.run()
    assert scene.engine.epochs_run == 6 * EPOCHS, "no whole epoch was lost or trained twice"
    assert [e.epoch for e in of_kind(events, EpochReached)] == [1, 2, 3], (
        "epochs before the kill are told again"
    )
    whole = "\n".join(f"{e}:{','.join(keys_of(events)[:3])}" for e in (1, 2, 3))
    assert scene.ledger.read_file(keys_of(events)[0], "prompts.safetensors").decode() == whole
    resumed = [c.status for c in of_kind(events, CellsKnown)[0].cells]
    first = "finished" if (epoch, split) == (3, 1) else "resumed" if epoch > 1 or split else "new"
    assert resumed == [first] * 3 + ["resumed" if epoch > 1 else "new"] * 3


def test_a_kill_between_the_commits_of_a_batch_trains_nothing_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = Ledger.commit, []

    def commit(self: Ledger, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
        count.append(key)
        if len(count) == 2:
            raise Killed
        return real(self, key, record, files)

    monkeypatch.setattr(Ledger, "commit", commit)
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    monkeypatch.setattr(Ledger, "commit", real)
    events = scene.run(splits=(Split(shots=3),))
    assert scene.engine.epochs_run == 3 * EPOCHS
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["finished", "resumed", "resumed"]
    assert len(scene.ledger.finished()) == 3 and scene.ledger.inflight_batches() == []


def test_cells_that_others_finished_are_left_out_of_the_batch(scene: Scene) -> None:
    scene.run(seeds=(Seeds.both(2),))
    scene.engine.widths.clear()
    events = scene.run()
    assert scene.engine.widths == [2, 2]
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["new", "finished", "new"] * 2


def test_a_diverging_cell_fails_alone_and_its_trial_has_no_further_mean(scene: Scene) -> None:
    scene.engine.diverging = {(2, 3)}
    events = scene.run()
    failed = of_kind(events, CellFailure)
    assert len(failed) == 2 and all("diverged in epoch 2" in e.error for e in failed)
    assert [e.epoch for e in of_kind(events, EpochReached)] == [1]
    assert events[-1].state == "failed" and "diverged" in events[-1].error
    assert len(scene.ledger.finished()) == 4 and scene.ledger.failed() == {e.key for e in failed}
    assert scene.ledger.inflight_batches() == []


def test_failed_cells_are_trained_again_only_on_request(scene: Scene) -> None:
    scene.engine.diverging = {(2, 3)}
    scene.run()
    scene.engine.diverging, scene.engine.epochs_run = set(), 0
    again = scene.run()
    assert scene.engine.epochs_run == 0
    assert again[-1].state == "failed" and len(of_kind(again, CellFailure)) == 2
    retried = scene.run(retry_failed=True)
    assert retried[-1].state == "complete" and scene.engine.epochs_run == 2 * EPOCHS
    assert scene.ledger.failed() == set()


def test_a_batch_with_a_failed_cell_resumes_after_a_kill(scene: Scene) -> None:
    scene.engine.diverging = {(1, 3)}

    def kill(run: PretendedRun, epoch: int) -> None:
        if epoch == 3:
            raise Killed

    scene.engine.before_epoch = kill
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    scene.engine.before_epoch = lambda run, epoch: None
    events = scene.run(splits=(Split(shots=3),))
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["resumed", "resumed", "failed"]
    assert scene.engine.epochs_run == 2 * EPOCHS
    assert len(scene.ledger.finished()) == 2


@pytest.mark.parametrize("fuse", ["auto", "off"])
@pytest.mark.parametrize("capacity", [3, 2])
def test_a_kill_after_a_divergence_repeats_at_most_one_epoch(scene: Scene, capacity: int, fuse: Any) -> None:
    """Also where memory had held no more than two of the cells at once."""
    scene.engine.diverging, scene.engine.capacity = {(2, 2)}, capacity
    scene.engine.before_epoch = kill_before(3)
    for _ in range(3):
        with pytest.raises(Killed):
            scene.run(splits=(Split(shots=3),), fuse=fuse)
    scene.engine.before_epoch = lambda run, epoch: None
    events = scene.run(splits=(Split(shots=3),), fuse=fuse)
    told = of_kind(events, CellsKnown)[0].cells
    assert [c.status for c in told] == ["resumed", "failed", "resumed"]
    assert [c.epoch for c in told] == [2, 0, 2]
    first, second, third = keys_of(events)
    assert sorted(scene.engine.trained) == sorted(
        [(key, epoch) for key in (first, third) for epoch in (1, 2, 3)] + [(second, 1)]
    )
    assert scene.ledger.finished() == {first, third} and scene.ledger.failed() == {second}


def test_cells_to_be_retried_begin_anew_and_the_others_go_on(scene: Scene) -> None:
    scene.engine.diverging = {(2, 2)}
    scene.engine.before_epoch = kill_before(3)
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    scene.engine.diverging, scene.engine.before_epoch = set(), lambda run, epoch: None
    scene.engine.trained.clear()
    events = scene.run(splits=(Split(shots=3),), retry_failed=True)
    assert events[-1].state == "complete"
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["resumed", "new", "resumed"]
    first, second, third = keys_of(events)
    assert sorted(scene.engine.trained) == sorted(
        [(first, 3), (third, 3), *((second, epoch) for epoch in (1, 2, 3))]
    )


def test_states_of_an_earlier_version_are_found_the_newest_first(scene: Scene) -> None:
    """They were kept by the cells that were active: after a divergence, beside an older one of all cells."""
    scene.engine.diverging = {(2, 2)}
    scene.engine.before_epoch = kill_before(3)
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    keys = [c.key for c in of_kind(scene.run(lambda: Control(cancel=True)), CellsKnown)[0].cells][:3]
    newest = scene.ledger.inflight(keys)
    assert newest is not None and newest.epoch == 2
    for state in (
        replace(newest, built=()),
        replace(newest, built=(), active=tuple(keys), epoch=1, state=json.dumps([1, [], {}, keys]).encode()),
    ):
        scene.ledger.save_inflight(state)
    scene.ledger.storage.delete(f"inflight/{newest.batch}.even")
    scene.engine.before_epoch = lambda run, epoch: None
    scene.engine.trained.clear()
    events = scene.run(splits=(Split(shots=3),))
    assert [c.epoch for c in of_kind(events, CellsKnown)[0].cells] == [2, 0, 2]
    assert sorted(scene.engine.trained) == sorted([(keys[0], 3), (keys[2], 3)])
    assert scene.ledger.inflight_batches() == []


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_whatever_is_killed_each_kill_costs_a_cell_at_most_one_epoch(data: st.DataObject) -> None:
    """Kills fall before or after any write of a state, a failure or a record."""
    seeds = data.draw(st.integers(1, 4), label="seeds")
    diverging = data.draw(
        st.sets(st.tuples(st.integers(1, EPOCHS), st.integers(1, seeds)), max_size=2), label="diverging"
    )
    capacity = data.draw(st.integers(1, seeds), label="capacity")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        scene = Scene(Path(folder))
        scene.engine.diverging, scene.engine.capacity = diverging, capacity
        work = {"seeds": tuple(Seeds.both(1 + n) for n in range(seeds)), "splits": (Split(shots=3),)}
        countdown = [0]

        def deadly(name: str) -> None:
            real = getattr(Ledger, name)

            def write(self: Ledger, *given: Any, **named: Any) -> Any:
                countdown[0] -= 1
                if countdown[0] == 0:
                    raise Killed
                result = real(self, *given, **named)
                countdown[0] -= 1
                if countdown[0] == 0:
                    raise Killed
                return result

            patch.setattr(Ledger, name, write)

        for name in ("save_inflight", "record_failure", "commit"):
            deadly(name)
        failed: set[str] = set()
        kills = 0
        for _ in range(3):
            countdown[0] = data.draw(st.integers(1, 12), label="writes until the kill")
            before = len(scene.engine.trained)
            try:
                events = scene.run(**work)
            except Killed:
                kills += 1
            assert failed.isdisjoint(key for key, _ in scene.engine.trained[before:])
            failed = scene.ledger.failed()
        countdown[0] = 0
        events = scene.run(**work)
        keys = keys_of(events)
        lost = {number for _, number in diverging}
        assert scene.ledger.failed() == {keys[number - 1] for number in lost}
        assert scene.ledger.finished() == set(keys) - scene.ledger.failed()
        for key in keys:
            epochs = [epoch for trained, epoch in scene.engine.trained if trained == key]
            assert len(epochs) - len(set(epochs)) <= kills


def kill_before(epoch: int) -> Callable[[PretendedRun, int], None]:
    def kill(run: PretendedRun, at: int) -> None:
        if at == epoch:
            raise Killed

    return kill


def test_an_exception_is_kept_with_its_traceback_and_spares_other_splits(scene: Scene) -> None:
    def fail(run: PretendedRun, epoch: int) -> None:
        if epoch == 2 and next(iter(run._cells.values())).split.shots == 3:
            raise RuntimeError("the device went away")

    scene.engine.before_epoch = fail
    events = scene.run()
    assert events[-1].state == "failed" and "device went away" in events[-1].error
    assert len(scene.ledger.finished()) == 3
    failure = scene.ledger.failure(keys_of(events)[0])
    assert failure is not None and "before_epoch" in failure["traceback"] and failure["epoch"] == 1
    assert failure["kind"] == events[-1].failure == "raised"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("image file is truncated (3 bytes not processed)"), "data"),
        (DatasetError("class 'cat' of task 'photo' has 2 images"), "data"),
        (MemoryError("std::bad_alloc"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 GB"), "memory"),
        (ZeroDivisionError("float division by zero"), "raised"),
    ],
)
def test_failures_are_told_apart(scene: Scene, error: Exception, kind: str) -> None:
    def fail(run: PretendedRun, epoch: int) -> None:
        raise error

    scene.engine.before_epoch = fail
    events = scene.run(splits=(Split(shots=3),), seeds=(Seeds.both(1),))
    failure = scene.ledger.failure(keys_of(events)[0])
    assert failure is not None and failure["kind"] == kind
    assert [event.failure for event in of_kind(events, CellFailure)] == [kind]
    assert (events[-1].state, events[-1].failure) == ("failed", kind)


def test_data_of_one_seed_that_cannot_be_read_fails_that_seed_alone(scene: Scene) -> None:
    def fail(run: PretendedRun, epoch: int) -> None:
        if 2 in {cell.seeds.train for cell in run._cells.values()}:
            raise OSError("image file is truncated (3 bytes not processed)")

    scene.engine.before_epoch = fail
    events = scene.run(splits=(Split(shots=3),))
    first, second, third = keys_of(events)
    assert scene.ledger.finished() == {first, third} and scene.ledger.failed() == {second}
    assert [(e.key, e.failure) for e in of_kind(events, CellFailure)] == [(second, "data")]


def test_data_that_cannot_be_opened_at_all_fails_every_cell(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise DatasetError("/images is not a folder", where="dataset.root")

    monkeypatch.setattr(scene.engine, "fusable", fail)
    monkeypatch.setattr(scene.engine, "start", fail)
    events = scene.run(splits=(Split(shots=3),))
    assert scene.ledger.failed() == set(keys_of(events)) and len(of_kind(events, CellFailure)) == 3
    assert events[-1].failure == "data" and "/images is not a folder" in events[-1].error


def test_data_that_fails_later_fails_all_cells_and_keeps_their_epochs(scene: Scene) -> None:
    def fail(run: PretendedRun, epoch: int) -> None:
        if epoch == 3:
            raise OSError("image file is truncated (3 bytes not processed)")

    scene.engine.before_epoch = fail
    events = scene.run(splits=(Split(shots=3),))
    assert scene.ledger.failed() == set(keys_of(events)[:3])
    scene.engine.before_epoch = lambda run, epoch: None
    scene.engine.trained.clear()
    again = scene.run(splits=(Split(shots=3),), retry_failed=True)
    assert again[-1].state == "complete"
    assert scene.engine.trained == [(key, 3) for key in keys_of(events)[:3]]


def test_a_device_that_fails_is_not_held_against_the_cell(scene: Scene) -> None:
    """Its process can do nothing more: it ends, and the next one goes on from the last epoch saved."""

    def fail(run: PretendedRun, epoch: int) -> None:
        if epoch == 3:
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    scene.engine.before_epoch = fail
    one = {"splits": (Split(shots=3),), "seeds": (Seeds.both(1),)}
    with pytest.raises(RuntimeError, match="ECC"):
        scene.run(**one)
    scene.engine.before_epoch = lambda run, epoch: None
    events = scene.run(**one)
    assert events[-1].state == "complete" and scene.engine.epochs_run == EPOCHS
    assert [cell.status for cell in of_kind(events, CellsKnown)[0].cells] == ["resumed"]


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_a_metric_that_is_no_number_fails_its_cell_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    report = PretendedRun._report

    def broken(run: PretendedRun, key: str, epoch: int) -> dict[str, Any]:
        found = report(run, key, epoch)
        bad = epoch == 2 and run._cells[key].seeds.train == 2
        return {**found, metric: float("nan")} if bad else found

    monkeypatch.setattr(PretendedRun, "_report", broken)
    events = scene.run(splits=(Split(shots=3),))
    failed = [event.key for event in of_kind(events, CellFailure)]
    assert failed == [keys_of(events)[1]] and len(scene.ledger.finished()) == 2
    assert (events[-1].state, events[-1].failure) == ("failed", "nan")
    assert f"its {metric} in epoch 2 is nan" in events[-1].error


def test_divergence_that_only_the_end_shows_fails_its_cell_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was restored after its last epoch evaluates once more when it finishes."""
    finish = PretendedRun.finish

    def broken(run: PretendedRun) -> dict[str, dict[str, Any]]:
        run.failed[next(key for key, cell in run._cells.items() if cell.seeds.train == 2)] = "it diverged"
        return finish(run)

    monkeypatch.setattr(PretendedRun, "finish", broken)
    events = scene.run(splits=(Split(shots=3),))
    assert [event.failure for event in of_kind(events, CellFailure)] == ["nan"]
    assert (events[-1].state, events[-1].error) == ("failed", "it diverged")
    assert len(scene.ledger.finished()) == 2 and scene.ledger.failed() == {keys_of(events)[1]}


def test_a_cell_that_gives_no_numbers_on_test_images_leaves_the_others_their_scores(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tuple(keys_of(scene.run(splits=(Split(shots=3),))))
    score = PretendedEngine.score_test

    def broken(engine: PretendedEngine, *given: Any) -> dict[str, dict[str, Any]]:
        return {**score(engine, *given), keys[1]: {"error": "its logits are not finite"}}

    monkeypatch.setattr(PretendedEngine, "score_test", broken)
    events = scene.run(purpose="confirm", cells=keys)
    assert [event.key for event in of_kind(events, CellScored)] == [keys[0], keys[2]]
    assert [(e.key, e.failure) for e in of_kind(events, CellFailure)] == [(keys[1], "nan")]
    assert (events[-1].state, events[-1].failure) == ("failed", "nan")
    assert set(scene.ledger.tests(keys)) == {keys[0], keys[2]}


def test_only_the_cells_in_training_are_given_up(scene: Scene) -> None:
    told: list[WorkEvent] = []

    def hang(run: PretendedRun, epoch: int) -> None:
        if epoch == 2 and next(iter(run._cells.values())).split.shots == 3:
            told.extend(scene.executor.give_up("no progress for 9 s", "in a lock"))
            raise Killed

    scene.engine.before_epoch = hang
    with pytest.raises(Killed):
        scene.run()
    assert [type(event) for event in told] == [CellFailure] * 3 + [Done]
    assert scene.ledger.failed() == {event.key for event in told[:-1]}
    failure = scene.ledger.failure(told[0].key)
    assert failure is not None
    assert (failure["kind"], failure["traceback"], failure["epoch"]) == ("timeout", "in a lock", 1)
    scene.engine.before_epoch = lambda run, epoch: None
    events = scene.run()
    assert events[-1].failure == "timeout" and len(scene.ledger.finished()) == 3


def test_cancelling_keeps_the_last_whole_epoch_for_another_study(scene: Scene) -> None:
    seen: list[int] = []
    scene.engine.before_epoch = lambda run, epoch: seen.append(epoch)
    events = scene.run(lambda: Control(cancel=3 in seen))
    assert events[-1].state == "cancelled" and of_kind(events, CellFinished) == []
    assert [e.epoch for e in of_kind(events, EpochReached)] == [1, 2]
    other = scene.run(study="other", trial=7)
    assert {c.epoch for c in of_kind(other, CellsKnown)[0].cells} == {2}
    assert scene.engine.epochs_run == 6 * EPOCHS and other[-1].state == "complete"


def test_single_cells_can_be_left_out(scene: Scene) -> None:
    plan = scene.run(lambda: Control(cancel=True))
    unwanted = keys_of(plan)[1]
    events = scene.run(lambda: Control(cancelled_keys=frozenset({unwanted})))
    assert scene.ledger.finished() == set(keys_of(plan)) - {unwanted}
    assert events[-1].state == "cancelled"
    assert scene.run()[-1].state == "complete"


def test_a_worker_of_a_superseded_driver_writes_nothing(scene: Scene) -> None:
    store = StudyStore(scene.root, "demo")
    with store.driver_lease() as old:
        fence = old.take()
    with store.driver_lease() as new:
        new.take()
        events = scene.run(fence=fence)
        assert events[-1].state == "cancelled" and "took the study over" in events[-1].error
        assert scene.ledger.finished() == set() and scene.ledger.inflight_batches() == []
        assert scene.run(fence=new.fence)[-1].state == "complete"


def test_unfused_cells_are_batches_of_their_own(scene: Scene) -> None:
    scene.run(fuse="off")
    assert scene.engine.widths == [1] * 6


def test_seeds_with_epochs_of_other_lengths_are_batches_of_their_own(scene: Scene) -> None:
    scene.engine.lengths = {2: 7}
    events = scene.run(splits=(Split(shots=3),))
    assert events[-1].state == "complete" and scene.engine.widths == [2, 1]
    first, second, third = keys_of(events)
    beside = {key: scene.ledger.get(key)["fused_with"] for key in (first, second, third)}  # type: ignore[index]
    assert beside == {first: [third], second: [], third: [first]}


def test_states_of_batches_that_should_not_have_been_fused_are_left_alone(scene: Scene) -> None:
    scene.engine.before_epoch = kill_before(3)
    with pytest.raises(Killed):
        scene.run(splits=(Split(shots=3),))
    scene.engine.before_epoch, scene.engine.lengths = lambda run, epoch: None, {2: 7}
    scene.engine.trained.clear()
    events = scene.run(splits=(Split(shots=3),))
    assert events[-1].state == "complete" and len(scene.engine.trained) == 3 * EPOCHS


@pytest.mark.parametrize("grouping", ["random", "gradient"])
def test_cells_that_were_trained_for_the_steps_of_another_seed_are_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, grouping: Any
) -> None:
    """Also where only the probe was, which shares its result with all trials."""
    finish = PretendedRun.finish

    def labelled(run: PretendedRun) -> dict[str, dict[str, Any]]:
        found = finish(run)
        for key, result in found.items():
            cell = run._cells[key]
            spoilt = grouping == "random" or cell.kind == "probe"
            train = 16 * cell.seeds.train if spoilt else 16
            result["metrics"]["labels"] = {"clipart": {"train": train, "validation": 2}}
        return found

    monkeypatch.setattr(PretendedRun, "finish", labelled)
    point = replace(Point.from_dict(scene.item().point), grouping=Grouping(mode=grouping))
    events = scene.run(point=point, splits=(Split(shots=3),))
    again = scene.run(point=point, splits=(Split(shots=3),), study="other", trial=1)
    assert again[-1].state == "failed" and again[-1].failure == "data"
    for word in ("give 1 × 16 images", "trained it on 3 × 16", "storage=", "an earlier version"):
        assert word in again[-1].error, events[-1]


def test_a_batch_too_wide_for_the_device_is_halved(scene: Scene) -> None:
    scene.engine.capacity = 2
    events = scene.run()
    assert events[-1].state == "complete" and scene.engine.widths == [2, 1, 2, 1]
    assert [e.epoch for e in of_kind(events, EpochReached)] == [1, 2, 3]


def test_memory_that_runs_out_at_the_very_end_halves_the_batch_too(scene: Scene) -> None:
    asked: list[int] = []

    def full() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    scene.engine.before_finish = full
    events = scene.run(splits=(Split(shots=3),))
    assert events[-1].state == "complete" and scene.engine.widths == [3, 2, 1]
    scene.engine.before_finish = lambda: asked.clear() or full()
    again = scene.run(splits=(Split(shots=6),), fuse="off")
    assert {event.failure for event in of_kind(again, CellFailure)} == {"memory"}
    assert again[-1].failure == "memory"


def test_a_batch_too_wide_with_fusing_forced_fails_with_the_reason(scene: Scene) -> None:
    scene.engine.capacity = 2
    events = scene.run(fuse="on")
    assert events[-1].state == "failed" and "device is full" in events[-1].error


def test_the_probe_is_trained_once_and_shared(scene: Scene) -> None:
    point = replace(Point.from_dict(scene.item().point), grouping=Grouping(mode="gradient"))
    events = scene.run(point=point)
    assert scene.engine.kinds == ["probe", "probe", "train", "train"]
    assert [len(e.cells) for e in of_kind(events, ProbesKnown)] == [3, 3]
    assert len(of_kind(events, ProbeFinished)) == 6 and len(of_kind(events, CellFinished)) == 6
    assert {tuple(map(tuple, c.partition)) for c in of_kind(events, CellsKnown)[0].cells} == {
        ((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)),
    }  # fmt: skip
    scene.engine.kinds.clear()
    scene.run(point=replace(point, recipe=Recipe(epochs=2)))
    assert scene.engine.kinds == ["train", "train"]


def test_a_probe_in_work_elsewhere_is_waited_for(scene: Scene) -> None:
    point = replace(Point.from_dict(scene.item().point), grouping=Grouping(mode="gradient"))
    inside: list[list[WorkEvent]] = []

    def second_worker(run: PretendedRun, epoch: int) -> None:
        if epoch == 1 and not inside:
            inside.append([])
            polls = iter(range(3))
            inside[0] = scene.run(lambda: Control(cancel=next(polls, None) is None), point=point, trial=1)

    scene.engine.before_epoch = second_worker
    assert scene.run(point=point)[-1].state == "complete"
    assert inside[0][-1].state == "cancelled" and of_kind(inside[0], ProbesKnown) == []
    assert scene.engine.kinds == ["probe", "probe", "train", "train"]


def test_a_failing_probe_fails_the_trial_with_its_reason(scene: Scene) -> None:
    point = replace(Point.from_dict(scene.item().point), grouping=Grouping(mode="gradient"))
    scene.engine.diverging = {(1, 2)}
    events = scene.run(point=point)
    assert events[-1].state == "failed" and "probe of 3-shot failed" in events[-1].error


def test_test_images_are_scored_once_and_every_look_is_recorded(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    assert scene.engine.scored == []
    events = scene.run(purpose="confirm", cells=keys, reason="end of sweep")
    assert sorted(scene.engine.scored) == sorted(keys) and len(of_kind(events, CellScored)) == 6
    again = scene.run(purpose="confirm", cells=keys)
    assert len(scene.engine.scored) == 6 and len(of_kind(again, CellScored)) == 6
    looks = StudyStore(scene.root, "demo").load_test_evaluations()
    assert [(look["reason"], sorted(look["keys"])) for look in looks] == [("end of sweep", sorted(keys))]


def test_cells_of_an_earlier_revision_are_not_scored_with_other_images(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tuple(event.key for event in of_kind(scene.run(), CellFinished))
    later = Revision(name="draws", number=3, reason="test images are others", applies=lambda cell: True)
    monkeypatch.setattr(revisions, "REVISIONS", (*revisions.REVISIONS, later))
    events = scene.run(purpose="confirm", cells=keys)
    assert events[-1].state == "failed" and scene.engine.scored == []
    assert "is of an earlier version: test images are others" in events[-1].error


def test_unfinished_cells_cannot_be_scored(scene: Scene) -> None:
    events = scene.run(purpose="confirm", cells=("f" * 32,))
    assert events[-1].state == "failed" and "not finished" in events[-1].error
    assert StudyStore(scene.root, "demo").load_test_evaluations() == []


def test_cells_without_weights_are_scored_only_after_training_again(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    whole = {key: scene.ledger.read_file(key, WEIGHTS) for key in keys}
    for key in keys[:2]:
        scene.ledger.drop(key, WEIGHTS)
    assert {c.status for c in of_kind(scene.run(), CellsKnown)[0].cells} == {"finished"}
    refused = scene.run(purpose="confirm", cells=keys)
    assert refused[-1].state == "failed" and scene.engine.scored == []
    command = f"orchestrator confirm demo --storage {scene.root} --trial 0 --retrain"
    for word in (keys[0][:12], "was dropped", command):
        assert word in refused[-1].error
    assert StudyStore(scene.root, "demo").load_test_evaluations() == []
    trained = scene.engine.epochs_run
    events = scene.run(purpose="confirm", cells=keys, retrain=True, fuse="off")
    assert events[-1].state == "complete" and len(of_kind(events, CellScored)) == 6
    assert scene.engine.epochs_run - trained == 2 * EPOCHS
    assert [event.key for event in of_kind(events, CellFinished)] == list(keys[:2])
    for key in keys:
        record = scene.ledger.get(key, verify=True)
        assert record is not None and record["grouping"] == {"margin": 0.5} and "dropped" not in record
        text = scene.ledger.read_file(key, WEIGHTS).decode()
        assert text.split("\n")[-1].startswith(f"{EPOCHS}:") and (
            key in keys[:2] or text == whole[key].decode()
        )


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


def test_broken_cells_of_a_finalist_are_trained_again_before_test_images_are_looked_at(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    break_files(scene, keys[1:4])
    trained = scene.engine.epochs_run
    events = scene.run(purpose="confirm", cells=keys, reason="end of sweep", retry_failed=True)
    assert events[-1].state == "complete" and len(of_kind(events, CellScored)) == 6
    assert scene.engine.epochs_run - trained == 3 * EPOCHS
    assert all(scene.ledger.get(key, verify=True) is not None for key in keys)
    assert [sorted(look["keys"]) for look in looks(scene)] == [sorted(keys)]
    told, *damage = of_kind(events, Note)
    assert all(key[:12] in told.text for key in keys[1:4]), "before it takes its time"
    assert all("Damaged record" in note.text for note in damage), "the numbers are those of before"
    record, test = scene.ledger.get(keys[1]), scene.ledger.test(keys[1])
    assert record is not None and test is not None
    assert test["weights"] == record["files"][WEIGHTS]["sha256"]


def test_broken_cells_are_mended_though_they_are_scored(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run(fuse="off")))
    scene.run(purpose="confirm", cells=keys)
    scene.ledger.drop(keys[0], WEIGHTS)
    break_files(scene, keys[1:4])
    events = scene.run(purpose="confirm", cells=keys, fuse="off")
    assert events[-1].state == "complete" and len(of_kind(events, CellScored)) == 6
    assert all(scene.ledger.is_whole(key) for key in keys) and len(looks(scene)) == 1
    assert scene.ledger.tests(keys).keys() == set(keys), "the same weights keep their scores"
    record = scene.ledger.get(keys[0])
    assert record is not None and "dropped" in record, "it is scored, so nobody needs its weights"


def test_a_reference_row_without_records_is_measured_again(scene: Scene) -> None:
    row = {"purpose": "baseline", "untrained": True, "trial": None}
    keys = tuple(keys_of(scene.run(**row)))
    break_files(scene, keys[:3])
    events = scene.run(**{**row, "purpose": "confirm", "cells": keys})
    assert events[-1].state == "complete" and sorted(scene.engine.scored) == sorted(keys)


def test_of_numbers_that_differ_after_training_again_the_user_is_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tuple(keys_of(scene.run()))
    before = scene.ledger.get(keys[0])
    scene.ledger.storage.write(place_of(scene, keys[0], WEIGHTS), b"torn")
    monkeypatch.setitem(globals(), "accuracy", lambda key, epoch: 0.125)
    events = scene.run(purpose="confirm", cells=keys)
    _, note, damage = of_kind(events, Note)
    assert "Damaged record" in damage.text
    assert before is not None and f"{100 * before['metrics']['accuracy']:.2f} % was recorded" in note.text
    assert keys[0][:12] in note.text and "reaches 12.50 %" in note.text
    record = scene.ledger.get(keys[0])
    assert record is not None and record["metrics"]["accuracy"] == 0.125


def test_no_evaluation_is_recorded_that_did_not_happen(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    scene.ledger.storage.write(place_of(scene, keys[0], WEIGHTS), b"torn")

    def fail(*_: object) -> None:
        raise ValueError("prompts of another backbone")

    scene.engine.before_epoch = fail
    events = scene.run(purpose="confirm", cells=keys)
    assert events[-1].state == "failed" and "another backbone" in events[-1].error
    assert looks(scene) == [] and scene.engine.scored == []
    assert scene.ledger.failed() == set(), "the trial is no failure: it was complete"
    scene.engine.before_epoch = lambda run, epoch: None
    scene.engine.before_scoring = fail
    for _ in range(2):
        events = scene.run(purpose="confirm", cells=keys, retry_failed=True)
        assert events[-1].state == "failed" and "another backbone" in events[-1].error
    assert looks(scene) == []
    scene.engine.before_scoring = lambda: None
    assert scene.run(purpose="confirm", cells=keys)[-1].state == "complete" and len(looks(scene)) == 1


def test_weights_that_another_study_drops_at_the_last_moment_are_trained_again(scene: Scene) -> None:
    """Between the other study's decision and its deletion this one's trial became a finalist."""
    *_, key = keys = tuple(keys_of(scene.run()))

    def drop() -> None:
        if not scene.engine.scored:  # the first split's cells are about to be scored, the second's later
            assert scene.ledger.drop(key, WEIGHTS)

    scene.engine.before_scoring = drop
    trained = scene.engine.epochs_run
    events = scene.run(purpose="confirm", cells=keys, retrain=True)
    assert events[-1].state == "complete" and scene.ledger.tests(keys).keys() == set(keys)
    assert scene.engine.epochs_run - trained == EPOCHS and len(looks(scene)) == 1


def test_a_cell_that_is_trained_again_while_it_is_scored_is_scored_again(scene: Scene) -> None:
    (key, *_) = keys = tuple(keys_of(scene.run()))

    def replace_weights() -> None:
        scene.ledger.drop(key, WEIGHTS)
        record = scene.ledger.get(key)
        assert record is not None
        files = {**scene.ledger.read_files(key, record), WEIGHTS: b"of another device"}
        del record["dropped"]
        assert scene.ledger.commit(key, record, files)
        scene.engine.before_scoring = lambda: None

    scene.engine.before_scoring = replace_weights
    events = scene.run(purpose="confirm", cells=keys)
    assert events[-1].state == "failed" and "was trained again while it was scored" in events[-1].error
    assert scene.ledger.test(key) is None and len(scene.ledger.tests(keys)) == 5
    assert scene.run(purpose="confirm", cells=keys)[-1].state == "complete"
    assert scene.ledger.tests(keys).keys() == set(keys)


def test_a_worker_of_a_superseded_driver_looks_at_no_test_images(scene: Scene) -> None:
    keys = tuple(keys_of(scene.run()))
    store = StudyStore(scene.root, "demo")
    with store.driver_lease() as old:
        fence = old.take()
    with store.driver_lease() as new:
        new.take()
        events = scene.run(purpose="confirm", cells=keys, fence=fence)
        assert events[-1].state == "cancelled" and looks(scene) == [] and scene.engine.scored == []


def test_a_cell_that_another_worker_finished_meanwhile_is_told_as_recorded(scene: Scene) -> None:
    other = scene.ledger

    def finish_first() -> None:
        for key in [cell.key for event in of_kind(told, CellsKnown) for cell in event.cells]:
            other.commit(key, {"metrics": {"accuracy": 0.25}, "parameters": 1, "seconds": {}}, {})

    told: list[WorkEvent] = []
    scene.engine.before_finish = finish_first
    Executor({}, {}, scene.root, engine=scene.engine).run(scene.item(), told.append, Control)
    finished = of_kind(told, CellFinished)
    assert len(finished) == 6 and all(event.metrics == {"accuracy": 0.25} for event in finished)


def test_reference_rows(scene: Scene) -> None:
    zero_shot = scene.run(
        purpose="baseline",
        test=True,
        trial=None,
        point=Point(method="zero_shot", settings=ZeroShotSettings()),
    )
    assert zero_shot[-1].state == "complete" and len(of_kind(zero_shot, CellScored)) == 6
    trained = scene.run()
    zero_step = scene.run(purpose="baseline", untrained=True, trial=None)
    assert zero_step[-1].state == "complete"
    assert set(keys_of(zero_step)).isdisjoint(keys_of(trained))
    assert [e.epoch for e in of_kind(zero_step, EpochReached)] == [0]
    record = scene.ledger.get(keys_of(zero_step)[0])
    assert record is not None and record["epochs"] == 0
    assert scene.run(purpose="baseline", untrained=True)[-1].state == "complete"


def test_a_damaged_record_is_trained_again(scene: Scene) -> None:
    first = scene.run(splits=(Split(shots=3),))
    key = keys_of(first)[1]
    scene.ledger.storage.write(place_of(scene, key, WEIGHTS), b"")
    events = scene.run(splits=(Split(shots=3),))
    assert [c.status for c in of_kind(events, CellsKnown)[0].cells] == ["finished", "new", "finished"]
    assert events[-1].state == "complete"
    (note,) = of_kind(events, Note)
    assert note.text.startswith("Damaged record: ") and key in note.text
