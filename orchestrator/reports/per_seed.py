"""One line per trial, split and seed: for those who compute with the numbers themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.tables import Table, TableCell, label, number

Line = Mapping[str, Any]


def seeds_of(results: Mapping[str, Any]) -> Table:
    """The accuracies of every complete trial by split and seed, in per cent.

    Args:
        results: of ``build_results``.
    """
    complete = [t for t in results["trials"] if t["state"] == "complete"]
    lines = [
        {**cell, "rank": rank, "trial": trial["number"], "config": trial["config"]}
        for rank, trial in enumerate(complete, start=1)
        for cell in trial["measurements"]
    ]
    names = list(dict.fromkeys(name for line in lines for name in line["config"]))

    def accuracy(part: str) -> Callable[[Line], TableCell]:
        return lambda line: TableCell.accuracy(line[part])

    return Table.of(
        [
            (number("rank"), lambda line: line["rank"]),
            (number("trial"), lambda line: line["trial"]),
            (label("split"), lambda line: line["split"]),
            (label("seed"), lambda line: line["seed"]),
            (number("validation"), accuracy("val")),
            (number("test"), accuracy("test")),
            *((label(name), _setting(name)) for name in names),
            (label("cell"), lambda line: line["cell"]),
        ],
        lines,
        title=results["study"],
        about="accuracy in % by seed; ranked by validation",
    )


def _setting(name: str) -> Callable[[Line], TableCell]:
    def content(line: Line) -> TableCell:
        value = line["config"].get(name)
        return TableCell("" if value is None else str(value))

    return content
