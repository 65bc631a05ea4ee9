"""The ranking: sortable, with the interval of every row drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.reports.page.evidence import Evidence, Line
from orchestrator.reports.page.sections.naming import (
    baseline_name,
    baseline_record,
    settings,
    trial_record,
)
from orchestrator.reports.page.values import (
    Data,
    Download,
    Grid,
    IntervalBar,
    Number,
    PageBlock,
    PageSection,
    Sentences,
    Text,
)
from orchestrator.reports.ranking import legend, mark
from orchestrator.tables.model import Field, Table, TableCell, TableColumn, label, number
from orchestrator.tables.words import chance, duration, integer, share

SHOWN = 200
"""Trials in the table; its data have all."""


def ranking(evidence: Evidence, links: Mapping[str, str]) -> PageSection:
    """The second section: complete trials by rank and the reference rows.

    Args:
        evidence: the study.
        links: addresses of runs, by number of the trial or name of the reference row.
    """
    return PageSection(name="ranking", title="Ranking", blocks=tuple(_blocks(evidence, links)))


def _blocks(evidence: Evidence, links: Mapping[str, str]) -> list[PageBlock]:
    rows = _rows(evidence)
    if not rows:
        return [Text(("There is no complete trial and no reference row to rank.",))]
    blocks: list[PageBlock] = [_grid(evidence, [row for row in rows if row["shown"]], links)]
    left = len(evidence.ranked) - min(SHOWN, len(evidence.ranked))
    if left:
        count = Number(str(left), evidence.record, "trials")
        blocks.append(
            Text((count, f" more complete trials, after rank {SHOWN}, are in the data only."), "note")
        )
    blocks.append(Sentences(tuple((line,) for line in legend(evidence.results, len(evidence.ranked)))))
    blocks.append(Download(name="ranking", text="All trials as CSV", data=_data(evidence)))
    return blocks


def _rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Trials and reference rows as the table has them."""
    found = []
    for rank, row in enumerate(evidence.ranked, start=1):
        found.append(
            {
                **row,
                "shown": rank <= SHOWN,
                "rank": TableCell(
                    f"{rank}{mark(row, evidence.results).strip() if rank > 1 else ''}", value=rank
                ),
                "name": TableCell(str(row["number"]), value=row["number"]),
                "label": settings(evidence, row["config"]),
                "record": trial_record(evidence, row["number"]),
                "key": str(row["number"]),
                "block": 0,
            }
        )
    for row in evidence.results["baselines"]:
        found.append(
            {
                **row,
                "shown": True,
                "rank": None,
                "name": "",
                "label": baseline_name(row["name"]),
                "record": baseline_record(evidence, row["name"]),
                "key": row["name"],
                "block": 1,
            }
        )
    return found


def _grid(evidence: Evidence, rows: list[dict[str, Any]], links: Mapping[str, str]) -> Grid:
    fields: list[tuple[str, Field[Line]]] = [
        ("rank", (number("rank"), lambda row: row["rank"])),
        ("number", (number("trial"), lambda row: row["name"])),
        ("point", (label("configuration"), lambda row: row["label"])),
        ("parameters", (number("size (of CLIP)"), _size)),
    ]
    if not evidence.is_tested_only:
        fields.append(("val", (number("validation"), lambda row: _accuracy(row["val"]))))
    if any(_probability(row) is not None for row in rows):
        fields.append(("estimate.best", (number("best"), _best)))
        fields.append(("estimate.shrunk", (number("estimate"), _estimate)))
    if any(row["test"] for row in rows):
        fields.append(("test", (number("test"), lambda row: _accuracy(row["test"]))))
    fields += [
        ("device_seconds", (TableColumn("seconds", number=True), _seconds)),
    ]
    scored = [row["val"] or row["test"] for row in rows]
    n = max((score.get("n") or 0 for score in scored if score), default=0)
    about = "accuracy in %" + (f", mean ± standard deviation over {n} seeds" if n > 1 else "")
    first = rows[0]
    table = Table.of(
        [field for _, field in fields],
        [row for row in rows if not row["block"]],
        [row for row in rows if row["block"]],
        look=lambda row: "strong" if row is first and not row["block"] else None,
        title="Complete trials and reference rows",
        about=about,
    )
    names = [name for name, _ in fields]
    at = names.index("number")
    return Grid(
        name="ranking-table",
        table=table,
        records=tuple(row["record"] for row in rows),
        fields=tuple(names),
        spans=tuple(_span(row["val"] or row["test"]) for row in rows),
        span_heading="95 % interval",
        span_at=names.index("point") + 1,
        links=tuple({at: links[row["key"]]} if row["key"] in links else {} for row in rows) if links else (),
        sortable=True,
    )


