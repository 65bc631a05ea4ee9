"""The same work for both ways of running it: epochs of a fixed length, and nothing else.

``make`` is the executor of the slots; ``epochs`` is what a Train worker of the textbook recipe runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.work.events import CellsKnown, CellState, Done, Emit, EpochReached
from orchestrator.work.item import Control, WorkItem

EPOCHS = 8
EPOCH_S = 0.2


def epochs() -> Iterator[int]:
    """Do the work; yields 1 to ``EPOCHS`` as each is over."""
    for epoch in range(1, EPOCHS + 1):
        time.sleep(EPOCH_S)
        yield epoch


def make(**options: Any) -> Bench:
    return Bench()


class Bench:
    """An executor without records: what remains is what slots, pool and thin trials cost."""

    def load(self) -> None: ...
    def doing(self) -> None: ...

    def run(self, item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None:
        name = item.item_id
        emit(CellsKnown(item_id=name, cells=[CellState(key=name, split="1-shot", seed="1", parameters=1)]))
        if item.purpose == "search":
            for epoch in epochs():
                mean = epoch / EPOCHS
                emit(EpochReached(item_id=name, epoch=epoch, mean=mean, values=[mean], reports={}))
        emit(Done(item_id=name, state="complete", seconds={"total": EPOCHS * EPOCH_S}))
