"""RESULTS.md from what the stages found: what holds on every CLIP, what does not, and what cannot be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kept import times
from stages import Stage
from statements import statements
from tables import Scores, as_table, base_to_new, left_out, methods
from transfers import scores

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison.documents import settings_in_words

METHODS = ("tuned", "grouped", "published")
"""Stages whose comparison is a table of methods."""

TRANSFERS = {"base": base_to_new, "without": left_out}
"""Stages whose cells are scored on what they were not trained on, and their table."""


def write(stages: Sequence[Stage], storage: Path, file: Path) -> None:
    """Write the page of what is there; stages that were not run are left out, and named.

    Args:
        stages: all that there are, run or not.
    """
    found = {stage: one for stage in stages if (one := read(stage, storage)) is not None}
    parts = ["# Newer methods beside MmAP, on the embedded benchmark", _caution(stages, found)]
    scored = {stage: scores(stage, storage) for stage in found if stage.kind in TRANSFERS}
    parts += statements(found, scored, [*dict.fromkeys(stage.clip for stage in stages)])
    for kind, clip in dict.fromkeys((stage.kind, stage.clip) for stage in found if stage.kind in METHODS):
        own = {stage: one for stage, one in found.items() if (stage.kind, stage.clip) == (kind, clip)}
        parts += methods(next(iter(own)), _joined([*own.values()]), storage)
    parts += _transfers(found, scored)
    parts += _made_with(found, storage)
    file.write_text("\n\n".join(parts) + "\n")


def read(stage: Stage, storage: Path) -> Comparison | None:
    """What a stage found, or None."""
    file = storage / "reports" / stage.report / "comparison.json"
    return Comparison.from_json(file.read_text()) if file.is_file() else None


def _joined(parts: Sequence[Comparison]) -> Comparison:
    """One comparison of all columns, of parts with the same tasks, split and seeds."""
    columns = {column.name: column for part in parts for column in part.columns}
    entries = {(e.column, e.split, e.recipe): e for part in parts for e in part.entries}
    return replace(parts[0], columns=tuple(columns.values()), entries=tuple(entries.values()))


def _caution(stages: Sequence[Stage], found: dict[Stage, Comparison]) -> str:
    text = (
        "`symbols` is drawn glyphs and small CLIPs trained on them: this tests the software and says nothing "
        "of photographs. A statement is made only where every CLIP agrees."
    )
    missing = [stage.report for stage in stages if stage not in found]
    return text + (f" Not run: {', '.join(missing)}." if missing else "")


def _transfers(found: dict[Stage, Comparison], scored: dict[Stage, Scores]) -> Iterator[str]:
    for kind, table in TRANSFERS.items():
        of_kind = [stage for stage in found if stage.kind == kind]
        for clip in dict.fromkeys(stage.clip for stage in of_kind):
            own = [stage for stage in of_kind if stage.clip == clip]
            yield from table(clip, [(stage, found[stage], scored[stage]) for stage in own])


def _made_with(found: dict[Stage, Comparison], storage: Path) -> Iterator[str]:
    """Time, machine and versions of each stage."""
    rows = [*times(storage)]
    if rows:
        yield "## Times and versions"
        yield as_table(["Stage", "Starts", "Minutes", "Machine"], rows)
        yield (
            "Commands: `stages.jsonl`. `grouped` and `published` do not train again what `tuned` of "
            "the same CLIP has trained."
        )
    by_versions: dict[str, list[str]] = {}
    for stage, one in found.items():
        if one.provenance:
            by_versions.setdefault(settings_in_words(one.provenance), []).append(stage.report)
    if by_versions:
        yield "\n".join(f"- {', '.join(names)}: {text}" for text, names in by_versions.items())
