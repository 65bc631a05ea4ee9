"""What grows with the trials of a study? The driver's parts without Ray, one trial after the other.

    python benchmarks/scale/in_process.py --trials 5000 [--mlflow]

Search, pool, trial records, tracker and (with ``--mlflow``) MLflow in sqlite are the real ones; a stub does
the cells, which the real ledger takes. Prints milliseconds of processor time per trial, by part, and memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import meters
import stub

from orchestrator.driver.slot_display import SlotDisplay
from orchestrator.driver.timing import Timing
from orchestrator.driver.trials import Trials
from orchestrator.ledger import Invocation, StudyStore, WriteBehind
from orchestrator.rows.rows import Rows
from orchestrator.search.proposals import Proposals
from orchestrator.slots.pool import Pool
from orchestrator.study import load_plan
from orchestrator.terminal.state import SweepState
from orchestrator.tracking.narration import Narration
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work.events import Event
from orchestrator.work.item import WorkItem


class Queue:
    """The pool without an actor around it."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self._read = pool, 0

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
        self.pool.submit(item.to_dict(), list(needs))

    def go_on(self, item: WorkItem) -> None: ...
    def cancel(self, item_id: str) -> None:
        self.pool.cancel(item_id)

    def forget(self, item_id: str) -> None:
        self.pool.forget(item_id)

    def news(self) -> list[Event]:
        batch = self.pool.events(self._read)
        self._read = batch[-1][0] if batch else self._read
        return [event for _, event in batch]


def measure(trials: int, folder: Path, *, mlflow: bool) -> dict[str, Any]:
    """Run ``trials`` trials; cost per trial of each 500."""
    plan = load_plan(
        "demo", [f"storage={folder}", f"search.trials={trials}", "recipe.epochs=3", "search.scheduler=none"]
    )
    watched = meters.Meters()
    watched.watch(Proposals, "propose", "sampler")
    watched.watch(Proposals, "tell", "sampler")
    store, pool = StudyStore(folder, "scale"), Pool()
    queue, bench, behind = Queue(pool), stub.make({}, {}, str(folder)), WriteBehind(store.storage)
    watched.watch(bench, "run", "worker")
    tracker: Tracker | NoTracker = NoTracker()
    if mlflow:
        from orchestrator.tracking.backend import Connection
        from orchestrator.tracking.mlflow.writer import MlflowWriter

        watched.watch(MlflowWriter, "write", "mlflow")
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        tracker = Tracker(
            uri,
            folder / "outbox",
            connect=lambda: MlflowWriter(Connection(uri=uri, experiment="scale", study="0" * 16)),
            narration=Narration(study="scale"),
        )
    state = SweepState()
    progress = state.apply
    rows = Rows(plan, queue, tracker, progress, Invocation())
    source = Trials(
        rows,
        Proposals(plan.space.suggest, first=plan.first),
        store,
        slots=lambda: 1,
        behind=behind,
    )
    watched.watch(source, "launch", "launch")
    watched.watch(rows, "take", "take")
    watched.watch(source, "ended", "ended")
    parts = (Timing(), SlotDisplay(progress), rows)
    assert pool.hello("0", "worker"), "the pool is new"
    samples = [watched.now()]
    for _ in range(trials):
        config = source.launch()
        assert config is not None, "the space is continuous"
        end = None
        while end is None:
            lease = pool.acquire("0", "worker")
            assert lease is not None and "lease" in lease, "something is queued"
            bench.run(
                WorkItem.from_dict(lease["item"]),
                lambda event, lease=lease: pool.report("0", "worker", lease["lease"], [event]),
            )
            for event in queue.news():
                for part in parts:
                    part.take(event)
            source.flush()
            followed = pool.follow(config["item"], 0)
            end = followed["end"]
        source.ended(config["number"], end["state"], dict(followed["epochs"]))
        samples.append(watched.now())
    assert behind.close(60), "a local disk takes records"
    if isinstance(tracker, Tracker):
        tracker.close(timeout=0.0)
    step = min(500, trials // 2)
    return {
        "trials": trials,
        "per_trial_ms": {
            f"{first}-{first + step}": meters.spent(samples, first, first + step)
            for first in range(0, trials - step + 1, step)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--mlflow", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.trials, Path(folder), mlflow=arguments.mlflow)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
