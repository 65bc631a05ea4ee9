"""Several studies beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.sections.naming import settings, signed, trial_record
from orchestrator.reports.page.values import (
    Data,
    Grid,
    IntervalBar,
    PageBlock,
    PageSection,
    PlotlyFigure,
    Text,
    column,
    series,
    shown,
)
from orchestrator.tables.model import NONE, Field, Table, TableCell, label, number
from orchestrator.tables.words import duration, integer


def side_by_side(studies: Sequence[Evidence]) -> PageSection:
    """The first section of a page of several studies."""
    blocks: list[PageBlock] = [_table(studies)]
    cautions = _cautions(studies)
    if cautions:
        blocks.insert(0, Text((f"Compare with care: {'; '.join(cautions)}.",), "caution"))
    blocks.append(_progress(studies))
    return PageSection(name="side-by-side", title="The studies side by side", blocks=tuple(blocks))


def _cautions(studies: Sequence[Evidence]) -> list[str]:
    """What differs between the studies besides what they searched."""
    parts = {
        "dataset": "the data differ",
        "backbone": "the backbones differ",
        "splits": "the splits differ",
        "seeds": "the seeds differ",
        "protocol": "the protocols differ",
    }
    return [said for name, said in parts.items() if len({repr(e.study.get(name)) for e in studies}) > 1]


def _table(studies: Sequence[Evidence]) -> Grid:
    def score(evidence: Evidence, name: str) -> TableCell:
        best = evidence.winner
        found = best[name] if best else None
        return TableCell.accuracy((found or {}).get("mean"), (found or {}).get("std"))

    def gain(evidence: Evidence) -> TableCell:
        found = (evidence.winner or {}).get("gain")
        return (
            TableCell(signed(found["mean"]), value=round(100 * found["mean"], 4))
            if found
            else TableCell(NONE)
        )

    def hours(evidence: Evidence) -> TableCell:
        seconds = 3600 * (evidence.results["budgets"]["device_hours"]["spent"] or 0.0)
        return TableCell(duration(seconds), value=round(seconds, 1))

    def complete(evidence: Evidence) -> TableCell:
        return TableCell(f"{len(evidence.ranked)} of {len(evidence.trials)}", value=len(evidence.ranked))

    def winner(evidence: Evidence) -> str:
        best = evidence.winner
        return NONE if best is None else f"trial {best['number']}: {settings(evidence, best['config'])}"

    fields: list[tuple[str, Field[Evidence]]] = [
        ("name", (label("study"), lambda e: e.name)),
        ("winner", (label("winner"), winner)),
        ("parameters", (number("size"), lambda e: integer(e.winner["parameters"]) if e.winner else NONE)),
        ("val", (number("validation"), lambda e: score(e, "val"))),
        ("test", (number("test"), lambda e: score(e, "test"))),
        ("gain", (number("over zero-shot"), gain)),
        ("trials", (number("complete"), complete)),
        ("device_seconds", (number("slots at work"), hours)),
    ]
    spans = []
    for evidence in studies:
        found = evidence.score(evidence.winner) if evidence.winner else None
        low, high = (found["low"], found["high"]) if found else (None, None)
        spans.append(
            None
            if found is None
            else IntervalBar(
                low=None if low is None else 100 * low,
                middle=100 * found["mean"],
                high=None if high is None else 100 * high,
            )
        )
    return Grid(
        name="studies",
        table=Table.of(
            [f for _, f in fields],
            studies,
            title="The winner of each study",
            about="accuracy in %, mean ± standard deviation over seeds",
        ),
        records=tuple(trial_record(e, e.winner["number"]) if e.winner else e.record for e in studies),
        fields=tuple(name for name, _ in fields),
        spans=tuple(spans),
        span_heading="95 % interval",
        sortable=True,
    )


def _progress(studies: Sequence[Evidence]) -> PlotlyFigure:
    """The best so far of each study over the slots' seconds."""
    rows: list[tuple[Any, ...]] = []
    for evidence in studies:
        best, seconds = 0.0, 0.0
        scores = {row["number"]: row[evidence.score_field]["mean"] for row in evidence.ranked}
        for trial in sorted(evidence.trials, key=lambda t: (t.ended_at or "", t.number)):
            seconds += trial.device_seconds
            if scores.get(trial.number, 0.0) > best:
                best = scores[trial.number]
            if best:
                rows.append(
                    (trial_record(evidence, trial.number), evidence.name, trial.number, seconds, 100 * best)
                )
    traces = tuple(
        {
            "type": "scatter",
            "mode": "lines",
            "x": column("seconds"),
            "y": column("best"),
            "customdata": column("trial"),
            "where": {"study": evidence.name},
            "name": shown(evidence.name),
            "line": {"shape": "hv", "color": series(i), "width": 2},
            "hovertemplate": "after %{x:.0f} s and trial %{customdata}: %{y:.1f} %",
        }
        for i, evidence in enumerate(studies)
    )
    return PlotlyFigure(
        name="progress",
        title="The best so far",
        text=(
            "Highest mean of a complete trial against the seconds that slots had worked until it ended. The "
            "best of many noisy means is too good: it rises with every trial, even where all are equal.",
        ),
        data=Data.of(("record", "study", "trial", "seconds", "best"), rows),
        traces=traces,
        layout={
            "xaxis": {"title": {"text": "seconds of slots"}},
            "yaxis": {"title": {"text": "accuracy of the best so far, %"}},
        },
    )
