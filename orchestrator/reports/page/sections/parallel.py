"""Parallel coordinates of the settings that varied: a line per trial, on log axes where the search was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.sections.naming import trial_record
from orchestrator.reports.page.values import (
    Axis,
    Data,
    Number,
    PageBlock,
    PageSentence,
    Parallel,
    PlotLine,
    Text,
    joined,
)
from orchestrator.tables.words import SYMBOLS, integer

SHOWN = 1000
"""Lines that are drawn: the best half and the latest half of them."""

OFFERED = 8
"""Different numbers up to which an axis names each."""

CLOSEST = 0.06
"""Of an axis between two ticks at least."""

AIR = 0.04
"""Left free at both ends of an axis."""


def parallel(evidence: Evidence) -> list[PageBlock]:
    """The figure, or why there is none."""
    names = [name for name in evidence.varied if name != "method"]
    rows = [row for row in evidence.results["trials"] if _score(evidence, row) is not None]
    if not names or len(rows) < 2:
        return [Text(("No parallel coordinates: fewer than two trials with a value, or nothing varied.",))]
    drawn = _drawn(rows)
    axes = [
        (_Scale.of(name, [row["config"].get(name) for row in rows], evidence.logarithmic)) for name in names
    ]
    sizes = [row["parameters"] for row in rows]
    if any(sizes):
        axes.append(_Scale.of("parameters", sizes, frozenset({"parameters"})))
    scores = [100 * (_score(evidence, row) or 0.0) for row in rows]
    axes.append(_Scale.of("accuracy, %", scores, frozenset()))
    low, high = min(scores), max(scores)
    lines = []
    for row, score in sorted(zip(rows, scores, strict=True), key=lambda pair: pair[1]):
        if row["number"] not in drawn:
            continue
        values = [*(row["config"].get(name) for name in names)]
        values += [row["parameters"]] if any(sizes) else []
        places = tuple(axis.place(value) for axis, value in zip(axes, [*values, score], strict=True))
        lines.append(
            PlotLine(
                record=trial_record(evidence, row["number"]),
                label=f"trial {row['number']} ({row['state']}): {score:.1f} %",
                places=places,
                colour=(score - low) / (high - low) if high > low else 1.0,
            )
        )
    note: PageSentence = ()
    if len(lines) < len(rows):
        total = Number(str(len(rows)), evidence.record, "trials")
        note = (f"{len(lines)} lines of ", total, " are drawn: the best and the latest. The data have all.")
    stopped = any(row["state"] != "complete" for row in rows)
    last = " Of trials that were stopped early it is the accuracy after their last epoch." if stopped else ""
    columns = ("record", "trial", "state", *names, "parameters", "accuracy")
    data = Data.of(
        columns,
        (
            (
                trial_record(evidence, row["number"]),
                row["number"],
                row["state"],
                *(_plain(row["config"].get(name)) for name in names),
                row["parameters"],
                score,
            )
            for row, score in zip(rows, scores, strict=True)
        ),
    )
    return [
        Parallel(
            name="parallel",
            title="What varied, trial by trial",
            text=joined(
                "Every line is a trial, from its settings on the left to its accuracy on the right.", last
            ),
            data=data,
            axes=tuple(axis.axis for axis in axes),
            lines=tuple(lines),
            colour="accuracy",
            note=note,
        )
    ]


def _score(evidence: Evidence, row: Mapping[str, Any]) -> float | None:
    """The mean of a complete trial; of one that was stopped early its last epoch's."""
    found = row[evidence.score_field]
    if found is not None:
        return float(found["mean"])
    last = row["last_epoch"]
    if row["state"] not in ("pruned", "complete") or last is None or last["mean"] is None:
        return None
    return float(last["mean"])


def _drawn(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """Numbers of the trials that are drawn; rows come ranked, the best first."""
    best = [row["number"] for row in rows[: SHOWN // 2]]
    latest = sorted(row["number"] for row in rows)[-(SHOWN - len(best)) :]
    return {*best, *latest}


class _Scale:
    """Places of a setting's values on an axis.

    Args:
        name: of the setting.
        values: that occur.
        log: distances are those of logarithms.
    """

    def __init__(self, name: str, values: Sequence[Any], log: bool) -> None:
        self.name = SYMBOLS.get(name, name)
        different = {_word(value): value for value in values}
        numbers = [v for v in different.values() if isinstance(v, int | float) and not isinstance(v, bool)]
        self.numeric = len(numbers) == len(different) and len(numbers) > 1
        self.log = self.numeric and log and min(numbers) > 0
        self.offered = sorted(numbers)
        if self.numeric:
            self.low, self.high = self._map(min(numbers)), self._map(max(numbers))
            self.words: list[str] = []
        else:
            self.words = [_word(v) for v in sorted(different.values(), key=_order)]

    @classmethod
    def of(cls, name: str, values: Sequence[Any], logarithmic: frozenset[str]) -> _Scale:
        return cls(name, values, name in logarithmic or _is_geometric(values))

    def place(self, value: Any) -> float | None:
        """0 … 1 from bottom to top; None where the trial has no such value."""
        if self.numeric:
            if value is None:
                return None
            return AIR + (1 - 2 * AIR) * (self._map(value) - self.low) / (self.high - self.low)
        return AIR + (1 - 2 * AIR) * self.words.index(_word(value)) / max(1, len(self.words) - 1)

    @property
    def axis(self) -> Axis:
        if not self.numeric:
            ticks = [
                (word, AIR + (1 - 2 * AIR) * i / max(1, len(self.words) - 1))
                for i, word in enumerate(self.words)
            ]
            return Axis(label=self.name, ticks=tuple(ticks))
        if len(self.offered) <= OFFERED:
            ticks = [(_tick(value), self.place(value) or 0.0) for value in self.offered]
            return Axis(label=self.name, ticks=_apart(ticks), log=self.log)
        values = [self.low + (self.high - self.low) * i / 4 for i in range(5)]
        return Axis(
            label=self.name,
            ticks=tuple(
                (_tick(10**v if self.log else v), AIR + (1 - 2 * AIR) * i / 4) for i, v in enumerate(values)
            ),
            log=self.log,
        )

    def _map(self, value: float) -> float:
        return math.log10(value) if self.log else float(value)


def _apart(ticks: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Ticks that can be read: of those that would lie on one another the first, and the last of all."""
    kept: list[tuple[str, float]] = []
    for tick in ticks:
        if not kept or tick[1] - kept[-1][1] >= CLOSEST:
            kept.append(tick)
    if kept and kept[-1] != ticks[-1]:
        kept[-1] = ticks[-1]
    return tuple(kept)


def _is_geometric(values: Sequence[Any]) -> bool:
    """Whether whole numbers such as 1, 2, 4, 8 were offered: their distances are those of logarithms."""
    numbers = sorted({v for v in values if isinstance(v, int) and not isinstance(v, bool)})
    return len(numbers) > 2 and numbers[0] > 0 and numbers[-1] >= 8 * numbers[0]


def _order(value: Any) -> tuple[int, float, str]:
    """Nothing first, then numbers by size, then words."""
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, int | float):
        return (1, float(value), "")
    return (2, 0.0, str(value))


def _word(value: Any) -> str:
    if value is None:
        return "auto"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("_", " ")


def _tick(value: float) -> str:
    return integer(round(value)) if abs(value) >= 1000 else f"{value:.3g}".replace("e-0", "e-")


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else str(value)
