"""A race in words and as a table, made of what ``statistics.race_records.describe_race`` returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.tables import Bullets, Table, TableCell, label, number
from orchestrator.tables.document import Block
from orchestrator.tables.model import Content

RaceFound = Mapping[str, Any]

ENDS = {
    "one left": "one finalist is left",
    "within": "those left differ by no more than was asked for",
    "budget": "the budget is too small for another seed",
    "none left": "a cell of every finalist failed",
}


def race_blocks(found: RaceFound) -> Iterable[Block]:
    """The finalists, who fell when, and how much of the search's lead was luck.

    Args:
        found: ``race`` of a study's results.
    """
    if "problem" in found:
        yield Bullets(tuple(race_sentences(found)))
        return
    yield Table.of(
        [
            (number("trial"), lambda line: line["number"]),
            (number("search"), lambda line: _accuracy(line["search"])),
            (number("fresh seeds"), lambda line: _accuracy(line["fresh"])),
            (number("seeds"), lambda line: (line["fresh"] or {}).get("n", 0)),
            (number("evidence against"), lambda line: _evidence(line["evidence"])),
            (label("state"), lambda line: _state(line, found)),
        ],
        found["finalists"],
        look=lambda line: "strong" if [line["number"]] == found["standing"] else None,
        title=f"race of {found['of']['study']}",
        about="accuracy in %, mean ± standard deviation; a finalist falls when the evidence against it "
        f"reaches {1 / found['alpha']:.3g}",
    )
    yield Bullets(tuple(race_sentences(found)))


def race_sentences(found: RaceFound) -> Iterable[str]:
    """How the race stands, and what it says of the search."""
    if "problem" in found:
        yield f"The race cannot be shown: {found['problem']}"
        return
    stand = ", ".join(map(str, found["standing"]))
    several = len(found["standing"]) > 1
    who = f"Trial{'s' * several} {stand} stand{'s' * (not several)}"
    so_far = f"{len(found['seeds'])} fresh seeds and {found['cells']} of {found['budget']} cells"
    if found["end"] is None:
        yield f"The race goes on after {so_far}. {who}"
    else:
        yield f"The race ended after {so_far}: {ENDS[found['end']]}. {who if stand else 'No trial stands'}"
    if len(found["standing"]) > 1 and found["gap"] is not None:
        yield (
            f"Those that remain differ by {100 * found['gap']:.1f} points at most, whenever it is stopped "
            f"(confidence {100 * (1 - found['alpha']):g} %)"
        )
    yield (
        f"The best finalist falls with probability {found['alpha']:g} at most, though the race was checked "
        "after every seed"
    )
    if found["ahead"]:
        yield f"{found['ahead']} more cells were trained ahead on free slots, and are not used"
    if leads := found.get("optimism"):
        yield optimism_sentence(leads)


def optimism_sentence(leads: RaceFound) -> str:
    """How much of the winner's lead in the search was luck."""
    there, here, less = (_points(leads[name]) for name in ("search", "fresh", "mean"))
    said = (
        f"Optimism of the search: trial {leads['winner']} led the other finalists there by {there} points, "
        f"and by {here} on {leads['seeds']} fresh seeds, an optimism of {less}"
    )
    if leads["low"] is None:
        return f"{said}, without any noise to judge that by"
    interval = f"{_points(leads['low'])} to {_points(leads['high'])}"
    return (
        f"{said} (95 % interval {interval}). An optimism of 1 point would be found with probability "
        f"{leads['power']:.2f}; {100 * leads['detectable']:.1f} points with 0.8"
    )


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"


def _accuracy(summary: RaceFound | None) -> Content:
    return TableCell.accuracy((summary or {}).get("mean"), (summary or {}).get("std"))


def _evidence(value: float) -> Content:
    return TableCell(f"{value:.3g}", value=value)


def _state(line: RaceFound, found: RaceFound) -> str:
    fell = line["fell"]
    if fell is None:
        return "stands" if found["end"] is None or len(found["standing"]) > 1 else "left"
    if fell["evidence"] is None:
        return f"left at seed {fell['seed']}: a cell failed"
    return f"fell after seed {fell['seed']}, mainly against trial {fell['against']}"
