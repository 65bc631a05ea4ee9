"""The tables of RESULTS.md: methods at their rates, on new classes, on a task left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from stages import Stage

from orchestrator.compare.comparison import Column, ColumnResult, Comparison
from orchestrator.reports.comparison import notes
from orchestrator.reports.comparison.method_table import MethodResult, method_table
from orchestrator.reports.comparison.roles import full_label

Scores = dict[str, dict[str, Any]]
"""What ``transfers.score`` found, by column and seed."""

TITLES = {
    "tuned": "Tuned, {seeds} seeds: single and multi",
    "grouped": "Tuned, {seeds} seeds: groups behind other methods",
    "published": "By the authors' recipes, {seeds} seeds",
}

SAID = {
    "tuned": "CLAP's penalty is as published, for CLIP's logit scale of 100; those of these CLIPs are near "
    "41. Tip-Adapter-F keeps its authors' α and β to start from; on `symbols_long` chosen ones may be better "
    "(benchmarks/cache_blend).",
    "grouped": "Rates are chosen on validation images of the first three seeds, which are among those shown.",
    "published": "In `multi` the losses of the tasks are added up, as MmAP does: with SGD a rate that its "
    "authors gave for one task then takes a step up to four times theirs. Authors who keep a last batch that "
    "is not full make it a step; here it is filled. Images are augmented by the dataset's own crops, milder "
    "than the authors'. The authors' numbers suit a logit scale of 100 and those of these CLIPs are near 41: "
    "that weighs on CLAP's penalty, the cache of Tip-Adapter-F, and the rates of ZS-LP and CLAP. "
    "Tip-Adapter chooses α and β among the labelled images; Tip-Adapter-F keeps the start (1.17 and 1), "
    "because its authors search both on validation images after training: the two say nothing of each "
    "other. MaPLe has its published form, 2 tokens that start as words; it and PromptSRC prompt 3 of 4 "
    "layers for 9 of 12. PromptSRC has one text to stay near to, where its authors have 60, and IVLP "
    "trains 5 epochs, PromptSRC 50. TaskRes trains 200 epochs (its authors: 100 up to 4 shots, 200 from "
    "8). MmAP, and full fine-tuning, whose authors give no rate, train as in the other tables.",
}

LEGEND = (
    "spread",
    "tied",
    "left out",
    "unranked",
    "failed",
    "worst",
    "own",
    "calibration",
    "edge",
    "device",
    "search",
)


def methods(stage: Stage, found: Comparison, storage: Path) -> Iterator[str]:
    """Accuracy of every column and what it cost, with what has to be known beside it."""
    recipe: Any = "published" if stage.kind == "published" else "tuned"
    # The framework's own row of one group stands beside the other methods' here.
    every = tuple(replace(column, section="table") for column in found.columns)
    table = method_table(replace(found, columns=every), found.splits[0], recipe)
    ranked = sorted(table.methods, key=_place)
    best = next((m for m in ranked if m.average is not None and not m.unranked), None)
    memory = _memory(stage, storage)
    yield f"## {stage.clip}. {TITLES[stage.kind].format(seeds=len(found.seeds))}"
    own = any(m.over_own_single is not None for m in ranked)
    heads = ["Method", "Training", *found.tasks, "Average", "", "Failed starts", "Worst task"]
    heads += ["Δm own, %"] * own + ["ECE"]
    yield as_table(heads, [[*_accuracy(m, found, own=own, best=m is best)] for m in ranked])
    heads = ["Method", "Training", "Parameters", "Rate", "Optimiser", "Tried", "Seconds", "of probes"]
    yield as_table([*heads, "Search, s", "Memory, GB"], [[*_cost(m, memory)] for m in ranked])
    sentences = [*notes.remarks(table), SAID[stage.kind]]
    sentences.append("best: the highest mean of those compared; no mark: significantly worse.")
    if memory:
        sentences.append(
            "Memory: the most that a process held which trained one cell alone, with its libraries."
        )
    yield "\n".join(f"- {text}" for text in (*sentences, *notes.legend(table, LEGEND)))


def base_to_new(clip: str, found: list[tuple[Stage, Comparison, Scores]]) -> Iterator[str]:
    """Each half among its own classes; the harmonic mean of each seed."""
    ((_, comparison, scored),) = found
    yield f"## {clip}. Base to new: trained and tuned on the first half of the classes"
    lines, plain, missing = [], dict[str, list[float]](), _without_numbers(comparison)
    for column, entry in _entries(comparison):
        own = {seed: one["tasks"] for seed, one in counted(entry, scored).items() if "tasks" in one}
        plain |= {seed: halves(tasks, "plain") for seed, tasks in own.items()}
        rows = [halves(tasks, "tuned") for tasks in own.values()]
        if not rows:
            missing[_label(column)] = _refusal(entry, scored)
            continue
        harmonic = mean(row[2] for row in rows)
        cells = [*map(_spread, zip(*rows, strict=True)), str(len(rows)), str(len(entry.failed_starts))]
        lines.append((harmonic, [_label(column), *cells, _end(comparison, entry)]))
    if plain:
        cells = [*map(_spread, zip(*plain.values(), strict=True)), str(len(plain)), "–", ""]
        lines.append((mean(row[2] for row in plain.values()), ["Zero-shot", *cells]))
    ordered = [cells for _, cells in sorted(lines, key=lambda line: -line[0])]
    yield as_table(
        ["Method", "base", "new", "harmonic mean", "all classes", "seeds", "failed starts", ""], ordered
    )
    yield from _missing(missing)
    yield (
        "Methods bound to their classes (ZS-LP, CLAP, TaskRes) equal zero-shot on new classes by "
        "construction. Nothing was chosen on new classes. unranked: the best rate lies at an end of all that "
        "were tried. Failed starts are in no mean."
    )


def left_out(clip: str, found: list[tuple[Stage, Comparison, Scores]]) -> Iterator[str]:
    """Columns by the task left out: the mean of the probabilities under the trained tasks' prompts."""
    yield f"## {clip}. Leave one task out: trained and tuned on the other three"
    columns = {c.name: c for _, comparison, _ in found for c in comparison.columns if c.regime is not None}
    plain: list[list[float]] = [[] for _ in found]
    lines, missing = [], dict[str, str]()
    for name, column in columns.items():
        cells, means = [], []
        for place, (stage, comparison, scored) in enumerate(found):
            entry = next((e for c, e in _entries(comparison) if c.name == name), None)
            own = {} if entry is None else counted(entry, scored)
            rows = [one["tasks"][0] for one in own.values() if "tasks" in one]
            plain[place] += [row["plain"]["accuracy"] for row in rows]
            values = [row["tuned"]["accuracy"] for row in rows]
            if entry is None or not values:
                reason = _without_numbers(comparison).get(_label(column)) if entry is None else None
                missing[f"{_label(column)}, {stage.to}"] = reason or _refusal(entry, scored)
                cells.append("–")
                continue
            fewer = f" ({len(values)} seeds)" if len(values) < len(comparison.seeds) else ""
            cells.append(f"{_spread(values)}{fewer}{_arrow(comparison, entry)}")
            means.append(mean(values))
        whole = mean(means) if len(means) == len(found) else None
        lines.append((whole, [_label(column), *cells, "–" if whole is None else f"{100 * whole:.1f}"]))
    zero = [mean(own) if own else None for own in plain]
    known = [value for value in zero if value is not None]
    whole = mean(known) if len(known) == len(found) else None
    shown = ["–" if value is None else f"{100 * value:.1f}" for value in (*zero, whole)]
    lines.append((whole, ["Zero-shot", *shown]))
    ordered = [cells for _, cells in sorted(lines, key=lambda line: -(line[0] or 0.0))]
    yield as_table(["Method", *(stage.to or "" for stage, _, _ in found), "mean"], ordered)
    yield from _missing(missing)
    yield (
        "↓ ↑ the best rate lies at the lowest or highest of all that were tried. Failed starts are in no "
        "mean. With four tasks three are left to group: what is said here is of methods, and not of grouping."
    )


