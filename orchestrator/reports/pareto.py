"""A study's Pareto front as a document, made of what ``statistics.pareto.Pareto.to_dict`` returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.reports.ranking import labels
from orchestrator.tables import Bullets, Section, Table, TableCell, TableColumn, label, number
from orchestrator.tables.model import Content
from orchestrator.tables.words import integer, short_duration

Results = Mapping[str, Any]
Line = Mapping[str, Any]

UNLIKELY = 0.05
"""Probability of being on the front below which a trial that is not on it is not shown."""

REASONS = {
    "one configuration": "there is one trial, which is on the front",
    "one seed": "with one seed no noise is known, so no probability",
}

LEFT_OUT = {"incomplete": "on other seeds than the rest", "unmeasured": "an objective is not recorded"}


def pareto_section(results: Results, limit: int) -> Section:
    """The front with what it rests on, for a page.

    Args:
        results: of ``build_results``, with ``pareto``.
        limit: trials shown.
    """
    return Section("", (front_table(results, limit=limit), Bullets(tuple(_legend(results, limit)))))


def front_table(results: Results, *, limit: int) -> Table:
    """Trials on the front, and those that are likely to be, the best by the first objective first."""
    found = results["pareto"]
    names = [text.lstrip("-") for text in found["objectives"]]
    shown = _shown(found)[:limit]
    chosen = found["chosen"]["trial"] if found["chosen"] else None
    configurations = labels(results)

    def column(objective: str) -> tuple[TableColumn, Callable[[Line], Content]]:
        return number(f"{_direction(objective)} {_title(objective)}"), measured(objective.lstrip("-"))

    def measured(name: str) -> Callable[[Line], TableCell]:
        return lambda line: TableCell(_value(name, line["values"][name]), value=line["values"][name])

    return Table.of(
        [
            (number("trial"), lambda line: line["number"]),
            (label("configuration"), lambda line: configurations.get(line["number"], "")),
            *(column(objective) for objective in found["objectives"]),
            (label("front"), lambda line: "on it" if line["on_front"] else ""),
            (number("probability"), _probability),
            (label(""), lambda line: "chosen" if line["number"] == chosen else ""),
        ],
        shown,
        look=lambda line: "strong" if line["number"] == chosen else None,
        title=results["study"],
        about=f"Pareto front of {', '.join(names)} on validation images",
    )


def _shown(found: Line) -> list[Line]:
    first = found["objectives"][0]
    sign = 1 if first.startswith("-") else -1
    lines = [t for t in found["trials"] if t["on_front"] or (t["probability"] or 0) >= UNLIKELY]
    return sorted(lines, key=lambda line: (sign * line["values"][first.lstrip("-")], line["number"]))


def _legend(results: Results, limit: int) -> list[str]:
    found = results["pareto"]
    lines = []
    if reason := found["reason"]:
        lines.append(f"Probabilities are missing: {REASONS[reason]}")
    elif found["draws"]:
        noise = ", ".join(found["noisy"]) or "no objective"
        lines.append(
            "probability: that no other trial is as good in everything and better in something; the noise of "
            f"{noise} is accounted for ({integer(found['draws'])} draws)"
        )
    if found["chosen"]:
        chosen, why = found["chosen"]["trial"], found["chosen"]["why"]
        lines.append(
            f"Chosen: trial {chosen}, {why}. Choose otherwise with --prefer: knee, an objective, or a "
            "constraint such as 'parameters<=20000'"
        )
    elif found["violated"]:
        lines.append("No complete trial meets the constraints, so none is chosen.")
    else:
        lines.append("No trial is complete yet.")
    hidden = len(_shown(found)) - limit
    if hidden > 0:
        lines.append(f"{hidden} more trials: --limit {limit + hidden}")
    if found["violated"]:
        said = "; ".join(f"trial {n}: {', '.join(labels)}" for n, labels in found["violated"].items())
        lines.append(f"Constraints not met: {said}")
    for name, words in LEFT_OUT.items():
        if numbers := found[name]:
            lines.append(f"Left out, {words}: trials {', '.join(map(str, numbers))}")
    if same := found["same_cells"]:
        pairs = ", ".join(f"{a} with {b}" for a, b in same)
        lines.append(f"Counted once, because they share all cells: {pairs}")
    return lines


def _direction(text: str) -> str:
    return "↓" if text.startswith("-") else "↑"


def _title(text: str) -> str:
    return text.lstrip("-").replace("_", " ").replace("device seconds", "seconds a cell")


def _value(name: str, value: float) -> str:
    if name == "parameters":
        return integer(int(value))
    if name in ("accuracy", "worst_task", "ece"):
        return f"{100 * value:.1f} %"
    return short_duration(value) if name == "device_seconds" else f"{value:.3f}"


def _probability(line: Line) -> TableCell:
    value = line["probability"]
    return TableCell("") if value is None else TableCell(f"{100 * value:.0f} %", value=value)
