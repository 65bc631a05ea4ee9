"""What do α and β of Tip-Adapter give when the labelled images choose them?

    uv run python benchmarks/cache_blend/run.py
    uv run python benchmarks/cache_blend/run.py --search --backbones symbols --out searched.json

Trains Tip-Adapter and Tip-Adapter-F on the embedded benchmark at 6 shots with three seeds, once with α and β
as the authors start and once chosen by leave-one-out, in both regimes, and writes results.json beside this
file. Only validation images are scored. Tip-Adapter-F is trained at the first three rates of
``compare --methods 2026 --tune 3``, with ``--search`` at all of them, by the same recipe but on kept views
instead of new ones in every epoch, so that the frozen tower runs once for all rows. For Tip-Adapter the pair
that is best on the validation images themselves is beside: no rule can do better with one pair for a seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from mmap_model.backbone import load_backbone
from mmap_model.cells import Configuration
from mmap_model.configuration import Seeds, Split
from mmap_model.data import open_dataset
from mmap_model.methods.blend import ALPHAS, BETAS
from mmap_model.training import FusedRun
from mmap_model.training.embedding_memo import EmbeddingMemo
from orchestrator.compare.plan import ComparePlan, plan_comparison
from orchestrator.compare.recipes import at_rate
from orchestrator.compare.spacing import beyond
from orchestrator.statistics.summary import summarize
from orchestrator.work.provenance import provenance

METHODS = ("tip_adapter_stl", "tip_adapter", "tip_adapter_f_stl", "tip_adapter_f")
SPLIT = Split(shots=6)
SEEDS = (1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["symbols", "symbols_long"])
    parser.add_argument("--columns", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--views", type=int, default=10, help="augmented views of each labelled image")
    parser.add_argument("--search", action="store_true", help="go on while the best rate lies at an end")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for backbone in args.backbones:
        plan = plan_comparison(
            "symbols",
            methods=args.columns,
            seeds=SEEDS,
            tune=3,
            rates="own",
            recipes=["tuned"],
            model=backbone,
        )
        frozen = Frozen(plan, args.views)
        for column in args.columns:
            for blend in ("given", "support"):
                for row in tried(plan, frozen, column, blend, args.search):
                    rows.append({"backbone": backbone, **row})
                    print(line(rows[-1]), flush=True)
    args.out.write_text(
        json.dumps({"views": args.views, "rows": rows, "provenance": provenance()}, indent=1) + "\n"
    )


def tried(
    plan: ComparePlan, frozen: Frozen, column: str, blend: str, search: bool
) -> Iterator[dict[str, Any]]:
    """The rows of a comparison's first rates; with ``search`` of one more while the best lies at an end."""
    around, left = plan.around, list(plan.first_rates(column))
    if not left:
        yield frozen.measure(column, None, blend)
    found: dict[float, float] = {}
    while left:
        row = frozen.measure(column, rate := left.pop(0), blend)
        found[rate] = row["validation"]["mean"]
        yield row
        if search and not left and around is not None and len(found) < around.most:
            best_rate = max(sorted(found), key=found.__getitem__)
            further = beyond(around, sorted(found), best_rate)
            left = [] if further is None else [further]


class Frozen:
    """The rows of one backbone. What its tower makes of the images is the same in all, and computed once."""

    def __init__(self, plan: ComparePlan, views: int) -> None:
        self._plan, self._views, study = plan, views, plan.base.study
        self._inputs = load_backbone(study.backbone), open_dataset(study.dataset)
        self._memo = EmbeddingMemo()

    def measure(self, column: str, rate: float | None, blend: str) -> dict[str, Any]:
        """One row: validation accuracy of every seed, and its α and β."""
        point = self._plan.searched_points[column]
        recipe = replace(point.recipe, views=self._views)
        recipe = recipe if rate is None else at_rate(recipe, rate)
        settings = replace(point.settings, blend=blend, views=self._views)
        configuration = Configuration(method=point.method, settings=settings, recipe=recipe)
        cells = [self._plan.base.cell(configuration, SPLIT, Seeds.both(seed)) for seed in SEEDS]
        run = FusedRun(cells, *self._inputs, memo=self._memo)
        model: Any = run._model
        *_, report = run.epochs()
        found = [report.cells[cell.key]["accuracy"] for cell in cells]
        row = {
            "column": column,
            "lr": rate,
            "blend": blend,
            "validation": summarize(found).to_dict(),
            "seeds": found,
            "alpha": model.alpha.flatten().tolist(),
            "beta": model.beta.flatten().tolist(),
        }
        return row if rate is not None else {**row, "best": best(model, run._evaluation)}


@torch.no_grad()
def best(model: Any, evaluation: Any) -> dict[str, list[float]]:
    """By seed, the highest validation accuracy that any pair of the grid has, with the pair."""
    found = {name: [0.0] * len(SEEDS) for name in ("accuracy", "alpha", "beta")}
    classes = model.class_features()
    for alpha, beta in product(ALPHAS, BETAS):
        model.alpha.fill_(alpha)
        model.beta.fill_(beta)
        hits = [
            model.compare(model.finish_images(images), classes).argmax(-1) == labels
            for images, labels in evaluation._kept
        ]
        for seed, accuracy in enumerate(torch.cat(hits, 2).double().mean((1, 2)).tolist()):
            if accuracy > found["accuracy"][seed]:
                found["accuracy"][seed] = accuracy
                found["alpha"][seed], found["beta"][seed] = alpha, beta
    return found


def line(row: dict[str, Any]) -> str:
    rate = "" if row["lr"] is None else f" lr {row['lr']:g}"
    weights = ", ".join(f"{a:.3g}/{b:.3g}" for a, b in zip(row["alpha"], row["beta"], strict=True))
    found = row["validation"]
    return (
        f"{row['backbone']} {row['column']}{rate} {row['blend']}: "
        f"{100 * found['mean']:.1f} ± {100 * found['std']:.1f} % (α/β {weights})"
        + (f"; best {row['best']}" if "best" in row else "")
    )


if __name__ == "__main__":
    main()
