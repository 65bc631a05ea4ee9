"""Learning curves of trials and tasks, and how early the last ranking could be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orchestrator.ledger import TrialRecord
from orchestrator.reports.page.evidence import Evidence, Line
from orchestrator.reports.page.sections.naming import trial, trial_record
from orchestrator.reports.page.values import (
    Data,
    Number,
    PageBlock,
    PageSection,
    PageSentence,
    PlotlyFigure,
    Text,
    column,
    joined,
    series,
    shown,
    style,
)
from orchestrator.statistics.foresight import FEWEST, foresight
from orchestrator.statistics.summary import summarize

NAMED = 5
"""Best trials that have a colour and a band."""

SHOWN = 60
"""Trials that are drawn."""


def curves(evidence: Evidence) -> PageSection:
    """The fourth section of a page."""
    told = [found for found in evidence.trials if any(e["mean"] is not None for e in found.epochs)]
    if not told:
        blocks: list[PageBlock] = [Text(("No trial has reported an epoch yet.",))]
    else:
        blocks = [_trials(evidence, told), *_tasks(evidence), *_foresight(evidence, told)]
    return PageSection(name="curves", title="Learning curves", blocks=tuple(blocks))


def _trials(evidence: Evidence, told: Sequence[TrialRecord]) -> PlotlyFigure:
    """The objective of every trial by epoch, with bands over seeds for the best."""
    first = sorted(told, key=lambda t: (evidence.rank.get(t.number, math.inf), -_last(t), t.number))
    drawn = {t.number for t in first[:SHOWN]}
    named = [t.number for t in first[:NAMED] if t.number in evidence.rank]
    rows: list[tuple[Any, ...]] = []
    for found in told:
        for epoch in found.epochs:
            if epoch["mean"] is not None:
                rows.append(_epoch(evidence, found, epoch, found.number in drawn))
    traces: list[dict[str, Any]] = []
    hover = "trial %{customdata}, epoch %{x}: %{y:.1f} %<extra></extra>"
    base = {
        "type": "scatter",
        "x": column("epoch"),
        "y": column("mean"),
        "customdata": column("trial"),
        "hovertemplate": hover,
    }
    for number in sorted(drawn - set(named)):
        traces.append(
            {
                **base,
                "where": {"trial": number},
                "mode": "lines",
                "showlegend": False,
                "line": {"color": style("faint"), "width": 1},
            }
        )
    for i, number in enumerate(named):
        traces += _band({"trial": number}, str(number), i)
        traces.append(
            {
                **base,
                "where": {"trial": number},
                "mode": "lines+markers",
                "name": f"trial {number}",
                "legendgroup": str(number),
                "line": {"color": series(i), "width": 2},
            }
        )
    note: PageSentence = ()
    if len(drawn) < len(told):
        total = Number(str(len(told)), evidence.record, "trials")
        note = (f"{len(drawn)} of ", total, " trials are drawn, the best ones; the data have all.")
    return PlotlyFigure(
        name="curves-trials",
        title="Every trial",
        text=(
            "Accuracy on validation images after every epoch, mean over seeds, splits and tasks. The best "
            f"{'trial has' if len(named) == 1 else 'trials have'} a colour and a band of one standard "
            "deviation over seeds on either side; grey lines are other trials, and those that end early were "
            "stopped.",
        ),
        data=Data.of(("record", "trial", "epoch", "mean", "std", "n", "low", "high", "drawn"), rows),
        traces=tuple(traces),
        layout={
            "xaxis": {"title": {"text": "epoch"}, "dtick": 1 if _epochs(told) <= 20 else None},
            "yaxis": {"title": {"text": "validation accuracy, %"}},
            "hovermode": "closest",
        },
        height=400,
        note=note,
    )


def _epoch(evidence: Evidence, found: TrialRecord, epoch: Line, drawn: bool) -> tuple[Any, ...]:
    """A row of the data: the recorded mean, and the spread over seeds of the means over splits."""
    mean = 100 * epoch["mean"]
    seeds: dict[str, list[float]] = {}
    for cell, value in zip(found.cells, epoch.get("values") or (), strict=False):
        if value is not None:
            seeds.setdefault(cell["seed"], []).append(value)
    over = summarize([100 * math.fsum(v) / len(v) for v in seeds.values()]) if seeds else None
    std = over.std if over else None
    low, high = (None, None) if std is None else (mean - std, mean + std)
    n = over.n if over else None
    return (
        trial_record(evidence, found.number),
        found.number,
        epoch["epoch"],
        mean,
        std,
        n,
        low,
        high,
        drawn,
    )


def _tasks(evidence: Evidence) -> list[PageBlock]:
    """The winner's curves by task."""
    if evidence.winner is None:
        return []
    values: dict[tuple[str, int], list[float]] = {}
    keys: dict[tuple[str, int], str] = {}
    for cell, _ in evidence.cells(evidence.winner):
        for report in evidence.history(cell["key"]):
            for task, numbers in (report.get("tasks") or {}).items():
                if numbers.get("accuracy") is not None:
                    place = (task, report["epoch"])
                    values.setdefault(place, []).append(100 * numbers["accuracy"])
                    keys.setdefault(place, f"cells/{cell['key']}")
    if not values:
        return [Text(("The winner's cells kept no curves by task.",))]
    tasks = list(dict.fromkeys(task for task, _ in values))
    rows = []
    for (task, epoch), found in sorted(
        values.items(), key=lambda item: (tasks.index(item[0][0]), item[0][1])
    ):
        over = summarize(found)
        std = over.std
        ends = (None, None) if std is None else (over.mean - std, over.mean + std)
        rows.append((keys[task, epoch], task, epoch, over.mean, std, over.n, *ends))
    traces: list[dict[str, Any]] = []
    for i, task in enumerate(tasks):
        traces += _band({"task": task}, str(i), i)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": column("epoch"),
                "y": column("mean"),
                "where": {"task": task},
                "name": shown(task),
                "legendgroup": str(i),
                "line": {"color": series(i), "width": 2},
                "hovertemplate": "epoch %{x}: %{y:.1f} %",
            }
        )
    return [
        PlotlyFigure(
            name="curves-tasks",
            title="The winner, task by task",
            text=joined(
                "Accuracy of ",
                trial(evidence, evidence.winner["number"]),
                " on each task's validation images after every epoch: mean over its cells, and a band of one "
                "standard deviation on either side.",
            ),
            data=Data.of(("record", "task", "epoch", "mean", "std", "n", "low", "high"), rows),
            traces=tuple(traces),
            layout={
                "xaxis": {"title": {"text": "epoch"}},
                "yaxis": {"title": {"text": "validation accuracy, %"}},
            },
            height=400,
        )
    ]


