"""The table of all methods' parameter counts, beside those that the paper prints."""

from __future__ import annotations

from typing import Any

from mmap_model.architecture import Architecture
from mmap_model.errors import InputError
from mmap_model.methods import ProblemSize, get_method, method_names
from mmap_model.plain import to_plain

PAPER_MODEL, PAPER_TASKS = "ViT-B-16", 4


def budgets(
    architecture: Architecture, size: ProblemSize, *, backbone_parameters: int
) -> list[dict[str, Any]]:
    """One JSON-ready row per method and regime, with the settings that are the paper's or the defaults.

    Returns:
        Rows of ``method``, ``regime`` (``single``, ``multi``, ``grouped``; None where nothing is trained),
        ``parameters``, ``share`` of the backbone, ``groups``, ``settings``, and ``fitted``: for settings that
        the backbone does not take the nearest that it does, as in the first point of a study; empty where all
        fit. Where nothing near fits, or the count depends on what ``size`` does not say, ``parameters`` is
        None and ``problem`` says why. For the paper's backbone and number of tasks also ``paper`` (as
        printed; None for what it does not list) and ``reading``.
    """
    rows = []
    of_paper = architecture.model.removesuffix("-quickgelu") == PAPER_MODEL and size.tasks == PAPER_TASKS
    for name in method_names():
        method = get_method(name)
        for budget in method.budgets:
            settings, count, problem = method.Settings(**budget.preferred, **budget.settings), 0, None
            wanted = to_plain(settings)
            try:
                method.require_tower(architecture)
                settings = method.fitted(settings, architecture)
                method.check(settings, architecture)
                count = method.parameters(settings, architecture, size)
            except InputError as error:
                problem = str(error)
            chosen = to_plain(settings)
            row: dict[str, Any] = {
                "model": architecture.model,
                "method": name,
                "regime": budget.regime,
                "tasks": size.tasks,
                "groups": size.groups if method.needs_partition(settings) else None,
                "parameters": None,
                "backbone_parameters": backbone_parameters,
                "share": None,
                "settings": chosen,
                "fitted": {name: value for name, value in chosen.items() if value != wanted[name]},
            }
            if problem is not None:
                row["problem"] = problem
            else:
                row["parameters"] = count
                row["share"] = row["parameters"] / backbone_parameters
            if of_paper:
                row |= {"paper": budget.printed, "reading": budget.reading}
            rows.append(row)
    return rows


def show_budgets(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    from orchestrator.cli.console import show
    from orchestrator.tables import Field, Table, TableCell, label, number, words

    groups = next(row["groups"] for row in rows if row["groups"] is not None)
    fields: list[Field[dict[str, Any]]] = [
        (label("method"), lambda row: row["method"]),
        (label("regime"), lambda row: row["regime"]),
        (number("parameters"), lambda row: words.integer(row["parameters"])),
        (number("share"), lambda row: words.share(row["share"])),
    ]
    if "paper" in rows[0]:
        fields += [
            (number("paper"), lambda row: row["paper"]),
            (label("reading"), lambda row: TableCell(row["reading"], look="faint")),
        ]
    fitted = {row["method"]: row["fitted"] for row in rows if row["fitted"]}
    notes = [
        f"{method}: {', '.join(f'{name}={value}' for name, value in changed.items())}, the nearest that fits "
        f"{rows[0]['model']}"
        for method, changed in fitted.items()
    ]
    problems = list(dict.fromkeys(f"{row['method']}: {row['problem']}" for row in rows if "problem" in row))
    about = f"{rows[0]['tasks']} tasks, {groups} groups where tasks are grouped"
    show(Table.of(fields, rows, title=rows[0]["model"], about=about, notes=notes + problems))
