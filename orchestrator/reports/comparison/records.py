"""A comparison as CSV: every number, and the averages in the layout of the paper's own tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison.claims import Claim
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.method_table import AVERAGE

REGIMES = {None: "ZS", "single": "STL", "multi": "MTL"}
"""As the paper's tables call them."""


def accuracies(comparison: Comparison) -> str:
    """One line per entry, task and seed; ``accuracy`` is a fraction."""
    return _csv(
        (
            "dataset",
            "split",
            "recipe",
            "section",
            "column",
            "label",
            "regime",
            "lr",
            "task",
            "seed",
            "accuracy",
        ),
        (
            (
                *(comparison.dataset, entry.split, entry.recipe, column.section, column.name, column.label),
                *(column.regime or "", "" if entry.lr is None else entry.lr, task, seed, accuracy),
            )
            for entry in comparison.entries
            for column in [comparison.column(entry.column)]
            for task, seeds in entry.tasks.items()
            for seed, accuracy in seeds.items()
        ),
    )


def summary(contents: Contents) -> str:
    """Means and sample standard deviations in per cent, tasks, then Average, then parameters.

    ``mean_of_stds`` stands beside averages: the spread that the paper prints there.
    """
    rows: list[tuple[object, ...]] = []
    for table in contents.tables:
        head = (table.comparison.dataset, table.split, table.recipe)
        for task in (*table.comparison.tasks, AVERAGE):
            for method in table.methods:
                found = table.summary(method, task)
                if found is None:
                    continue
                column = method.column
                spread = method.mean_of_stds if task == AVERAGE else None
                rows.append(
                    (
                        *head,
                        *(column.label, REGIMES[column.regime], task),
                        *(_percent(found.mean), _percent(found.std), found.n, _percent(spread)),
                    )
                )
    for column in contents.comparison.columns:
        if column.section == "table":
            label, regime = column.label, REGIMES[column.regime]
            count = column.parameters or ""
            rows.append(
                (contents.comparison.dataset, "all", "all", label, regime, "parameters", count, "", "", "")
            )
    return _csv(
        ("dataset", "split", "recipe", "method", "regime", "task", "mean", "std", "n", "mean_of_stds"), rows
    )


def verdicts(found: Sequence[Claim]) -> str:
    """The claims, differences as fractions."""
    return _csv(
        (
            *("topic", "claim", "split", "recipe", "verdict", "better", "worse", "lr_better", "lr_worse"),
            *("difference", "low", "high", "n", "threshold", "notes"),
        ),
        (
            (
                *(claim.topic, claim.statement, claim.split, claim.recipe or "", claim.verdict),
                *(claim.better.label, claim.worse.label, claim.better.lr or "", claim.worse.lr or ""),
                *((d.mean, d.low, d.high, d.n) if (d := claim.difference) else ("", "", "", "")),
                *(claim.threshold, "; ".join(claim.notes)),
            )
            for claim in found
        ),
    )


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.3f}"


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
