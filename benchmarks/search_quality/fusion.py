"""What training the seeds of a trial together saves: processor seconds of a cell's epoch by cells fused.

    uv run python benchmarks/search_quality/fusion.py     # → fusion.json, some minutes

Processor time of this process, one thread: what else the machine does hardly matters. The demo's point, three
epochs of which the last two count; each epoch is scored, as in a sweep. The probe is measured likewise.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from mmap_model.plain import to_plain
from orchestrator.execution.executor import Executor
from orchestrator.study import execution, load_plan
from orchestrator.work.events import EpochReached, ProbeFinished, WorkEvent
from orchestrator.work.provenance import provenance

HERE = Path(__file__).parent
WIDTHS = (1, 2, 3, 10)
KEPT = 2
"""Epochs that count; the one before them loads images and warms up."""


def measure(width: int) -> dict[str, float]:
    """Processor seconds per cell: ``epoch`` and ``probe``."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = list(range(1, width + 1))
        plan = load_plan(
            str(HERE / "grid.yaml"),
            [f"seeds={seeds}", "recipe.epochs=3", f"storage={folder}", "search.trials=1"],
        )
        point = plan.space.replay(plan.space.preset())
        item = plan.work_item(point, item_id="measured")
        executor = Executor(
            item.dataset,
            item.backbone,
            item.storage,
            device="cpu",
            precision=item.precision,
            threads=1,
            compute=to_plain(execution(plan.study)),
        )
        executor.load()
        began = time.process_time()
        at: list[float] = []
        probes: list[float] = []

        def emit(event: WorkEvent) -> None:
            if isinstance(event, EpochReached):
                at.append(time.process_time())
            elif isinstance(event, ProbeFinished):
                probes.append(time.process_time())

        executor.run(item, emit)
        return {
            "epoch": (at[-1] - at[-1 - KEPT]) / KEPT / width,
            "probe": (max(probes) - began) / width,
        }


def main() -> None:
    found: dict[str, Any] = {}
    for width in WIDTHS:
        found[str(width)] = {name: round(value, 4) for name, value in measure(width).items()}
        print(width, found[str(width)], flush=True)
    result = {"seconds_per_cell": found, "provenance": provenance()}
    (HERE / "fusion.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
