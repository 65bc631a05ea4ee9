"""The table of all methods' parameter counts, beside those that the paper prints."""

from __future__ import annotations

from typing import Any

from mmap_model.architecture import Architecture
from mmap_model.errors import InputError
from mmap_model.methods import get_method, method_names
from mmap_model.plain import to_plain

PAPER_MODEL, PAPER_TASKS = "ViT-B-16", 4


def budgets(
    architecture: Architecture, *, tasks: int, groups: int, backbone_parameters: int
) -> list[dict[str, Any]]:
    """One JSON-ready row per method and regime, with the settings that are the paper's or the defaults.

    Returns:
        Rows of ``method``, ``regime`` (``single``, ``multi``; None where nothing is trained), ``parameters``,
        ``share`` of the backbone, ``groups``, ``settings``, and ``fitted``: for settings that the backbone
        does not take the nearest that it does, as in the first point of a study; empty where all fit. Where
        nothing near fits, ``parameters`` is None and ``problem`` says why. For the paper's backbone and
        number of tasks also ``paper`` (as printed; None for what it does not list) and ``reading``.
    """
    rows = []
    of_paper = architecture.model.removesuffix("-quickgelu") == PAPER_MODEL and tasks == PAPER_TASKS
    for name in method_names():
        method = get_method(name)
        for budget in method.budgets:
            wanted = to_plain(method.Settings(**budget.settings))
            settings = method.fitted(method.Settings(**budget.settings), architecture)
            chosen = to_plain(settings)
            row: dict[str, Any] = {
                "model": architecture.model,
                "method": name,
                "regime": budget.regime,
                "tasks": tasks,
                "groups": groups if method.grouped else None,
                "parameters": None,
                "backbone_parameters": backbone_parameters,
                "share": None,
                "settings": chosen,
                "fitted": {name: value for name, value in chosen.items() if value != wanted[name]},
            }
            try:
                method.check(settings, architecture)
            except InputError as error:
                row["problem"] = str(error)
            else:
                row["parameters"] = method.count(settings, architecture, tasks=tasks, groups=groups)
                row["share"] = row["parameters"] / backbone_parameters
            if of_paper:
                row |= {"paper": budget.printed, "reading": budget.reading}
            rows.append(row)
    return rows


def show_budgets(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    from rich.table import Table

    from orchestrator.cli.console import out

    console, of_paper = out(), "paper" in rows[0]
    groups = next(row["groups"] for row in rows if row["groups"] is not None)
    console.print(f"{rows[0]['model']}, {rows[0]['tasks']} tasks, {groups} groups where tasks are grouped")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("method")
    table.add_column("regime")
    table.add_column("parameters", justify="right")
    table.add_column("share", justify="right")
    if of_paper:
        table.add_column("paper", justify="right")
        table.add_column("reading", style="dim")
    for row in rows:
        count, share = row["parameters"], row["share"]
        cells = [
            row["method"],
            row["regime"] or "–",
            "–" if count is None else f"{count:,}".replace(",", "\N{NO-BREAK SPACE}"),
            "–" if share is None else f"{100 * share:.3f} %",
        ]
        table.add_row(*cells, *([row["paper"] or "–", row["reading"]] if of_paper else []))
    console.print(table)
    for row in rows:
        if row["fitted"]:
            changed = ", ".join(f"{name}={value}" for name, value in row["fitted"].items())
            console.print(f"{row['method']}: {changed}, the nearest that fits {row['model']}", style="dim")
        if "problem" in row:
            console.print(f"{row['method']}: {row['problem']}", style="yellow")
