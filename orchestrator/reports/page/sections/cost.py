"""What the study cost: the slots over time, where the seconds went, what stopping early saved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from orchestrator.ledger import Invocation, TrialRecord
from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.sections.naming import STATES, baseline_name, baseline_record, trial_record
from orchestrator.reports.page.values import (
    Data,
    Grid,
    Number,
    PageBlock,
    PageSection,
    PageSentence,
    PlotlyFigure,
    Text,
    column,
    joined,
    style,
)
from orchestrator.reports.ranking import TIMES
from orchestrator.reports.stopping import in_words, stopping
from orchestrator.statistics.occupancy import Occupancy, SlotWork, occupancy
from orchestrator.tables.model import Field, Table, TableCell, label, number
from orchestrator.tables.words import duration

COLOURS = {
    "complete": "series-0",
    "pruned": "series-4",
    "failed": "series-1",
    "running": "series-5",
    "probe": "series-3",
    "reference": "series-2",
    "test": "series-6",
}

SHOWN = 1500
"""Pieces of work in the timeline."""

OUTLINED = 150
"""Pieces up to which each has an outline: of more it would cover them."""

REPLAYED = 1000
"""Trials up to which the rule that stopped some is replayed on the others, in many orders."""

GAP_S = 600.0
"""Seconds between two runs of a driver above which each has a timeline of its own; the longest is drawn."""


def cost(evidence: Evidence) -> PageSection:
    """The seventh section of a page."""
    blocks: list[PageBlock] = [Text(_spent(evidence))]
    if evidence.invocations:
        blocks.append(_runs(evidence))
    blocks += _timeline(evidence)
    blocks += _saved(evidence)
    return PageSection(name="cost", title="Cost", blocks=tuple(blocks))


def _spent(evidence: Evidence) -> PageSentence:
    spent, record = evidence.results["budgets"], f"{evidence.record}/spending"
    wall, device = 3600 * (spent["hours"]["spent"] or 0), 3600 * (spent["device_hours"]["spent"] or 0)
    gpu = spent["gpu_hours"]["spent"] or 0.0
    found = joined(
        "All runs of the study together: ",
        Number(duration(wall), record, "seconds"),
        " of wall clock, ",
        Number(duration(device), record, "device_seconds"),
        " of slots at work, ",
        Number(f"{gpu:.3g}", record, "gpu_seconds"),
        " GPU-hours.",
    )
    limits = [(word, spent[name]["limit"]) for name, word in (("hours", "hours"), ("gpu_hours", "GPU-hours"))]
    said = [f"{limit:g} {word}" for word, limit in limits if limit]
    return joined(found, f" At most {' and '.join(said)} may be spent." if said else "")


def _runs(evidence: Evidence) -> Grid:
    """Where each invocation's seconds went."""
    fields: list[tuple[str, Field[Invocation]]] = [
        ("started_at", (label("run begun (UTC)"), lambda run: run.started_at[:19].replace("T", " "))),
        ("outcome", (label("outcome"), lambda run: run.outcome)),
        ("trained", (number("cells trained"), lambda run: len(run.trained))),
        ("reused", (number("cells found"), lambda run: len(run.reused))),
    ]
    for name, words in TIMES.items():
        if any(run.timing.get(name) for run in evidence.invocations):
            fields.append((f"timing.{name}", (number(words), _seconds(name))))
    return Grid(
        name="runs",
        table=Table.of(
            [f for _, f in fields],
            evidence.invocations,
            title="Where the seconds went",
            about="training and evaluation are summed over slots",
        ),
        records=tuple(f"{evidence.record}/invocations/{run.id}" for run in evidence.invocations),
        fields=tuple(name for name, _ in fields),
    )


def _seconds(name: str) -> Any:
    def cell(run: Invocation) -> TableCell | None:
        seconds = run.timing.get(name)
        return None if seconds is None else TableCell(duration(seconds), value=seconds)

    return cell


def _timeline(evidence: Evidence) -> list[PageBlock]:
    work = _longest(sorted(_work(evidence), key=lambda item: item.start))
    if not work:
        return [Text(("There is no timeline: no work of a trial is recorded with its times.",))]
    found = occupancy(work)
    named = any(item.slot for item in work)
    origin = min(item.start for item in work)
    rows = [
        (
            item.record,
            lane.name,
            item.label,
            item.kind,
            item.start - origin,
            item.seconds,
            number < SHOWN,
        )
        for lane in found.lanes
        for number, item in enumerate(lane.work)
    ]
    edge = {"width": 1 if len(work) <= OUTLINED else 0, "color": style("paper")}
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "base": column("start"),
            "x": column("seconds"),
            "y": column("lane"),
            "where": {"kind": kind, "drawn": "true"},
            "name": kind,
            "text": column("work"),
            "textposition": "none",
            "marker": {"color": style(COLOURS.get(kind, "series-7")), "line": edge},
            "hovertemplate": "%{text}: %{x:.0f} s from %{base:.0f} s<extra></extra>",
        }
        for kind in dict.fromkeys(item.kind for item in work)
    ]
    note: PageSentence = ()
    if sum(1 for row in rows if row[-1]) < len(rows):
        note = (f"The first {SHOWN} pieces of work of each lane are drawn; the data have all.",)
    return [
        PlotlyFigure(
            name="timeline",
            title="The slots over time",
            text=_occupied(evidence, found, named),
            data=Data.of(("record", "lane", "work", "kind", "start", "seconds", "drawn"), rows),
            traces=tuple(traces),
            layout={
                "barmode": "overlay",
                "xaxis": {"title": {"text": "seconds"}},
                "yaxis": {"type": "category", "autorange": "reversed"},
            },
            height=130 + 44 * len(found.lanes),
            note=note,
        )
    ]