def _accuracy(found: Line | None) -> TableCell:
    return TableCell.accuracy((found or {}).get("mean"), (found or {}).get("std"))


def _probability(row: Line) -> float | None:
    found: float | None = (row.get("estimate") or {}).get("best")
    return found


def _best(row: Line) -> TableCell | None:
    """The probability of being the best of the complete trials."""
    found = _probability(row)
    return None if found is None else TableCell(chance(found), value=round(found, 6))


def _estimate(row: Line) -> TableCell | None:
    """The mean once the luck of its seeds is accounted for."""
    found = (row.get("estimate") or {}).get("shrunk")
    return None if found is None else TableCell.accuracy(found)


def _size(row: Line) -> TableCell:
    count, part = row["parameters"], row["share"]
    text = integer(count) + (f" ({share(part)})" if part is not None else "")
    return TableCell(text, value=count)


def _seconds(row: Line) -> TableCell | None:
    seconds = row["device_seconds"]
    return None if seconds is None else TableCell(duration(seconds), value=round(seconds, 1))


def _span(score: Line | None) -> IntervalBar | None:
    if score is None:
        return None
    low, high = score.get("low"), score.get("high")
    return IntervalBar(
        low=None if low is None else 100 * low,
        middle=100 * score["mean"],
        high=None if high is None else 100 * high,
    )


def _data(evidence: Evidence) -> Data:
    """Every trial, whatever became of it, and the reference rows."""
    varied = [name for name in evidence.varied if name != "method"]
    columns = (
        *("record", "rank", "trial", "state"),
        *(f"config_{name}" for name in varied),
        *("parameters", "share"),
        *(f"validation_{part}" for part in ("mean", "std", "n", "low", "high")),
        *(f"test_{part}" for part in ("mean", "std", "n", "low", "high")),
        *("not_significantly_worse", "could_be_best", "probability_best"),
        *("estimate", "estimate_low", "estimate_high", "device_seconds"),
    )
    rows: list[tuple[Any, ...]] = []
    for row in [*evidence.results["trials"], *evidence.results["baselines"]]:
        is_trial = "name" not in row
        record = trial_record(evidence, row["number"]) if is_trial else baseline_record(evidence, row["name"])
        val, test = row["val"] or {}, row["test"] or {}
        worse = row["separable_from_best"]
        rows.append(
            (
                record,
                evidence.rank.get(row["number"]) if is_trial else None,
                row["number"] if is_trial else row["name"],
                row["state"],
                *(_plain(row["config"].get(name)) if is_trial else None for name in varied),
                row["parameters"],
                row["share"],
                *(val.get(part) for part in ("mean", "std", "n", "low", "high")),
                *(test.get(part) for part in ("mean", "std", "n", "low", "high")),
                None if worse is None else not worse,
                row.get("could_be_best"),
                *((row.get("estimate") or {}).get(part) for part in ("best", "shrunk", "low", "high")),
                row["device_seconds"],
            )
        )
    return Data.of(columns, rows)


def _plain(value: Any) -> Any:
    """A setting as one value of a CSV."""
    return value if value is None or isinstance(value, str | int | float) else str(value)