def _place(method: MethodResult) -> tuple[bool, float]:
    """Those that take a place first, by their means."""
    return method.unranked or method.average is None, -(method.average.mean if method.average else 0.0)


def _accuracy(method: MethodResult, found: Comparison, *, own: bool, best: bool) -> Iterator[str]:
    average = method.average
    yield _label(method.column)
    yield method.column.regime or "–"
    for task in found.tasks:
        each = method.tasks.get(task)
        yield "–" if each is None else f"{100 * each.mean:.1f}"
    spread = f" ± {100 * average.std:.1f}" if average is not None and average.std is not None else ""
    yield "–" if average is None else f"{100 * average.mean:.1f}{spread}"
    yield _mark(method, best=best)
    yield f"{len(method.failed)} of {len(found.seeds)}" if method.column.regime else "–"
    yield "–" if method.worst is None else f"{100 * method.worst[1]:+.1f} ({method.worst[0]})"
    if own:
        yield "–" if method.over_own_single is None else f"{method.over_own_single:+.1f}"
    yield "–" if method.calibration is None else f"{100 * method.calibration:.1f}"


def _mark(method: MethodResult, *, best: bool) -> str:
    if method.average is None:
        return ""
    if best or method.unranked:
        return "best" if best else "unranked"
    return "?" if method.worse is None else method.mark


