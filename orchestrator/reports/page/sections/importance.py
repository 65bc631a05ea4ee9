"""How much each setting matters, with an interval from resampled trials."""

from __future__ import annotations

from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.values import (
    Data,
    Number,
    PageBlock,
    PageSentence,
    PlotlyFigure,
    Text,
    column,
    style,
)
from orchestrator.statistics.importance import FEWEST, Observed, importances
from orchestrator.tables.words import SYMBOLS


def importance(evidence: Evidence) -> list[PageBlock]:
    """The figure, or that there are too few trials."""
    observed = [
        Observed(
            {name: row["config"].get(name) for name in evidence.varied if name != "method"},
            row[evidence.score_field]["mean"],
        )
        for row in evidence.ranked
    ]
    count = Number(str(len(observed)), evidence.record, "trials")
    if len(observed) < FEWEST:
        return [
            Text(
                (
                    "Importance of the settings: too few trials. ",
                    count,
                    f" are complete, and below {FEWEST} an importance is noise.",
                )
            )
        ]
    found = importances(observed, evidence.logarithmic)
    if not found:
        return [Text(("Importance of the settings: nothing varied.",))]
    first = found[0]
    clear = len(found) == 1 or first.low > found[1].high
    name = SYMBOLS.get(first.name, first.name)
    share = Number(f"{100 * first.value:.0f}", evidence.record, f"importance.{first.name}")
    text: PageSentence = (
        f"{name} separates the best trials most, with ",
        share,
        " % of the whole"
        + (
            ". "
            if clear
            else ", but the intervals overlap: with other trials of the search the order could be another. "
        )
        + "By PED-ANOVA of ",
        count,
        " complete trials; bars are from the 5 % to the 95 % quantile over resampled trials.",
    )
    rows = [
        (
            evidence.record,
            SYMBOLS.get(each.name, each.name),
            100 * each.value,
            100 * each.low,
            100 * each.high,
            100 * max(0.0, each.high - each.value),
            100 * max(0.0, each.value - each.low),
        )
        for each in reversed(found)
    ]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": column("importance"),
        "y": column("setting"),
        "marker": {"color": style("series-0")},
        "error_x": {
            "type": "data",
            "array": column("plus"),
            "arrayminus": column("minus"),
            "color": style("ink"),
            "thickness": 1.5,
        },
        "hovertemplate": "%{y}: %{x:.0f} %<extra></extra>",
    }
    return [
        PlotlyFigure(
            name="importance",
            title="Importance of the settings",
            text=text,
            data=Data.of(("record", "setting", "importance", "low", "high", "plus", "minus"), rows),
            traces=(trace,),
            layout={
                "xaxis": {"title": {"text": "importance, %"}, "rangemode": "tozero"},
                "yaxis": {"type": "category"},
            },
            height=90 + 34 * len(found),
        )
    ]
