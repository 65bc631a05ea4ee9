"""How many cells the stages have, and how long they take: from cells that were profiled alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from stages import Stage

from orchestrator.compare.plan import ComparePlan, PlannedRow

HERE = Path(__file__).parent
PROFILES = HERE / "results" / "profiles"
"""Seconds of a cell at the tuned recipe by CLIP and column, on one thread."""

SHARES = {"base": 0.5, "without": 0.75}
"""Of a whole cell's time, by kind of stage: half of the classes, three of four tasks."""


def show(stages: Sequence[Stage], storage: Path, slots: int | None) -> None:
    """Print a line for every stage, and the sums."""
    totals = Counter[str]()
    seen: set[tuple[str, str]] = set()
    print(f"{'stage':32} {'columns':>8} {'cells':>7} {'at most':>8} {'core-hours':>11} {'at most':>8}")
    for stage in stages:
        plan, known = stage.plan(storage), profiled(stage.clip)
        rows, most = planned(plan)
        new = [(row, seed) for row in rows for seed in row.seeds if (row.key, str(seed)) not in seen]
        seen |= {(row.key, str(seed)) for row, seed in new}
        seconds = sum(_seconds(row, stage, plan, known) for row, _ in new)
        share = most / max(1, sum(len(row.seeds) for row in rows))
        counts = {
            "cells": len(new),
            "most": round(len(new) * share),
            "seconds": seconds,
            "longest": seconds * share,
        }
        totals.update({name: round(value) for name, value in counts.items()})
        print(
            f"{stage.report:32} {len(plan.columns):8} {counts['cells']:7} {counts['most']:8} "
            f"{counts['seconds'] / 3600:11.1f} {counts['longest'] / 3600:8.1f}"
        )
    print(
        f"{'all':32} {'':8} {totals['cells']:7} {totals['most']:8} "
        f"{totals['seconds'] / 3600:11.1f} {totals['longest'] / 3600:8.1f}"
    )
    if slots:
        print(
            f"With {slots} slots as fast as that core: {totals['seconds'] / slots / 60:.0f} minutes or more."
        )


def profiled(clip: str) -> dict[str, float]:
    """Seconds of a cell, by column; empty for a CLIP that was not profiled."""
    file = PROFILES / f"{clip}-cpu.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    return {column: one["cell_seconds"] for column, one in found.items() if "cell_seconds" in one}


def planned(plan: ComparePlan) -> tuple[list[PlannedRow], int]:
    """The rows of the first rates with the chosen ones on all seeds, and the most cells that there may be."""
    rows = [*plan.first_rows()]
    extra = 0
    for split in plan.base.study.splits:
        for column in plan.columns:
            first = plan.first_rates(column.name)
            if not first:
                continue
            rows.append(plan.chosen(column.name, split, first[len(first) // 2]))
            assert plan.around is not None, "rates lie around each column's own"
            extra += (plan.around.most - len(first)) * len(plan.tuning_seeds)
    unique = [*{row.key: row for row in rows}.values()]
    return unique, sum(len(row.seeds) for row in unique) + extra


def _seconds(row: PlannedRow, stage: Stage, plan: ComparePlan, known: dict[str, float]) -> float:
    """Of one cell: by its column, else the median of all; longer where its recipe shows more images."""
    if not known:
        return 0.0
    if not plan.trains(row.column):
        return 2.0
    seconds = known.get(row.column, median(known.values())) * SHARES.get(stage.kind, 1.0)
    recipe = row.point.recipe.for_split(row.split)
    ours = plan.base.study.recipe
    if stage.recipes != ("published",):
        return seconds
    if recipe.views is not None:
        return seconds * 2
    shown = (recipe.steps or 0) * recipe.batch_size or recipe.epochs * ours.batch_size * 25
    return seconds * max(1.0, shown / (ours.epochs * ours.batch_size * 25))
