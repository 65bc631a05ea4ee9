"""The loop of a slot's worker against a pool in the same process."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from mmap_model.errors import InputError
from orchestrator.slots import worker as worker_module
from orchestrator.slots.pool import Pool
from orchestrator.slots.watch import Watchdog
from orchestrator.slots.worker import SlotSettings, serve
from orchestrator.work.doing import Doing
from orchestrator.work.events import (
    CellFailure,
    Done,
    Emit,
    EndState,
    EpochReached,
    Event,
    ItemEvent,
    Leased,
    Requeued,
    SlotDown,
    SlotMeasured,
    SlotStopped,
    WorkEvent,
)
from orchestrator.work.item import Control, WorkItem

SETTINGS = SlotSettings(slot="0", executor="executor_under_test:make", arguments={}, threads=1)


def work_item(name: str) -> dict[str, Any]:
    return WorkItem(
        item_id=name, study="s", point={}, splits=(), seeds=(), dataset={}, backbone={}, storage=""
    ).to_dict()


class ItemExecutor:
    """Runs what the test gives it, and reports what memory it is given.

    Attributes:
        tracebacks: with which any executor gave up.
    """

    tracebacks: ClassVar[list[str]] = []

    def __init__(self, run: Callable[..., None]) -> None:
        self._run = run
        self.memories: list[dict[str, int] | None] = []

    def load(self) -> None: ...

    def doing(self) -> Doing | None:
        return None

    def memory(self) -> dict[str, int] | None:
        return self.memories.pop(0) if self.memories else None

    def give_up(self, error: str, traceback: str) -> list[WorkEvent]:
        self.tracebacks.append(traceback)
        return [
            CellFailure(item_id="a", key="k", error=error, failure="timeout"),
            Done(item_id="a", state="failed", error=error, failure="timeout"),
        ]

    def run(self, item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None:
        self._run(item, emit, control)


class Connection:
    """A pool behind a lock; long polls become short sleeps. Stops the pool once all items have ended."""

    def __init__(self, *items: str) -> None:
        self.pool = Pool()
        self.told: list[Event] = []
        self._open = set(items)
        self._lock = threading.Lock()
        for name in items:
            self.pool.submit(work_item(name))

    def __call__(self, method: str, *arguments: Any) -> Any:
        with self._lock:
            if method == "acquire":
                answer = self.pool.acquire(*arguments[:2])
            elif method == "wish":
                answer = self.pool.wish(*arguments[:3])
            else:
                call = {"final": arguments[3]} if method == "bye" and len(arguments) > 3 else {}
                answer = getattr(self.pool, method)(*arguments[: 3 if call else None], **call)
            for _, event in self.pool.events(len(self.told)):
                self.told.append(event)
                if isinstance(event, Done):
                    self._open.discard(event.item_id)
            if not self._open:
                self.pool.stop()
        if method == "wish":
            time.sleep(0.005)
        return answer

    def kinds(self, item: str) -> list[type[Event]]:
        return [type(event) for event in self.told if isinstance(event, ItemEvent) and event.item_id == item]


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[..., None]], None]]:
    def install(run: Callable[..., None], *memories: dict[str, int] | None) -> None:
        module = types.ModuleType("executor_under_test")
        made = ItemExecutor(run)
        made.memories = list(memories)
        module.make = lambda: made  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "executor_under_test", module)

    yield install


def finish(item: WorkItem, emit: Emit, state: EndState = "complete") -> None:
    emit(Done(item_id=item.item_id, state=state))


def test_items_are_done_one_after_the_other_with_their_events_in_order(executor: Any) -> None:
    def run(item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None:
        for epoch in (1, 2, 3):
            emit(EpochReached(item_id=item.item_id, epoch=epoch, mean=0.1, values=[0.1], reports={}))
        finish(item, emit)

    executor(run)
    pool = Connection("a", "b")
    serve(SETTINGS, pool)
    assert pool.kinds("a") == pool.kinds("b") == [Leased, EpochReached, EpochReached, EpochReached, Done]
    assert [e.epoch for e in pool.told if isinstance(e, EpochReached)] == [1, 2, 3, 1, 2, 3]


def test_a_cancelled_item_hears_of_it_while_it_works(executor: Any) -> None:
    pool = Connection("a", "b")

    def run(item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None:
        if item.item_id == "a":
            pool("cancel", "a")
            while not control().cancel:
                time.sleep(0.001)
            finish(item, emit, "cancelled")
        else:
            assert not control().cancel, "what was wanted of one item is not wanted of the next"
            finish(item, emit)

    executor(run)
    serve(SETTINGS, pool)
    assert [e.state for e in pool.told if isinstance(e, Done)] == ["cancelled", "complete"]


def test_a_worker_that_was_taken_for_dead_gives_its_item_up_and_takes_work_again(executor: Any) -> None:
    pool = Connection("a")
    runs = itertools.count()

    def run(item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None:
        if next(runs) == 0:
            pool("died", "0", "its worker was silent for 60 s")
            while not control().cancel:
                time.sleep(0.001)
        finish(item, emit)

    executor(run)
    serve(SETTINGS, pool)
    assert pool.kinds("a") == [Leased, Requeued, Leased, Done]


def test_a_worker_that_was_replaced_ends(executor: Any) -> None:
    pool = Connection("a")

    def run(item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None:
        pool("hello", "0", "another")
        while not control().cancel:
            time.sleep(0.001)
        finish(item, emit)

    executor(run)
    serve(SETTINGS, pool)
    assert pool.kinds("a") == [Leased, Requeued]


def test_input_errors_end_the_slot_and_others_are_raised_for_train_to_restart(executor: Any) -> None:
    def missing(*_: Any) -> None:
        raise InputError("no such dataset")

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    executor(missing)
    pool = Connection("a")
    serve(SETTINGS, pool)
    last = pool.told[-1]
    assert isinstance(last, SlotStopped) and "no such dataset" in last.error
    executor(broken)
    pool = Connection("a")
    with pytest.raises(RuntimeError):
        serve(SETTINGS, pool)
    assert pool.pool.died("0", "process ended")
    down = pool.pool.events(0)[-1][1]
    assert isinstance(down, SlotDown) and "RuntimeError: broken" in down.error


def test_no_secret_of_the_worker_leaves_it_with_an_error(
    executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")

    def run(item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None:
        error = "403 very-secret-key"
        emit(CellFailure(item_id=item.item_id, key="k", error=error, failure="raised"))
        finish(item, emit)

    executor(run)
    pool = Connection("a")
    serve(SETTINGS, pool)
    assert [event.error for event in pool.told if isinstance(event, CellFailure)] == ["403 ***"]


def test_memory_is_reported_after_the_first_item_and_when_it_has_grown(executor: Any) -> None:
    peaks = (100, 102, 110, None)
    executor(
        lambda item, emit, control: finish(item, emit), *(p and {"peak": p, "total": 400} for p in peaks)
    )
    pool = Connection("a", "b", "c", "d")
    serve(SETTINGS, pool)
    told = [event for event in pool.told if isinstance(event, SlotMeasured)]
    assert told == [SlotMeasured(slot="0", peak=peak, total=400) for peak in (100, 110)]


class Gone(BaseException):
    """In place of the end of the process."""


def test_a_cell_without_progress_is_given_up_and_its_worker_ends(executor: Any) -> None:
    ended = threading.Event()

    def run(item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None:
        for _ in range(20):
            control()
            time.sleep(0.02)
        ended.wait(20)
        raise Gone

    codes: list[int] = []

    def quit(code: int) -> None:
        codes.append(code)
        ended.set()

    executor(run)
    pool = Connection("a")
    with pytest.raises(Gone):
        serve(dataclasses.replace(SETTINGS, cell_timeout_s=0.25), pool, quit)
    assert codes == [worker_module.HUNG]
    assert pool.kinds("a") == [Leased, CellFailure, Done]
    last = pool.told[-1]
    assert isinstance(last, Done) and (last.state, last.failure) == ("failed", "timeout")
    assert "cell_timeout_s" in str(last.error) and "ended.wait(20)" in ItemExecutor.tracebacks[-1]
    assert pool.pool.died("0", "its process ended with 75")


def test_hung_cells_that_cannot_be_recorded_are_not_to_blame(
    executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If not even the record can be written it is the storage that hangs."""
    ended = threading.Event()
    monkeypatch.setattr(worker_module, "RECORD_S", 0.05)
    monkeypatch.setattr(ItemExecutor, "give_up", lambda *_: ended.wait(20))

    def run(item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None:
        ended.wait(20)
        raise Gone

    executor(run)
    pool = Connection("a")
    with pytest.raises(Gone):
        serve(dataclasses.replace(SETTINGS, cell_timeout_s=0.1), pool, lambda code: ended.set())
    assert pool.kinds("a") == [Leased]
    pool.pool.died("0", "its process ended with 75")
    assert Requeued in [type(event) for _, event in pool.pool.events(0)]


def test_workers_that_hang_while_they_load_quarantine_their_slot_with_that_reason(
    executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    codes: list[int] = []

    def quit(code: int) -> None:
        codes.append(code)
        ended.set()

    def hang(_: ItemExecutor) -> None:
        assert ended.wait(20)
        raise Gone

    executor(lambda *_: pytest.fail("nothing may run"))
    monkeypatch.setattr(worker_module, "LOAD_S", 0.1)
    monkeypatch.setattr(ItemExecutor, "load", hang)
    pool = Connection("a")
    for _ in range(3):
        ended.clear()
        with pytest.raises(Gone):
            serve(dataclasses.replace(SETTINGS, cell_timeout_s=0.05), pool, quit)
        pool.pool.died("0", "its process ended with 75")
    assert codes == [worker_module.HUNG] * 3
    last = pool.pool.events(0)[-1][1]
    assert isinstance(last, SlotStopped) and "not loaded after" in last.error


def test_loading_is_given_longer_than_a_step_and_watched_only_where_steps_are(
    executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    class Noted(worker_module.Watchdog):
        def __init__(self, limit: float, hung: Callable[[float], None]) -> None:
            limits.append(limit)
            super().__init__(limit, hung)

    executor(lambda item, emit, control: finish(item, emit))
    monkeypatch.setattr(worker_module, "Watchdog", Noted)
    for timeout in (None, 30.0, 1800.0):
        serve(dataclasses.replace(SETTINGS, cell_timeout_s=timeout), Connection("a"))
    assert limits == [worker_module.LOAD_S, 30.0, 1800.0, 1800.0]


def test_a_slot_that_may_not_go_on_does_not_even_load(executor: Any) -> None:
    executor(lambda *_: pytest.fail("nothing may run"))
    pool = Connection("a")
    pool.pool.stop()
    serve(SETTINGS, pool)


def test_long_polls_are_shorter_than_the_silence_that_means_death() -> None:
    from orchestrator.slots.pool import PATIENCE

    assert worker_module.ACQUIRE_S < PATIENCE / 2


def test_time_in_which_the_whole_worker_was_stopped_is_no_hang() -> None:
    looks, silences, hung = itertools.count(), [], threading.Event()

    def clock() -> float:
        """Stands still but for one jump, as after SIGSTOP; then nothing beats any more."""
        look = next(looks)
        return 0.0 if look < 10 else 7200.0 + 0.02 * (look - 10)

    def note(silence: float) -> None:
        silences.append(silence)
        hung.set()

    watch = Watchdog(0.2, note, clock)
    watch.start()
    assert hung.wait(30)
    watch.stop()
    assert silences[0] < 1.0
