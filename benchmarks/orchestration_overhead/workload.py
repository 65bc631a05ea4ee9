"""The same work for both ways of running it: epochs of a fixed length, and nothing else.

``make`` is the workbench of the slots; ``epochs`` is what a Train worker of the textbook recipe runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.work.item import Control, Event, WorkItem

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
    """A workbench without records: what remains is what slots, pool and thin trials cost."""

    def load(self) -> None: ...

    def run(self, item: WorkItem, emit: Callable[[Event], None], control: Callable[[], Control]) -> None:
        cell = {"key": item.item_id, "split": "1-shot", "seed": "1", "partition": None, "parameters": 1}

        def tell(kind: str, **fields: Any) -> None:
            emit({"item_id": item.item_id, "kind": kind, **fields})

        tell("cells", cells=[{**cell, "status": "new", "epoch": 0}])
        if item.purpose == "search":
            for epoch in epochs():
                tell("epoch", epoch=epoch, mean=epoch / EPOCHS, values=[epoch / EPOCHS], cells={})
        tell("done", state="complete", error=None, seconds={"total": EPOCHS * EPOCH_S})