def _cost(method: MethodResult, memory: dict[str, float]) -> Iterator[str]:
    entry = method.entry
    yield _label(method.column)
    yield method.column.regime or "–"
    yield f"{method.column.parameters:,}"
    trained = entry is not None and entry.lr is not None
    edge = {"low": " ↓", "high": " ↑"}.get((entry.edge if entry else None) or "", "")
    yield f"{entry.lr:.3g}{edge}" if entry is not None and entry.lr is not None else "–"
    yield (entry.optimiser if entry is not None and trained else None) or "–"
    yield str(len(entry.trials) or "–") if entry is not None else "–"
    yield f"{method.device_seconds:.0f}" if entry is not None else "–"
    yield f"{method.probe_seconds:.0f}" if method.probe_seconds else "–"
    yield f"{entry.search_seconds:.0f}" if entry is not None and entry.search_seconds else "–"
    yield f"{memory[method.column.name]:.2f}" if method.column.name in memory else "–"


def _label(column: Column) -> str:
    return f"MmAP, {column.label}" if column.name == "one_group" else full_label(column)


def _entries(comparison: Comparison) -> Iterator[tuple[Column, ColumnResult]]:
    """Trained columns with numbers."""
    for column in comparison.columns:
        entry = comparison.entry(column.name, comparison.splits[0], "tuned")
        if entry is not None and column.regime is not None:
            yield column, entry


def _without_numbers(comparison: Comparison) -> dict[str, str]:
    """Why a column has no numbers, by its label."""
    labels = {column.name: _label(column) for column in comparison.columns}
    failed = [e for e in comparison.entries if e.recipe == "tuned" and e.error and not e.tasks]
    return {labels[e.column]: (e.error or "").strip().splitlines()[0] for e in failed}


def counted(entry: ColumnResult, scored: Scores) -> dict[str, Any]:
    """The scores of a column's seeds whose start did not fail."""
    own = scored.get(entry.column, {})
    return {seed: one for seed, one in own.items() if seed in entry.cells and seed not in entry.failed_starts}


def _refusal(entry: ColumnResult | None, scored: Scores) -> str:
    own = {} if entry is None else counted(entry, scored)
    return next((one["refused"] for one in own.values() if "refused" in one), "not scored yet")


def _missing(reasons: dict[str, str]) -> Iterator[str]:
    if reasons:
        yield "\n".join(
            f"- No numbers for {label}: {reason.rstrip('.')}." for label, reason in reasons.items()
        )


def _end(comparison: Comparison, entry: ColumnResult) -> str:
    return "" if comparison.is_ranked(entry) else "unranked"


def _arrow(comparison: Comparison, entry: ColumnResult) -> str:
    return "" if comparison.is_ranked(entry) else {"low": " ↓", "high": " ↑"}.get(entry.edge or "", "")


def halves(tasks: list[dict[str, Any]], side: str) -> list[float]:
    base, new, every = (mean(task[side][name] for task in tasks) for name in ("base", "new", "all"))
    return [base, new, 2 * base * new / (base + new) if base + new else 0.0, every]


def _memory(stage: Stage, storage: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for file in sorted((storage / "profiles").glob(f"{stage.clip}-*.json")):
        profiles = json.loads(file.read_text())
        found |= {name: own["peak_gb"] for name, own in profiles.items() if "peak_gb" in own}
    return found


def _spread(values: Iterable[float]) -> str:
    found = [*values]
    spread = f" ± {100 * stdev(found):.1f}" if len(found) > 1 else ""
    return f"{100 * mean(found):.1f}{spread}"


def as_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Text to the left, numbers to the right."""
    alike = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in alike)
