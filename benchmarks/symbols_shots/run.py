"""Does tuning on `symbols` gain with the number of shots?

    uv run python benchmarks/symbols_shots/run.py

Trains one configuration, the paper's preset within the demo's space, on 1, 3, 6 and 12 shots and three seeds,
scores it and zero-shot on the same test images, and writes results.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from mmap_model.cells import Point
from mmap_model.methods import get_method
from orchestrator.execution.executor import Executor
from orchestrator.ledger import Ledger
from orchestrator.statistics.summary import paired_difference, summarize
from orchestrator.study import load_plan
from orchestrator.work.events import CellsKnown, CellState, EpochReached, WorkEvent
from orchestrator.work.provenance import provenance

SHOTS = (1, 3, 6, 12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", default="runs", help="where cells are kept; finished ones are reused")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    overrides = [f"storage={args.storage}", f"splits=[{', '.join(f'{{shots: {k}}}' for k in SHOTS)}]"]
    plan = load_plan("demo", overrides)
    point = plan.space.replay(plan.space.preset())
    zero_shot = Point(method="zero_shot", settings=get_method("zero_shot").Settings())
    any_item = plan.work_item(point, item_id="shots")
    executor = Executor(any_item.dataset, any_item.backbone, any_item.storage, threads=args.threads)
    started = time.monotonic()
    tuned, reference = (scores(plan, executor, p) for p in (point, zero_shot))
    rows: list[dict[str, Any]] = [
        {
            "shots": k,
            "test": summarize(list(tuned[f"{k}-shot"].values())).to_dict(),
            "zero_shot": summarize(list(reference[f"{k}-shot"].values())).to_dict(),
            "gain": difference.to_dict(),
        }
        for k in SHOTS
        if (difference := paired_difference(tuned[f"{k}-shot"], reference[f"{k}-shot"])) is not None
    ]
    for row in rows:
        test, gain = row["test"], row["gain"]
        print(
            f"{row['shots']:>2} shots: test {100 * test['mean']:.1f} ± {100 * test['std']:.1f} %, "
            f"gain {100 * gain['mean']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
        )
    result = {
        "configuration": point.to_dict(),
        "rows": rows,
        "seconds": round(time.monotonic() - started),
        "provenance": provenance(),
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(result, indent=2) + "\n")


def scores(plan: Any, executor: Executor, point: Point) -> dict[str, dict[Any, float]]:
    """Test accuracy by split and seed; cells that are not in the ledger are trained."""
    cells: list[CellState] = []

    def follow(event: WorkEvent) -> None:
        match event:
            case CellsKnown():
                cells.extend(event.cells)
            case EpochReached():
                print(f"{point.method} epoch {event.epoch}: {event.mean:.3f}", flush=True)

    executor.run(plan.work_item(point, item_id="train"), follow)
    keys = tuple(cell.key for cell in cells)
    confirm = plan.work_item(
        point, item_id="test", purpose="confirm", cells=keys, reason="accuracy by number of shots"
    )
    executor.run(confirm, lambda event: None)
    tests = Ledger(plan.study.storage).tests(keys)
    found: dict[str, dict[Any, float]] = {}
    for cell in cells:
        found.setdefault(cell.split, {})[cell.seed] = tests[cell.key]["metrics"]["accuracy"]
    return found


if __name__ == "__main__":
    main()
