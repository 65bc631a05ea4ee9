"""The paper's printed results, and ours beside them on its own benchmarks."""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mmap_model.plain import from_plain
from orchestrator.compare.comparison import Column
from orchestrator.reports.comparison.method_table import AVERAGE, MethodTable
from orchestrator.statistics.summary import Summary

SPLITS = {
    ("officehome", "6-shot"): "10%",
    ("officehome", "12-shot"): "20%",
    ("minidomainnet", "3-shot"): "1%",
    ("minidomainnet", "6-shot"): "2%",
}
"""The paper's name of a split; it calls 10 % of Office-Home "6-shot per class", and so on."""

TASKS = {"realworld": "real"}
NUMBERS = ("mean", "std", "corrected_mean", "corrected_std")


@dataclass(frozen=True, kw_only=True)
class Printed:
    """One number of the paper, in per cent (parameters: millions).

    Attributes:
        table: 1, 2 or 3 (Office-Home, miniDomainNet, ablation), 4 for figure 4.
        dataset, split, method, regime, task: which; ``method`` and ``regime`` as registered here.
        mean, std: as printed.
        corrected_mean, corrected_std: recomputed from the printed tasks where an average is a misprint.
        note: what is known to be wrong with it, or open.
    """

    table: int
    dataset: str
    split: str
    method: str
    regime: str | None
    task: str
    mean: float
    std: float | None
    corrected_mean: float | None
    corrected_std: float | None
    note: str

    @property
    def value(self) -> float:
        """The number to compare with: corrected where that is known."""
        return self.mean if self.corrected_mean is None else self.corrected_mean


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Ours and the paper's number of one column and row."""

    column: Column
    task: str
    ours: Summary
    printed: Printed

    @property
    def difference(self) -> float:
        """Ours minus the paper's, as a fraction."""
        return self.ours.mean - self.printed.value / 100


@functools.cache
def printed_results() -> tuple[Printed, ...]:
    """All accuracies and parameter counts of Tables 1 to 3 (package data ``paper_results.csv``)."""
    text = (resources.files(__package__) / "paper_results.csv").read_text(encoding="utf-8")

    rows = csv.DictReader(text.splitlines())
    return tuple(from_plain(Printed, _converted(row), "paper_results.csv") for row in rows)


def _converted(row: dict[str, str]) -> dict[str, Any]:
    numbers = {name: float(row[name]) if row[name] else None for name in NUMBERS}
    return {**row, **numbers, "table": int(row["table"]), "regime": row["regime"] or None}


def paper_split(dataset: str, split: str) -> str | None:
    """What the paper calls this split of this dataset; None if it has no such table."""
    name = _plain(dataset)
    known = {table for table, _ in SPLITS}
    if name not in known:
        return None
    return SPLITS.get((name, split), split if split in SPLITS.values() else None)


def beside_paper(table: MethodTable) -> list[Beside]:
    """Every number of a table that the paper prints too, by method, tasks before the average."""
    dataset = _plain(table.comparison.dataset)
    split = paper_split(table.comparison.dataset, table.split)
    printed = {
        (p.method, p.regime, _task(p.task)): p
        for p in printed_results()
        if p.table in (1, 2) and _plain(p.dataset) == dataset and p.split == split
    }
    found = []
    for method in table.methods:
        for row in (*table.comparison.tasks, AVERAGE):
            ours = table.summary(method, row)
            theirs = printed.get((method.column.method, method.column.regime, _task(row)))
            if ours is not None and theirs is not None:
                found.append(Beside(column=method.column, task=row, ours=ours, printed=theirs))
    return found


def printed_averages(method: str, regime: str | None) -> dict[tuple[str, str], float]:
    """The paper's averages (fractions, misprints corrected) of a method by (dataset, split)."""
    return {
        (p.dataset, p.split): p.value / 100
        for p in printed_results()
        if (p.method, p.regime, p.task) == (method, regime, AVERAGE)
    }


def _task(name: str) -> str:
    plain = _plain(name)
    return TASKS.get(plain, plain)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