def _occupied(evidence: Evidence, found: Occupancy, named: bool) -> PageSentence:
    share = Number(f"{100 * found.share:.0f}", evidence.record, "trials.device_seconds")
    lanes = "slots" if named else "lanes"
    said = joined(
        f"Gaps are time in which nothing recorded was at work: the {len(found.lanes)} {lanes} were busy for ",
        share,
        " % of the time between the first start and the last end",
    )
    if named:
        return joined(said, ".")
    return joined(
        said,
        ". These records do not say which slot did what, so the work is packed into as few lanes as hold it, "
        "each piece ending when its trial did; probes, tests and loading show as gaps.",
    )


def _work(evidence: Evidence) -> Iterable[SlotWork]:
    """Everything that is recorded with its times."""
    for trial in evidence.trials:
        yield from _pieces(trial, trial_record(evidence, trial.number), f"trial {trial.number}", trial.state)
    for name, row in evidence.baselines.items():
        yield from _pieces(row, baseline_record(evidence, name), baseline_name(name), "reference")
    for run in evidence.invocations:
        for held in run.held:
            if held.get("end"):
                item = str(held["item"])
                kind = (
                    "probe"
                    if item.startswith("probe")
                    else "reference"
                    if item.startswith("baseline")
                    else "test"
                )
                place = f"{evidence.record}/invocations/{run.id}"
                yield SlotWork(
                    record=place,
                    label=item,
                    kind=kind,
                    slot=str(held["slot"]),
                    start=_moment(held["start"]),
                    end=_moment(held["end"]),
                )


def _pieces(found: TrialRecord, record: str, name: str, kind: str) -> Iterable[SlotWork]:
    held = [each for each in found.attributes.get("held") or () if each.get("end")]
    for each in held:
        yield SlotWork(
            record=record,
            label=name,
            kind=kind,
            slot=str(each["slot"]),
            start=_moment(each["start"]),
            end=_moment(each["end"]),
        )
    if not held and found.ended_at and found.device_seconds:
        end = _moment(found.ended_at)
        yield SlotWork(record=record, label=name, kind=kind, start=end - found.device_seconds, end=end)


def _longest(work: Sequence[SlotWork]) -> list[SlotWork]:
    """Of the runs that lie far apart the one with most work: a night between two leaves nothing to see."""
    runs: list[list[SlotWork]] = []
    until = float("-inf")
    for item in work:
        if not runs or item.start - until > GAP_S:
            runs.append([])
        runs[-1].append(item)
        until = max(until, item.end)
    return max(runs, key=lambda run: sum(item.seconds for item in run), default=[])


def _saved(evidence: Evidence) -> list[PageBlock]:
    """Epochs that were not trained because trials were stopped early."""
    pruned = [trial for trial in evidence.trials if trial.state == "pruned"]
    states = [(state, [t for t in evidence.trials if t.state == state]) for state in STATES]
    fields: list[tuple[str, Field[tuple[str, list[TrialRecord]]]]] = [
        ("state", (label("trials"), lambda pair: pair[0])),
        ("trials", (number("number"), lambda pair: len(pair[1]))),
        ("epochs", (number("epochs trained"), lambda pair: sum(map(_trained, pair[1])))),
        ("device_seconds", (number("slots at work"), lambda pair: _sum(pair[1]))),
    ]
    listed = [pair for pair in states if pair[1]]
    if not listed:
        return []
    grid = Grid(
        name="states",
        table=Table.of([f for _, f in fields], listed, title="Trials by what became of them"),
        records=tuple(f"{evidence.record}/trials" for _ in listed),
        fields=tuple(name for name, _ in fields),
    )
    if not pruned:
        return [grid, Text(("No trial was stopped early, so stopping saved nothing.",))]
    if lines := _stopped(evidence):
        return [grid, *(Text((f"{line[0].upper()}{line[1:]}.",)) for line in lines)]
    complete = [trial for trial in evidence.trials if trial.state == "complete"]
    last = max((_trained(trial) for trial in complete), default=0)
    record = f"{evidence.record}/trials"
    cut = sum(max(0, last - _trained(trial)) for trial in pruned)
    ran = sum(_trained(trial) for trial in evidence.trials)
    seconds = [trial.device_seconds / _trained(trial) for trial in complete if _trained(trial)]
    saved = joined(
        "Stopping ",
        Number(str(len(pruned)), record, "state"),
        f" trial{'s' * (len(pruned) != 1)} early left out ",
        Number(str(cut), record, "epochs"),
        " epochs of ",
        Number(str(cut + ran), record, "epochs"),
    )
    if seconds:
        worth = cut * sum(seconds) / len(seconds)
        saved = joined(
            saved,
            ", about ",
            Number(duration(worth), record, "device_seconds"),
            " of slots at the same speed",
        )
    return [grid, Text(joined(saved, "."))]


def _stopped(evidence: Evidence) -> list[str]:
    """What ``results`` says of stopping early; none where the study cannot tell, or has too many trials."""
    if evidence.settings is None or len(evidence.trials) > REPLAYED:
        return []
    return in_words(stopping(evidence.settings, evidence.trials))


def _trained(trial: TrialRecord) -> int:
    return int(trial.epochs[-1]["epoch"]) if trial.epochs else 0


def _sum(trials: Sequence[TrialRecord]) -> TableCell:
    seconds = sum(trial.device_seconds for trial in trials)
    return TableCell(duration(seconds), value=round(seconds, 1))


def _moment(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
