"""The tables of RESULTS.md: methods at their rates, on new classes, on a task left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from stages import Stage

from orchestrator.compare.comparison import Column, ColumnResult, Comparison
from orchestrator.reports.comparison import notes
from orchestrator.reports.comparison.method_table import MethodResult, method_table
from orchestrator.reports.comparison.roles import full_label, measured

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
    for column in _columns(found):
        entry = _entry(comparison, column)
        if entry is None:
            continue
        own = {seed: one["tasks"] for seed, one in _told(counted(entry, scored))}
        plain |= {seed: halves(tasks, "plain") for seed, tasks in own.items()}
        rows = [halves(tasks, "tuned") for tasks in own.values()]
        missing |= _unscored(label(column), entry, scored)
        if not rows:
            continue
        harmonic = mean(row[2] for row in rows)
        cells = [*map(_spread, zip(*rows, strict=True)), str(len(rows)), str(len(entry.failed_starts))]
        lines.append((harmonic, [label(column), *cells, _end(comparison, entry)]))
    if plain:
        cells = [*map(_spread, zip(*plain.values(), strict=True)), str(len(plain)), "–", ""]
        lines.append((mean(row[2] for row in plain.values()), ["Zero-shot", *cells]))
    ordered = [cells for _, cells in sorted(lines, key=lambda line: -line[0])]
    yield as_table(
        ["Method", "base", "new", "harmonic mean", "all classes", "seeds", "failed starts", ""], ordered
    )
    yield from _missing(missing)
    yield (
        "base, new: each half among its own classes; all classes: all images among all classes, what was "
        "trained for the base ones beside the plain texts of the new ones (2SFS: those of its tuned tower). "
        "The harmonic mean is taken for each seed, of its means over tasks. The halves are the first and "
        "second of the glyphs in the dataset's order and differ for zero-shot already: base minus new does "
        "not say what was forgotten. "
        "Methods bound to their classes (ZS-LP, CLAP, TaskRes) equal zero-shot on new classes by "
        "construction. Nothing was chosen on new classes. unranked: the best rate lies at an end of all that "
        "were tried. Failed starts are in no mean."
    )


def left_out(clip: str, found: list[tuple[Stage, Comparison, Scores]]) -> Iterator[str]:
    """Columns by the task left out: the mean of the probabilities under the trained tasks' prompts."""
    yield f"## {clip}. Leave one task out: trained and tuned on the other three"
    rows = [row for column in _columns(found) for row in _unseen_rows(column, found)]
    plain = [
        {seed: one["tasks"][0]["plain"]["accuracy"] for own in scored.values() for seed, one in _told(own)}
        for _, _, scored in found
    ]
    rows.append(_UnseenRow("Zero-shot", plain, [""] * len(found)))
    rows.sort(key=lambda row: -row.mean)
    seeds = max(len(comparison.seeds) for _, comparison, _ in found)
    yield as_table(
        ["Method", *(stage.to or "" for stage, _, _ in found), "mean"], [r.cells(seeds) for r in rows]
    )
    yield from _missing(
        {text: why for stage, c, scored in found for text, why in _refusals(stage, c, scored)}
    )
    yield (
        "Rates are chosen on validation images of the three trained tasks; of the fourth nothing is used. An "
        "image is classified under the prompts of every trained task and the probabilities are averaged: for "
        "MmAP and 2SFS three predictors, where all others have one. *nearest*: the one task whose images are "
        "nearest by plain CLIP features, which sees the unlabelled images of the fourth. tag_mean puts three "
        "tasks in one group, so MmAP is one group here, and nothing is said of grouping. *group-shared only* "
        "has no part of its own for a task, and as many tokens as MmAP. mean ±: over seeds that every task "
        "has. ↓ ↑ the best rate lies at the lowest or highest of all that were tried: such a column is not "
        "ranked. Failed starts are in no mean. Full fine-tuning is missing: its weights are not kept."
    )


@dataclass(frozen=True)
class _UnseenRow:
    """A line of the table of tasks left out: by stage the accuracy of each seed, and the mark of its rate."""

    label: str
    values: Sequence[Mapping[str, float]]
    marks: Sequence[str]

    @property
    def mean(self) -> float:
        """Over seeds that every stage has; 0 where there are none."""
        shared = means(self.values)
        return mean(shared.values()) if shared else 0.0

    def cells(self, seeds: int) -> list[str]:
        own = (_of_seeds(v, seeds) + mark for v, mark in zip(self.values, self.marks, strict=True))
        shared = means(self.values)
        return [self.label, *own, _of_seeds(shared, seeds) + (" unranked" if any(self.marks) else "")]


