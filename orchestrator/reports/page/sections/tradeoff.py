"""Accuracy against trained parameters, with the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.sections.naming import (
    baseline_name,
    baseline_record,
    settings,
    trial,
    trial_record,
)
from orchestrator.reports.page.values import (
    Data,
    Number,
    PageBlock,
    PageSentence,
    PlotlyFigure,
    Text,
    column,
    joined,
    listed,
    style,
)
from orchestrator.statistics.front import FrontRow, front
from orchestrator.statistics.objectives import Aim
from orchestrator.statistics.pareto import VIEWED, weigh
from orchestrator.tables.words import chance, integer

COLUMNS = (
    *("record", "row", "configuration", "parameters", "accuracy", "low", "high", "plus", "minus", "kind"),
    "on_front",
)

WEIGHED = 1000
"""Complete trials up to which the odds of being on the front are computed: they compare all pairs."""

NAMED = 4
"""Trials of the front that the text names."""


def tradeoff(evidence: Evidence) -> list[PageBlock]:
    """The figure, or why there is none."""
    rows = [row for row in evidence.ranked if row["parameters"]]
    if len(rows) < 2:
        return [Text(("Accuracy is not set against size: fewer than two complete trials train anything.",))]
    name = evidence.score_field
    cheapest = front(FrontRow(row["number"], row["parameters"], row[name]["mean"]) for row in rows)
    odds = _odds(evidence)
    values = [_row(evidence, row, row["number"] in cheapest, odds.get(row["number"])) for row in rows]
    values += [_reference(evidence, row) for row in evidence.results["baselines"] if row[name]]
    where = "test" if evidence.is_tested_only else "validation"
    hover = "%{customdata}<br>%{x} parameters, %{y:.1f} %<extra></extra>"
    point: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": column("parameters"),
        "y": column("accuracy"),
        "customdata": column("row"),
        "hovertemplate": hover,
        "error_y": {
            "type": "data",
            "array": column("plus"),
            "arrayminus": column("minus"),
            "thickness": 1,
            "width": 0,
            "color": style("faint"),
        },
    }
    traces = (
        {**point, "name": "other trials", "where": {"kind": "trial"}, "marker": _marker("series-7", 8)},
        {
            **point,
            "name": "Pareto front",
            "where": {"kind": "front"},
            "mode": "lines+markers",
            "line": {"shape": "hv", "dash": "dot", "width": 1.5, "color": style("series-0")},
            "marker": _marker("series-0", 10),
        },
    )
    zero_shot = [row for row in evidence.results["baselines"] if row["name"] == "zero_shot" and row[name]]
    level = 100 * zero_shot[0][name]["mean"] if zero_shot else None
    layout: dict[str, Any] = {
        "xaxis": {"type": "log", "title": {"text": "trained parameters"}},
        "yaxis": {"title": {"text": f"{where} accuracy, %"}},
    }
    if level is not None:
        line = {"color": style("soft"), "dash": "dash", "width": 1}
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": round(level, 3), "y1": round(level, 3)}
            | {"line": line}
        ]
        layout["annotations"] = [
            {
                "xref": "paper",
                "x": 1,
                "y": round(level, 3),
                "text": "zero-shot",
                "showarrow": False,
                "xanchor": "right",
                "yanchor": "bottom",
            }
        ]
    return [
        PlotlyFigure(
            name="tradeoff",
            title="Accuracy against trained parameters",
            text=_text(evidence, cheapest, odds),
            data=Data.of(COLUMNS, values),
            traces=traces,
            layout=layout,
        )
    ]


def _marker(colour: str, size: int) -> dict[str, Any]:
    return {"color": style(colour), "size": size}


def _odds(evidence: Evidence) -> Mapping[int, float]:
    """How likely each trial is on the front, the noise of its seeds accounted for; empty where unknown."""
    complete = [evidence.by_number[row["number"]] for row in evidence.ranked]
    if evidence.is_tested_only or len(complete) > WEIGHED:
        return {}
    records = evidence.ledger.get_many(key for found in complete for key in found.keys)
    front_of = weigh(complete, records, Aim(VIEWED)).front
    return {number: float(chance) for number, chance in front_of.probability.items()}


def _row(evidence: Evidence, row: Any, on_front: bool, odds: float | None) -> tuple[Any, ...]:
    score = row[evidence.score_field]
    mean, low, high = score["mean"], score["low"], score["high"]
    return (
        trial_record(evidence, row["number"]),
        f"trial {row['number']}",
        settings(evidence, row["config"]),
        row["parameters"],
        100 * mean,
        None if low is None else 100 * low,
        None if high is None else 100 * high,
        None if high is None else 100 * (high - mean),
        None if low is None else 100 * (mean - low),
        "front" if on_front else "trial",
        odds,
    )


def _reference(evidence: Evidence, row: Any) -> tuple[Any, ...]:
    score = row[evidence.score_field]
    ends = (score["low"], score["high"])
    return (
        baseline_record(evidence, row["name"]),
        row["name"],
        baseline_name(row["name"]),
        row["parameters"],
        100 * score["mean"],
        *(None if end is None else 100 * end for end in ends),
        None,
        None,
        "reference",
        None,
    )


def _text(evidence: Evidence, cheapest: list[Any], odds: Mapping[int, float]) -> PageSentence:
    by_number = {row["number"]: row for row in evidence.ranked}
    named = []
    for number in cheapest[-NAMED:]:
        row = by_number[number]
        record = trial_record(evidence, number)
        likely: PageSentence = ()
        if number in odds:
            likely = (", there with probability ", Number(chance(odds[number]), record, "front.probability"))
        size = Number(integer(row["parameters"]), record, "parameters")
        named.append(joined(trial(evidence, number), " (", size, " parameters", likely, ")"))
    count = Number(str(len(cheapest)), evidence.record, "trials")
    opening: PageSentence = (
        "Nothing that is smaller is as good as the ",
        count,
        f" trial{'s' * (len(cheapest) != 1)} on the front",
    )
    if len(cheapest) > NAMED:
        opening = joined(opening, f", of which the {NAMED} largest are ")
    else:
        opening = joined(opening, ": ")
    last = ". Bars are 95 % intervals over seeds; with few seeds the front itself is uncertain."
    return joined(opening, listed(named), last)
