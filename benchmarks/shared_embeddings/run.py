"""What do cells take that find the image tower's work done, beside those that do it themselves?

    uv run python benchmarks/shared_embeddings/run.py

Trains methods that leave the image tower alone on the embedded benchmark at 6 shots, one seed, at the rates
of ``compare --methods 2026 --tune 3``: each rate once by itself and once, right after it, with what the cells
before it left, as a worker of a study does. One thread; results.json holds every cell. A share is of the time
by itself, the sum over a method's rates; the first of all methods finds nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from mmap_model.backbone import Backbone, load_backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Seeds, Split
from mmap_model.data import Dataset, open_dataset
from mmap_model.training import FusedRun
from mmap_model.training.embedding_memo import EmbeddingMemo
from orchestrator.compare.plan import ComparePlan, plan_comparison
from orchestrator.compare.recipes import at_rate
from orchestrator.work.provenance import provenance

COLUMNS = ("task_res", "zs_lp", "clap")
SPLIT = Split(shots=6)
SEEDS = (1,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="symbols")
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    plan = plan_comparison(
        "symbols",
        methods=args.columns,
        seeds=SEEDS,
        tune=3,
        rates="own",
        recipes=["tuned"],
        model=args.backbone,
    )
    backbone, dataset = load_backbone(plan.base.study.backbone), open_dataset(plan.base.study.dataset)
    memo, rows = EmbeddingMemo(), []
    # What only the first training of a process costs is counted with neither.
    measure(cells_of(plan, args.columns[0], plan.first_rates(args.columns[0])[0]), backbone, dataset, None)
    for column in args.columns:
        for rate in plan.first_rates(column):
            cells = cells_of(plan, column, rate)
            alone, accuracies = measure(cells, backbone, dataset, None)
            shared, same = measure(cells, backbone, dataset, memo)
            if accuracies != same:
                raise SystemExit(f"{column} at {rate:g}: the numbers differ, {accuracies} and {same}")
            rows.append({"column": column, "lr": rate, "alone": alone, "shared": shared})
            print(f"{column} lr {rate:g}: {alone:.1f} s by itself, {shared:.1f} s after others", flush=True)
    shares = {column: share([row for row in rows if row["column"] == column]) for column in args.columns}
    for column, found in {**shares, "all": share(rows)}.items():
        print(f"{column}: {100 * found:.0f} % of the time")
    document = {"rows": rows, "shares": shares, "all": share(rows), "provenance": provenance()}
    args.out.write_text(json.dumps(document, indent=1) + "\n")


def cells_of(plan: ComparePlan, column: str, rate: float) -> list[Cell]:
    """Of all seeds."""
    point = plan.searched_points[column]
    configuration = Configuration(
        method=point.method, settings=point.settings, recipe=at_rate(point.recipe, rate)
    )
    return [plan.base.cell(configuration, SPLIT, Seeds.both(seed)) for seed in SEEDS]


def measure(
    cells: list[Cell], backbone: Backbone, dataset: Dataset, memo: EmbeddingMemo | None
) -> tuple[float, list[float]]:
    """Seconds of training and scoring, and the validation accuracies."""
    began = time.perf_counter()
    run = FusedRun(cells, backbone, dataset, memo=memo)
    *_, report = run.epochs()
    return time.perf_counter() - began, [report.cells[cell.key]["accuracy"] for cell in cells]


def share(rows: list[dict[str, Any]]) -> float:
    """Of the time by itself, what the same rows took after others."""
    return sum(row["shared"] for row in rows) / sum(row["alone"] for row in rows)


if __name__ == "__main__":
    main()