def _unseen_rows(column: Column, found: list[tuple[Stage, Comparison, Scores]]) -> Iterator[_UnseenRow]:
    for way, suffix in (("tasks", ""), ("nearest", ", nearest")):
        values, marks = [], []
        for _, comparison, scored in found:
            entry = _entry(comparison, column)
            own = {} if entry is None else counted(entry, scored)
            values.append({s: one[way][0]["tuned"]["accuracy"] for s, one in own.items() if way in one})
            marks.append("" if entry is None else _arrow(comparison, entry))
        if any(values):
            yield _UnseenRow(label(column) + suffix, values, marks)


def _refusals(stage: Stage, comparison: Comparison, scored: Scores) -> Iterator[tuple[str, str]]:
    """What has no numbers, and why: columns, or single seeds of them."""
    for column in _columns([(stage, comparison, scored)]):
        entry = _entry(comparison, column)
        where = f"{label(column)}, {stage.to}"
        if entry is None:
            yield where, _without_numbers(comparison).get(label(column), "not measured")
            continue
        yield from _unscored(where, entry, scored).items()


def _columns(found: list[tuple[Stage, Comparison, Scores]]) -> list[Column]:
    """Of all stages, without zero-shot."""
    columns = {c.name: c for _, comparison, _ in found for c in comparison.columns}
    return [column for column in columns.values() if column.method != "zero_shot"]


def _told(scores: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Seeds with numbers."""
    return [(seed, one) for seed, one in scores.items() if "tasks" in one]


def means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By seed the mean over several mappings, of the seeds that all of them have."""
    shared = [seed for seed in values[0] if all(seed in own for own in values)]
    return {seed: mean(own[seed] for own in values) for seed in shared}


def _of_seeds(values: Mapping[str, float], seeds: int) -> str:
    if not values:
        return "–"
    return _spread(values.values()) + (f" ({len(values)} seeds)" if len(values) < seeds else "")


def _place(method: MethodResult) -> tuple[bool, float]:
    """Those that take a place first, by their means."""
    return method.unranked or method.average is None, -(method.average.mean if method.average else 0.0)


def _accuracy(method: MethodResult, found: Comparison, *, own: bool, best: bool) -> Iterator[str]:
    average = method.average
    yield label(method.column)
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
    yield label(method.column)
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


def label(column: Column) -> str:
    """Of a column; rows of the ablations with their method's name."""
    is_part = column.method == "mmap" and column.name != "mmap"
    return f"MmAP, {column.label}" if is_part else full_label(column)


def _entry(comparison: Comparison, column: Column) -> ColumnResult | None:
    return measured(comparison, column, comparison.splits[0], "tuned")


def _without_numbers(comparison: Comparison) -> dict[str, str]:
    """Why a column has no numbers, by its label."""
    labels = {column.name: label(column) for column in comparison.columns}
    failed = [e for e in comparison.entries if e.recipe == "tuned" and e.error and not e.tasks]
    return {labels[e.column]: (e.error or "").strip().splitlines()[0] for e in failed}


def counted(entry: ColumnResult, scored: Scores) -> dict[str, Any]:
    """The scores of a column's seeds whose start did not fail."""
    own = scored.get(entry.column, {})
    return {seed: one for seed, one in own.items() if seed in entry.cells and seed not in entry.failed_starts}


def _unscored(name: str, entry: ColumnResult, scored: Scores) -> dict[str, str]:
    """Why a column, or single seeds of it, have no scores."""
    own = counted(entry, scored)
    seeds = [seed for seed in entry.cells if seed not in entry.failed_starts]
    why = {
        seed: own.get(seed, {}).get("refused", "not scored yet")
        for seed in seeds
        if "tasks" not in own.get(seed, {})
    }
    if len(why) == len(seeds) and len({*why.values()}) == 1:
        return {name: next(iter(why.values()))}
    return {f"{name}, seed {seed}": reason for seed, reason in why.items()}


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
