"""What the winner gets wrong: tasks and classes, confused pairs, its confidence, and the surest mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.sections.naming import trial
from orchestrator.reports.page.values import (
    Data,
    Download,
    Gallery,
    Grid,
    Number,
    PageBlock,
    PageSection,
    PageSentence,
    PlotlyFigure,
    Text,
    Thumbnail,
    column,
    joined,
    series,
    shown,
    style,
)
from orchestrator.statistics.calibration import reliability
from orchestrator.statistics.mistakes import (
    Confusion,
    Guess,
    class_scores,
    confident_mistakes,
    confusions,
)
from orchestrator.tables.model import Field, Table, TableCell, label, number

PAIRS = 15
"""Confused pairs that are shown."""

Images = Mapping[tuple[str, str], str]
"""``data:`` addresses of images by task and sample."""


def errors(evidence: Evidence, images: Images) -> PageSection:
    """The sixth section of a page."""
    return PageSection(name="errors", title="Errors of the winner", blocks=tuple(_blocks(evidence, images)))


def _blocks(evidence: Evidence, images: Images) -> list[PageBlock]:
    best = evidence.winner
    if best is None:
        return [Text(("No trial is complete yet, so there is no winner whose errors could be shown.",))]
    guesses = evidence.guesses
    if not guesses:
        if evidence.guessed_on == "test" and not evidence.wanted.test:
            return [Text(("Only test images were predicted, and this page leaves them out.",))]
        return [Text(("No predictions of the winner's cells can be read, so its errors cannot be shown.",))]
    cells = len({guess.cell for guess in guesses})
    images_ = len({(guess.task, guess.sample) for guess in guesses})
    record = f"cells/{guesses[0].cell}"
    opening: PageSentence = joined(
        f"Predictions of the {cells} cells of ",
        trial(evidence, best["number"]),
        f" on {evidence.guessed_on} images: ",
        Number(f"{len(guesses):,}".replace(",", " "), record, "predictions"),
        " predictions of ",
        Number(f"{images_:,}".replace(",", " "), record, "predictions.sample"),
        " images; every seed counts by itself.",
    )
    blocks: list[PageBlock] = [Text(opening)]
    if evidence.guessed_on == "validation":
        blocks.append(
            Text(("The winner was chosen on these images, so what it gets right here is too good.",), "note")
        )
    blocks += [_by_class(guesses), _pairs(guesses), _calibration(evidence, guesses)]
    if evidence.wanted.images:
        blocks += _mistakes(evidence, guesses, images)
    return blocks


def _by_class(guesses: Sequence[Guess]) -> PlotlyFigure:
    scores = class_scores(guesses)
    tasks = list(dict.fromkeys(score.task for score in scores))
    cell = {guess.task: f"cells/{guess.cell}" for guess in reversed(guesses)}
    rows = [(cell[s.task], s.task, s.name, 100 * s.accuracy, s.right, s.count) for s in scores]
    worst = min(scores, key=lambda score: (score.accuracy, score.task, score.name))
    traces = [
        {
            "type": "box",
            "x": column("accuracy"),
            "y": column("task"),
            "where": {"task": task},
            "text": column("class"),
            "name": shown(task),
            "orientation": "h",
            "boxpoints": "all",
            "jitter": 0.6,
            "pointpos": 0,
            "showlegend": False,
            "marker": {"color": series(i), "size": 5, "opacity": 0.7},
            "fillcolor": series(i, "band"),
            "line": {"width": 1.2},
            "hovertemplate": "%{text}: %{x:.0f} %<extra></extra>",
        }
        for i, task in enumerate(tasks)
    ]
    return PlotlyFigure(
        name="classes",
        title="Accuracy of every class, by task",
        text=joined(
            "Every point is a class of a task; the box holds the middle half of them. The lowest is ",
            f"{worst.name} in {worst.task} with ",
            Number(f"{100 * worst.accuracy:.0f}", cell[worst.task], "predictions"),
            " % of ",
            Number(str(worst.count), cell[worst.task], "predictions"),
            " predictions: with so few images a class' own number is rough.",
        ),
        data=Data.of(("record", "task", "class", "accuracy", "right", "count"), rows),
        traces=tuple(traces),
        layout={
            "xaxis": {"title": {"text": "accuracy, %"}, "range": [-3, 103]},
            "yaxis": {"type": "category", "autorange": "reversed"},
        },
        height=90 + 80 * len(tasks),
    )


def _pairs(guesses: Sequence[Guess]) -> PageBlock:
    found = confusions(guesses, PAIRS)
    if not found:
        return Text(("No image was taken for a wrong class.",))
    cell = {guess.task: f"cells/{guess.cell}" for guess in reversed(guesses)}
    fields: list[tuple[str, Field[Confusion]]] = [
        ("task", (label("task"), lambda pair: pair.task)),
        ("label", (label("images of"), lambda pair: pair.label)),
        ("predicted", (label("taken for"), lambda pair: pair.predicted)),
        ("count", (number("times"), lambda pair: pair.count)),
        ("of", (number("of predictions"), lambda pair: pair.of)),
        (
            "share",
            (
                number("%"),
                lambda pair: TableCell(f"{100 * pair.count / pair.of:.0f}", value=pair.count / pair.of),
            ),
        ),
    ]
    return Grid(
        name="pairs",
        table=Table.of([f for _, f in fields], found, title="Most confused pairs", about="over all seeds"),
        records=tuple(cell[pair.task] for pair in found),
        fields=tuple(f"predictions.{name}" for name, _ in fields),
        sortable=True,
    )


def _calibration(evidence: Evidence, guesses: Sequence[Guess]) -> PlotlyFigure:
    found = reliability([g.confidence for g in guesses], [g.is_right for g in guesses])
    record = f"cells/{guesses[0].cell}"
    by_task = {
        task: reliability([g.confidence for g in own], [g.is_right for g in own]).ece
        for task in dict.fromkeys(g.task for g in guesses)
        for own in [[g for g in guesses if g.task == task]]
    }
    rows = [
        (
            record,
            100 * (b.low + b.high) / 2,
            *_percent(b.confidence, b.accuracy),
            b.count,
            100 * b.low,
            100 * b.high,
        )
        for b in found.bins
    ]
    over = sum(g.confidence for g in guesses) / len(guesses) - sum(g.is_right for g in guesses) / len(guesses)
    word = "more confident than right" if over > 0 else "less confident than right"
    worst = max(by_task, key=lambda task: (by_task[task], task))
    traces = (
        {
            "type": "bar",
            "x": column("bin"),
            "y": column("accuracy"),
            "width": round(100 / len(found.bins), 4),
            "name": "accuracy",
            "marker": {"color": style("series-0"), "line": {"width": 1, "color": style("paper")}},
            "customdata": column("count"),
            "hovertemplate": "confidence near %{x:.0f} %: %{y:.0f} % right of %{customdata}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "x": [0, 100],
            "y": [0, 100],
            "name": "as confident as right",
            "line": {"dash": "dash", "width": 1, "color": style("soft")},
            "hoverinfo": "skip",
        },
        {
            "type": "bar",
            "x": column("bin"),
            "y": column("count"),
            "yaxis": "y2",
            "width": round(100 / len(found.bins), 4),
            "name": "images",
            "marker": {"color": style("faint")},
            "hovertemplate": "%{y} predictions<extra></extra>",
        },
    )
    return PlotlyFigure(
        name="reliability",
        title="How far its confidence can be believed",
        text=joined(
            "Expected calibration error ",
            Number(f"{100 * found.ece:.1f}", record, "predictions.ece"),
            f" % over {len(found.bins)} bins of confidence: on average the winner is {word}, by ",
            Number(f"{100 * abs(over):.1f}", record, "predictions.confidence"),
            " points. The largest of a task by itself is ",
            Number(f"{100 * by_task[worst]:.1f}", record, f"predictions.ece.{worst}"),
            f" % in {worst}. Bars above the dashed line are right more often than they claim.",
        ),
        data=Data.of(("record", "bin", "confidence", "accuracy", "count", "low", "high"), rows),
        traces=traces,
        layout={
            "xaxis": {"title": {"text": "confidence, %"}, "range": [0, 100], "anchor": "y2"},
            "yaxis": {"title": {"text": "accuracy, %"}, "range": [0, 100], "domain": [0.3, 1]},
            "yaxis2": {"title": {"text": "images"}, "domain": [0, 0.2]},
            "barmode": "overlay",
        },
        height=420,
    )


def _percent(*fractions: float | None) -> tuple[float | None, ...]:
    return tuple(None if fraction is None else 100 * fraction for fraction in fractions)


def chosen_mistakes(evidence: Evidence) -> list[Guess]:
    """The images whose thumbnails the page wants."""
    return confident_mistakes(evidence.guesses, evidence.wanted.images)


def _mistakes(evidence: Evidence, guesses: Sequence[Guess], images: Images) -> list[PageBlock]:
    found = chosen_mistakes(evidence)
    if not found:
        return [Text(("There is no mistake to show.",))]
    thumbnails = tuple(
        Thumbnail(
            record=f"cells/{guess.cell}",
            sample=guess.sample,
            caption=(
                f"{guess.task}: {guess.label}, taken for {guess.predicted} with ",
                Number(f"{100 * guess.confidence:.0f}", f"cells/{guess.cell}", "predictions.confidence"),
                " %",
            ),
            image=images.get((guess.task, guess.sample), ""),
        )
        for guess in found
    )
    data = Data.of(
        ("record", "task", "sample", "label", "predicted", "confidence", "nll"),
        (
            (f"cells/{g.cell}", g.task, g.sample, g.label, g.predicted, 100 * g.confidence, g.nll)
            for g in found
        ),
    )
    return [
        Gallery("Most confident mistakes", thumbnails),
        Download(name="mistakes", text="Mistakes as CSV", data=data),
    ]
