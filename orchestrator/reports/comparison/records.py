"""A comparison as numbers: every one, and the averages in the layout of the paper's own tables."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.method_table import AVERAGE
from orchestrator.tables import Table, label, row
from orchestrator.tables.model import TableRow

REGIMES = {None: "ZS", "single": "STL", "multi": "MTL", "grouped": "grouped"}
"""As the paper's tables call them."""


def accuracies(comparison: Comparison) -> Table:
    """One line per entry, task and seed; ``accuracy`` is a fraction."""
    heads = "dataset split recipe section column label regime lr task seed accuracy"
    return _records(
        heads,
        (
            row(
                *(comparison.dataset, entry.split, entry.recipe, column.section, column.name, column.label),
                *(column.regime, entry.lr, task, seed, accuracy),
            )
            for entry in comparison.entries
            for column in [comparison.column(entry.column)]
            for task, seeds in entry.tasks.items()
            for seed, accuracy in seeds.items()
        ),
    )


def summary(contents: Contents) -> Table:
    """Means and sample standard deviations in per cent, tasks, then Average, then parameters.

    ``mean_of_stds`` stands beside averages: the spread that the paper prints there.
    """
    return _records(
        "dataset split recipe method regime task mean std n mean_of_stds",
        [*_means(contents), *_parameters(contents.comparison)],
    )


def _means(contents: Contents) -> Iterable[TableRow]:
    for table in contents.tables:
        for task in (*table.comparison.tasks, AVERAGE):
            for method in table.methods:
                if (found := table.summary(method, task)) is None:
                    continue
                spread = method.mean_of_stds if task == AVERAGE else None
                yield row(
                    *(table.comparison.dataset, table.split, table.recipe, method.column.label),
                    *(REGIMES[method.column.regime], task),
                    *(_percent(found.mean), _percent(found.std), found.n, _percent(spread)),
                )


def _parameters(comparison: Comparison) -> Iterable[TableRow]:
    for column in comparison.columns:
        if column.section == "table":
            head = (comparison.dataset, "all", "all", column.label, REGIMES[column.regime], "parameters")
            yield row(*head, column.parameters or None, None, None, None)


def _percent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{100 * fraction:.3f}"


def _records(heads: str, rows: Iterable[TableRow]) -> Table:
    return Table(columns=tuple(map(label, heads.split())), blocks=(tuple(rows),))
