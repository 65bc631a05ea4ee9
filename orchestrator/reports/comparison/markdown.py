"""Grids as Markdown, and the pages made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison import grids, notes, numbers
from orchestrator.reports.comparison.claims import Claim
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.evidence_grids import claim_grid, glance
from orchestrator.reports.comparison.grid import Grid, Value
from orchestrator.statistics.summary import CONFIDENCE


def grid(table: Grid) -> str:
    """A pipe table; the best is bold, the second best underlined."""
    lines = [
        "| " + " | ".join(map(_escape, table.header)) + " |",
        "|" + "|".join({"l": "---", "r": "--:"}[a] for a in table.align) + "|",
        *("| " + " | ".join(map(_cell, row)) + " |" for row in table.rows),
    ]
    return "\n".join(lines)


def section(table: Grid, level: int = 3) -> str:
    """Heading, table, notes."""
    parts = [f"{'#' * level} {table.title}", grid(table)]
    if table.notes:
        parts.append(_bullets(table.notes))
    return "\n\n".join(parts)


def report(contents: Contents, figures: Sequence[str] = ()) -> str:
    """The whole report as one page; ``figures`` are names of image files beside it."""
    comparison = contents.comparison
    parts = [f"# Comparison on {comparison.dataset}"]
    if comparison.dataset == "symbols":
        parts.append(f"> {notes.SYMBOLS}")
    parts.append("\n".join(_facts(comparison)))
    counts = ", ".join(f"{n} {verdict}" for verdict, n in contents.verdicts().items())
    if counts:
        parts.append(f"The paper's claims, one by one, are in [claims.md](claims.md): {counts}.")
    parts.append("Marks and columns are explained [at the end](#marks-and-columns).")
    legends: dict[str, None] = {}
    for title, tables in contents.grids():
        parts.append(f"## {title}")
        parts += [section(table) for table in tables]
        legends |= dict.fromkeys(line for table in tables for line in table.legend)
    if figures:
        parts.append("## Figures")
        parts += [f"![{name.removesuffix('.png').replace('_', ' ')}](figures/{name})" for name in figures]
    if legends:
        parts.append(f"## Marks and columns\n\n{_bullets(legends)}")
    return "\n\n".join(parts) + "\n"


def claims_page(contents: Contents) -> str:
    """Which of the paper's claims hold, each with its numbers."""
    comparison = contents.comparison
    parts = [f"# The paper's claims on {comparison.dataset}"]
    if comparison.dataset == "symbols":
        parts.append(f"> {notes.SYMBOLS}")
    if not contents.claims:
        return "\n\n".join([*parts, "None of them concerns the methods that were compared."]) + "\n"
    parts.append(
        "Each line is the difference in test accuracy, in points, between two methods: the 95 % t-interval "
        "of the paired difference of their averages over tasks, the unit being the seed. A claim *holds* if "
        "the interval lies above zero, is *reversed* if it lies below, and *undecided* if it crosses. On par "
        "with full fine-tuning is tested against a margin of one point: it holds if the interval lies above "
        "−1. "
        "Undecided does not mean equal: with three seeds only large, steady differences can be decided. The "
        "claims were fixed before anything was measured, so each is a comparison of two named methods and "
        "needs no correction for selection; nor are the intervals corrected for their number: of "
        f"{len(contents.claims)} true zeros about {_expected(len(contents.claims))} would seem decided."
    )
    parts.append(
        "Differences come from tuned results, where each method has the rate that validation chose for it; "
        "lines that had to use the shared rate say so. *Rates* are those of the two sides, ↓ ↑ at an end of "
        "the range tried. *In the paper* is the range of its own differences on its two benchmarks."
    )
    parts.append(
        "Seeds draw training and validation images from one finite pool"
        + (
            " and are tested on all that they do not train on, so their test images differ and overlap: "
            if comparison.protocol == "paper"
            else " and are tested on the same images: "
        )
        + "intervals over seeds cover other draws from that pool and other initialisations, not other images."
    )
    if len(comparison.splits) > 1:
        parts.append(section(glance(contents.claims, comparison), level=2))
    for topic in dict.fromkeys(claim.topic for claim in contents.claims):
        found = [claim for claim in contents.claims if claim.topic == topic]
        parts.append(f"## {topic}\n\n{_verdicts(found)}")
        parts.append(grid(claim_grid(found, comparison)))
    for found_pairings in contents.pairings:
        table = grids.partitions(found_pairings, comparison)
        parts += [section(table, level=2), _bullets(table.legend)]
    return "\n\n".join(parts) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _expected(claims: int) -> str:
    """How many of that many true zeros a 95 % interval leaves out, on average."""
    return f"{(1 - CONFIDENCE) * claims:.1f}".removesuffix(".0")


def _verdicts(found: Sequence[Claim]) -> str:
    counts: dict[str, int] = {}
    for claim in found:
        counts[claim.words] = counts.get(claim.words, 0) + 1
    return ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + "."


def _facts(comparison: Comparison) -> Iterable[str]:
    labels = [
        f"{split}: {training} training + {validation} validation"
        for split, (training, validation) in comparison.label_budget.items()
    ]
    yield f"- Dataset: {comparison.dataset}, tasks {numbers.enumeration(comparison.tasks)}"
    size = numbers.exact_count(comparison.backbone_parameters)
    yield f"- Backbone: {comparison.backbone}, {size} parameters, {comparison.precision}"
    yield f"- Seeds: {numbers.enumeration(comparison.seeds)}; protocol {comparison.protocol}"
    if labels:
        yield f"- Labelled images per class and task: {'; '.join(labels)}"
    if comparison.recipe:
        yield "- Shared recipe: " + _settings(comparison.recipe)
    if comparison.rates:
        yield "- Rates of the tuned recipe: " + ", ".join(numbers.rate(r) for r in comparison.rates)
    yield f"- Test-set evaluations: {len(comparison.looks)}"
    if comparison.provenance:
        yield "- Made with: " + _settings(comparison.provenance)
    for command in comparison.commands:
        yield f"- Command: `{command}`"


def _settings(values: Mapping[str, Any]) -> str:
    """``commit 0123abc, torch 2.13``: nested values in their parent's place, unknown ones left out."""
    parts = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            parts.append(_settings(value))
        elif value is not None:
            parts.append(f"{name} {numbers.rate(value) if isinstance(value, float) else value}")
    return ", ".join(filter(None, parts))


def _cell(value: Value) -> str:
    text = _escape(value.text)
    if value.place == 2:
        return f"<ins>{text}</ins>"
    return f"**{text}**" if value.place == 1 and text else text


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
