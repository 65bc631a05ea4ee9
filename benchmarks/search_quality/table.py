"""The table: accuracy of every trained point of the grid at every seed and epoch.

    uv run python benchmarks/search_quality/table.py FOLDER     # records of grid.yaml's sweep → table.csv

A grid that is still being trained gives a part of it; ``table.json`` says how much, and where it comes from.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

from mmap_model.plain import content_key
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.study import StudyPlan, load_plan

HERE = Path(__file__).parent
STUDY, TABLE, ABOUT = HERE / "grid.yaml", HERE / "table.csv", HERE / "table.json"
AXES = ("similarity", "prompt_length", "source_rows", "source_cols", "scale_init", "lr")
"""Searched parameters, as a point has them."""
NARROWED = {
    "similarity": "space.0.similarity",
    "prompt_length": "space.1.prompt_length",
    "source_rows": "space.1.source_rows",
    "source_cols": "space.1.source_cols",
    "scale_init": "space.2.choices",
    "lr": "space.3.choices",
}
"""The key of the study that narrows an axis to what a part of the grid has of it."""
EPOCHS = 5


@dataclass(frozen=True)
class Table:
    """A complete grid.

    Attributes:
        values: by point, accuracy by seed and epoch.
        cells: by point, the cell's key by seed: points whose tasks are grouped alike share them.
        overrides: that narrow ``grid.yaml`` to these points.
        seeds: of all points, as many as the study has.
    """

    values: Mapping[str, tuple[tuple[float, ...], ...]]
    cells: Mapping[str, tuple[str, ...]]
    overrides: tuple[str, ...]
    seeds: int

    def plan(self, *overrides: str) -> StudyPlan:
        """The study of these points at three seeds, narrowed further."""
        return load_plan(str(STUDY), ["seeds=[1, 2, 3]", *self.overrides, *overrides])


def collect(storage: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of the table, and what is known of where they come from."""
    store, ledger = StudyStore(storage, "search_quality"), Ledger(storage)
    trials = [trial for trial in store.load_trials() if trial.state == "complete"]
    records = ledger.get_many(key for trial in trials for key in trial.keys)
    rows = []
    for trial in trials:
        point = trial.point
        flat = {**point["settings"], **point["grouping"], **point["recipe"]}
        for cell in trial.cells:
            record, history = records[cell["key"]], ledger.history(cell["key"])
            curve = {f"epoch_{report['epoch']}": round(report["accuracy"], 6) for report in history}
            spent = {f"{name}_s": round(record["seconds"][name], 2) for name in ("train", "evaluate")}
            rows.append(
                {
                    "trial": trial.number,
                    "point": content_key(point),
                    **{name: json.dumps(flat[name]) for name in AXES},
                    "seed": cell["seed"],
                    "cell": cell["key"],
                    **curve,
                    **spent,
                }
            )
    sources = {json.dumps(record["provenance"], sort_keys=True) for record in records.values()}
    about = {
        "points": len(trials),
        "of": load_plan(str(STUDY)).trials,
        "cells": len(rows),
        "distinct_cells": len({row["cell"] for row in rows}),
        "fused": sorted({len(record["fused_with"]) + 1 for record in records.values()}),
        "trained": sorted({str(trial.ended_at)[:10] for trial in trials}),
        "sources": [json.loads(source) for source in sorted(sources)],
    }
    return rows, about


def read(path: Path = TABLE, *, independent: bool = False) -> Table:
    """The largest complete grid that the table holds.

    Args:
        path: of the table.
        independent: the largest in which no parameter's values depend on another's, as some samplers need.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    points: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        points.setdefault(row["point"], []).append(row)
    seeds = max(len(found) for found in points.values())
    places = {tuple(json.loads(found[0][name]) for name in AXES): point for point, found in points.items()}
    kept, overrides = max(_grids(places, independent), key=lambda grid: len(grid[0]))
    values, cells = {}, {}
    for place in kept:
        found = sorted(points[places[place]], key=lambda row: int(row["seed"]))
        assert len(found) == seeds, f"{place} lacks seeds"
        values[places[place]] = tuple(
            tuple(float(row[f"epoch_{epoch}"]) for epoch in range(1, EPOCHS + 1)) for row in found
        )
        cells[places[place]] = tuple(row["cell"] for row in found)
    return Table(values, cells, overrides, seeds)


def _grids(
    places: Mapping[tuple[Any, ...], str], independent: bool
) -> Iterator[tuple[list[tuple[Any, ...]], tuple[str, ...]]]:
    """Complete grids among the points, with the overrides of the study that give them."""
    axes = [sorted({place[i] for place in places}, key=repr) for i in range(len(AXES))]
    for chosen in product(*map(_subsets, axes)):
        wanted = [place for place in product(*chosen) if place[1] % place[2] == 0]
        if independent and len(wanted) < math.prod(map(len, chosen)):
            continue
        used = [{place[i] for place in wanted} for i in range(len(AXES))]
        if not wanted or any(place not in places for place in wanted):
            continue
        if all(used[i] == set(chosen[i]) for i in range(len(AXES))):
            named = zip(AXES, chosen, strict=True)
            yield wanted, tuple(f"{NARROWED[name]}={json.dumps(axis)}" for name, axis in named)


def _subsets(axis: list[Any]) -> list[tuple[Any, ...]]:
    return [part for size in range(len(axis), 0, -1) for part in combinations(axis, size)]


def main(storage: str) -> None:
    rows, about = collect(storage)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    ABOUT.write_text(json.dumps(about, indent=1) + "\n")
    print(f"{about['points']} of {about['of']} points, {about['distinct_cells']} distinct cells")


if __name__ == "__main__":
    main(sys.argv[1])
