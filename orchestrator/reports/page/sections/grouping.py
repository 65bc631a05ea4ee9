"""Which tasks were grouped, how alike their gradients were, and how sure the partition is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.values import (
    Data,
    Grid,
    Number,
    PageBlock,
    PageSection,
    PageSentence,
    PlotlyFigure,
    Text,
    column,
    joined,
    listed,
    shown,
    style,
)
from orchestrator.tables.model import NONE, Field, Table, TableCell, label, number
from orchestrator.tables.words import partition

GroupingFound = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A cell as its trial names it, and what its record says of the grouping."""

PANELS = 3
"""Heat maps side by side."""

FEW = 12
"""Tasks up to which every field of a heat map shows its number."""


def grouping(evidence: Evidence) -> PageSection:
    """The fifth section of a page."""
    return PageSection(name="grouping", title="Grouping of the tasks", blocks=tuple(_blocks(evidence)))


def _blocks(evidence: Evidence) -> list[PageBlock]:
    if evidence.winner is None:
        return [Text(("No trial is complete yet, so no partition was chosen.",))]
    cells = evidence.cells(evidence.winner)
    found: list[GroupingFound] = [(cell, record.get("grouping") or {}) for cell, record in cells]
    found = [(cell, said) for cell, said in found if cell.get("partition")]
    if not found:
        method = str(evidence.study.get("method", "this method"))
        return [Text((f"The winner's method, {method}, does not group tasks.",))]
    blocks: list[PageBlock] = [Text(_chosen(evidence, found)), _table(evidence, found)]
    measured = [(cell, said) for cell, said in found if said.get("similarity")]
    blocks.append(
        _heat_maps(evidence, measured)
        if measured
        else Text(("There is no affinity to show: the partition was given, not measured.",))
    )
    notes = dict.fromkeys(note for _, said in found for note in said.get("notes") or ())
    return [*blocks, *(Text((f"{note}.",), "note") for note in notes)]


def _chosen(evidence: Evidence, found: Sequence[GroupingFound]) -> PageSentence:
    """``Two of three seeds chose clipart+sketch | painting+photo …``"""
    by_partition: dict[str, list[PageSentence]] = {}
    for cell, _ in found:
        name = partition(cell["partition"], evidence.tasks)
        record = f"cells/{cell['key']}"
        by_partition.setdefault(name, []).append((Number(cell["seed"], record, "cell.seeds"),))
    parts = []
    for name, seeds in by_partition.items():
        word = "seed" if len(seeds) == 1 else "seeds"
        verb = "gives" if len(seeds) == 1 else "give"
        parts.append(joined(f"{word} ", listed(list(dict.fromkeys(seeds))), f" {verb} {name}"))
    if len(by_partition) == 1:
        return joined("All cells of the winner have the same partition: ", next(iter(by_partition)), ".")
    return joined("The partition differs between the winner's cells: ", listed(parts), ".")


def _table(evidence: Evidence, found: Sequence[GroupingFound]) -> Grid:
    fields: list[tuple[str, Field[GroupingFound]]] = [
        ("cell.split", (label("split"), lambda pair: pair[0]["split"])),
        ("cell.seeds", (number("seed"), lambda pair: pair[0]["seed"])),
        (
            "grouping.partition",
            (label("partition"), lambda pair: partition(pair[0]["partition"], evidence.tasks)),
        ),
        (
            "grouping.second",
            (label("second best"), lambda pair: partition(pair[1].get("second"), evidence.tasks)),
        ),
        ("grouping.margin", (number("margin"), _margin)),
        (
            "grouping.agreement",
            (number("snapshots that agree, %"), lambda pair: _share(pair[1].get("agreement"))),
        ),
        (
            "grouping.bootstrap",
            (number("resamples that agree, %"), lambda pair: _share(pair[1].get("bootstrap"))),
        ),
        ("grouping.snapshots", (number("snapshots"), lambda pair: pair[1].get("snapshots") or None)),
    ]
    table = Table.of(
        [field for _, field in fields],
        found,
        title="How sure each partition is",
        about="the margin is the distance of the objective to the second best, and in % of the best",
    )
    return Grid(
        name="grouping-table",
        table=table,
        records=tuple(f"cells/{cell['key']}" for cell, _ in found),
        fields=tuple(name for name, _ in fields),
    )


def _margin(pair: GroupingFound) -> TableCell:
    margin, score = pair[1].get("margin"), pair[1].get("score")
    if margin is None:
        return TableCell(NONE)
    relative = f" ({100 * margin / abs(score):.0f} %)" if score else ""
    return TableCell(f"{margin:.3g}{relative}", value=float(f"{margin:.6g}"))


def _share(value: float | None) -> TableCell:
    return TableCell(NONE) if value is None else TableCell(f"{100 * value:.0f}", value=round(100 * value, 3))


def _heat_maps(evidence: Evidence, found: Sequence[GroupingFound]) -> PlotlyFigure:
    tasks = evidence.tasks
    rows: list[tuple[Any, ...]] = []
    panels: list[tuple[str, str]] = []
    for cell, said in found:
        key = f"cells/{cell['key']}"
        panels.append((key, f"seed {cell['seed']}" + (f", {cell['split']}" if _splits(found) > 1 else "")))
        for i, line in enumerate(said["similarity"]):
            for j, value in enumerate(line):
                rows.append((key, cell["split"], cell["seed"], _task(tasks, i), _task(tasks, j), value))
    values = [row[-1] for row in rows]
    lines = -(-len(panels) // PANELS)
    layout: dict[str, Any] = {
        "grid": {
            "rows": lines,
            "columns": min(PANELS, len(panels)),
            "pattern": "independent",
            "ygap": 0.35,
            "xgap": 0.3,
        }
    }
    traces, titles = [], []
    for i, (key, title) in enumerate(panels):
        suffix = "" if i == 0 else str(i + 1)
        traces.append(
            {
                "type": "heatmap",
                "x": column("with"),
                "y": column("task"),
                "z": column("similarity"),
                "where": {"record": key},
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
                "zmin": float(f"{min(values):.6g}"),
                "zmax": float(f"{max(values):.6g}"),
                "colorscale": [[0, style("heat-low")], [1, style("heat-high")]],
                "showscale": i == 0,
                "colorbar": {"thickness": 12, "outlinewidth": 0},
                "xgap": 1,
                "ygap": 1,
                "hovertemplate": "%{y} with %{x}: %{z:.3g}<extra></extra>",
                **({"texttemplate": "%{z:.2g}"} if len(tasks) <= FEW else {}),
            }
        )
        layout[f"xaxis{suffix}"] = {"type": "category", "showgrid": False, "title": {"text": shown(title)}}
        layout[f"yaxis{suffix}"] = {"type": "category", "showgrid": False, "autorange": "reversed"}
        titles.append(title)
    similarity = (evidence.winner or {}).get("config", {}).get("similarity", "dot")
    what = "cosines" if similarity == "cosine" else "inner products"
    return PlotlyFigure(
        name="affinity",
        title="Affinity of the tasks, seed by seed",
        text=(
            f"Mean {what} of the tasks' gradients over the snapshots of each seed's probe: tasks with a high "
            "number pull the prompt the same way. The partition is the one that scores best on them.",
        ),
        data=Data.of(("record", "split", "seed", "task", "with", "similarity"), rows),
        traces=tuple(traces),
        layout=layout,
        height=70 + 290 * lines,
    )


def _splits(found: Sequence[GroupingFound]) -> int:
    return len({cell["split"] for cell, _ in found})


def _task(tasks: Sequence[str], index: int) -> str:
    return tasks[index] if index < len(tasks) else str(index)
