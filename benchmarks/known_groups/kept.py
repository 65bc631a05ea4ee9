"""What cells left, one line of JSON each, in a file for each CLIP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmap_model.cells import Cell
from mmap_model.grouping import GramStack

DIGITS = 7
"""Significant digits of products of gradients; partitions are found from the numbers as they are kept."""


class Kept:
    """The records of one CLIP by cell key; a record is on disk as soon as it is added.

    A record holds ``what`` (probe, or what MmAP was trained on), ``seed``, ``partition``, ``validation``
    (accuracy by task), ``train_loss``, ``seconds`` and the machine; that of a probe also ``grams``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.records: dict[str, dict[str, Any]] = {}
        for line in lines:
            record = json.loads(line)
            self.records[record["key"]] = record

    def __contains__(self, cell: Cell) -> bool:
        return cell.key in self.records

    def add(self, cell: Cell, record: dict[str, Any]) -> None:
        """Keep a cell's record."""
        whole = {"key": cell.key, **record}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(whole) + "\n")
        self.records[cell.key] = whole

    def of(self, what: str) -> list[dict[str, Any]]:
        """Records of one kind, by seed."""
        return sorted((r for r in self.records.values() if r["what"] == what), key=lambda r: int(r["seed"]))

    def grams(self, cell: Cell) -> GramStack:
        """What a probe measured."""
        return grams_of(self.records[cell.key])


def grams_of(record: dict[str, Any]) -> GramStack:
    """Of a probe's record."""
    kept = record["grams"]
    spaces = {}
    for space, rows in kept["spaces"].items():
        values = np.array(rows)
        tasks = round((np.sqrt(8 * values.shape[1] + 1) - 1) / 2)
        above = np.triu_indices(tasks)
        spaces[space] = np.zeros((len(values), tasks, tasks))
        spaces[space][:, above[0], above[1]] = values
        spaces[space][:, above[1], above[0]] = values
    return GramStack(np.array(kept["steps"]), spaces)


def plain(grams: GramStack) -> dict[str, Any]:
    """Steps, and by space the upper triangles (diagonals included) of all snapshots."""
    above = np.triu_indices(grams.tasks)
    return {
        "steps": grams.steps.tolist(),
        "spaces": {
            space: [[float(f"{value:.{DIGITS}g}") for value in matrix[above]] for matrix in stack]
            for space, stack in grams.spaces.items()
        },
    }