def _foresight(evidence: Evidence, told: Sequence[TrialRecord]) -> list[PageBlock]:
    """Whether stopping early was safe."""
    complete = [found for found in told if found.state == "complete"]
    found = foresight([evidence.curve(trial) for trial in complete])
    if len(found) < 2:
        count = Number(str(len(complete)), evidence.record, "trials")
        return [
            Text(
                (
                    "Whether stopping early was safe cannot be said: ",
                    count,
                    f" complete trials have curves, and ranks of fewer than {FEWEST} trials, or of one "
                    "epoch, say nothing.",
                )
            )
        ]
    rows = [(evidence.record, each.epoch, each.correlation, each.place, each.trials) for each in found]
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": column("epoch"),
        "y": column("correlation"),
        "customdata": column("place"),
        "line": {"color": style("series-0"), "width": 2},
        "hovertemplate": "epoch %{x}: %{y:.2f}; the final best was at rank %{customdata}<extra></extra>",
    }
    return [
        PlotlyFigure(
            name="foresight",
            title="How early the final ranking could be seen",
            text=_foresaid(evidence, found),
            data=Data.of(("record", "epoch", "correlation", "place", "trials"), rows),
            traces=(trace,),
            layout={
                "xaxis": {"title": {"text": "epoch"}, "dtick": 1 if len(found) <= 20 else None},
                "yaxis": {"title": {"text": "rank correlation"}, "range": [-1.05, 1.05]},
            },
            height=300,
        )
    ]


def _foresaid(evidence: Evidence, found: Sequence[Any]) -> PageSentence:
    early = found[(len(found) - 1) // 2]
    correlation = "no" if early.correlation is None else f"{early.correlation:.2f}"
    stopped = sum(trial.state == "pruned" for trial in evidence.trials)
    tail: PageSentence = (
        " Only complete trials are compared. Those that were stopped early have no last epoch, so this is "
        "what is known of the rest.",
    )
    return joined(
        "Spearman's correlation of each epoch's ranking with that of the last. After epoch ",
        Number(str(early.epoch), evidence.record, "foresight.epoch"),
        " it was ",
        Number(correlation, evidence.record, "foresight.correlation"),
        " over ",
        Number(str(early.trials), evidence.record, "foresight.trials"),
        " trials, and the final best was then at rank ",
        Number(str(early.place), evidence.record, "foresight.place"),
        ".",
        tail if stopped else "",
    )


def _last(found: TrialRecord) -> float:
    return max((e["mean"] for e in found.epochs if e["mean"] is not None), default=-math.inf)


def _epochs(told: Sequence[TrialRecord]) -> int:
    return max((e["epoch"] for found in told for e in found.epochs), default=0)


def _band(where: dict[str, Any], group: str, colour: int) -> list[dict[str, Any]]:
    """The area between the columns ``low`` and ``high`` of the rows that ``where`` chooses."""
    edge = {
        "type": "scatter",
        "x": column("epoch"),
        "where": where,
        "mode": "lines",
        "line": {"width": 0},
        "showlegend": False,
        "hoverinfo": "skip",
        "legendgroup": group,
    }
    top = {"y": column("high"), "fill": "tonexty", "fillcolor": series(colour, "band")}
    return [{**edge, "y": column("low")}, {**edge, **top}]
