"""RESULTS.md from what the stages found: what holds on every CLIP, what does not, and what cannot be told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from stages import Stage
from transfers import scores

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison.claims import GROUPS, NEWER, Claim, claims
from orchestrator.reports.comparison.method_table import MethodResult, method_table
from orchestrator.reports.comparison.roles import full_label
from orchestrator.statistics.summary import summarize

SPLIT = "6-shot"
TITLES = {
    "tuned": "Tuned, {seeds} seeds: single and multi",
    "grouped": "Tuned, {seeds} seeds: groups behind other methods",
    "published": "By the authors' recipes, {seeds} seeds",
}


def write(stages: Sequence[Stage], storage: Path, file: Path) -> None:
    """Write the page of what is there; stages that were not run are left out, and named."""
    parts = ["# Newer methods beside MmAP, on the embedded benchmark", _caution(stages, storage)]
    parts += [*_statements(stages, storage)]
    for stage in stages:
        if stage.kind in TITLES and (found := _found(stage, storage)) is not None:
            parts += [*_methods(stage, found, storage)]
    for kind, rows in (("base", _base_to_new), ("without", _left_out)):
        of_kind = [stage for stage in stages if stage.kind == kind]
        for clip in dict.fromkeys(stage.clip for stage in of_kind):
            own = [stage for stage in of_kind if stage.clip == clip]
            parts += [*rows(clip, [(stage, scores(stage, storage)) for stage in own])]
    file.write_text("\n\n".join(parts) + "\n")


def _caution(stages: Sequence[Stage], storage: Path) -> str:
    missing = [stage.report for stage in stages if _found(stage, storage) is None]
    text = (
        "`symbols` is drawn glyphs and small CLIPs trained on them: this tests the software and says nothing "
        "of photographs. A statement is made only where every CLIP agrees."
    )
    return text + (f" Not run: {', '.join(missing)}." if missing else "")


def _statements(stages: Sequence[Stage], storage: Path) -> Iterator[str]:
    """Claims by what the CLIPs say together."""
    clips = [*dict.fromkeys(stage.clip for stage in stages)]
    said: dict[tuple[str, str], dict[str, Claim]] = {}
    for stage in stages:
        found = _found(stage, storage)
        if stage.kind not in ("tuned", "grouped") or found is None:
            continue
        for claim in claims(found):
            if claim.topic in (NEWER, GROUPS) or stage.kind == "grouped":
                said.setdefault((claim.topic, claim.statement), {})[stage.clip] = claim
    groups: dict[str, list[str]] = {"Holds": [], "Reversed": [], "Cannot be told": []}
    for (_, statement), by_clip in said.items():
        verdicts = {claim.verdict for claim in by_clip.values()}
        agreed = len(by_clip) == len(clips) and len(verdicts) == 1
        word = {"holds": "Holds", "reversed": "Reversed"}.get(
            verdicts.pop() if agreed else "", "Cannot be told"
        )
        numbers = "; ".join(f"{clip} {_interval(claim)}" for clip, claim in by_clip.items())
        groups[word].append(f"- {statement}: {numbers}")
    yield "## What the CLIPs say together"
    yield (
        f"CLIPs: {', '.join(clips)}. Differences in points of test accuracy, mean over tasks, paired by "
        "seed, with 95 % t-intervals. A side whose best rate lies at an end of all that it could try has no "
        "number."
    )
    for word, lines in groups.items():
        yield f"**{word}** ({len(lines)})"
        if lines:
            yield "\n".join(lines)


def _interval(claim: Claim) -> str:
    difference = claim.difference
    if difference is None:
        return "no number"
    text = f"{100 * difference.mean:+.1f}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f}, n = {difference.n})"


def _methods(stage: Stage, found: Comparison, storage: Path) -> Iterator[str]:
    recipe: Any = "published" if stage.kind == "published" else "tuned"
    table = method_table(found, found.splits[0], recipe)
    memory = _memory(stage, storage)
    yield f"## {stage.clip}. {TITLES[stage.kind].format(seeds=len(found.seeds))}"
    heads = ["Method", "Training", *found.tasks, "Average", "", "Failed starts", "Worst task", "Δm own, %"]
    heads += [
        "ECE",
        "Parameters",
        "Rate",
        "Optimiser",
        "Tried",
        "Seconds",
        "of probe",
        "Search, s",
        "Memory, GB",
    ]
    lines = [_row(heads), "|---|---|" + "--:|" * (len(heads) - 2)]
    ranked = sorted(table.methods, key=lambda m: -(m.average.mean if m.average else -1.0))
    lines += [_row([*_cells(method, found, memory)]) for method in ranked]
    yield "\n".join(lines)
    yield (
        "≈ not significantly different from the best (Tukey, 95 %); ? seeds are missing, or vary too much to "
        "compare; *unranked*: the best rate lies at an end. Seconds: of all seeds, on one slot."
    )


def _cells(method: MethodResult, found: Comparison, memory: dict[str, float]) -> Iterator[str]:
    entry = method.entry
    yield full_label(method.column)
    yield method.column.regime or "–"
    for task in found.tasks:
        own = method.tasks.get(task)
        yield "–" if own is None else f"{100 * own.mean:.1f}"
    average = method.average
    yield "–" if average is None else f"{100 * average.mean:.1f} ± {100 * (average.std or 0):.1f}"
    yield "unranked" if method.unranked else method.mark
    yield f"{len(method.failed)} of {len(found.seeds)}" if method.column.regime else "–"
    yield "–" if method.worst is None else f"{100 * method.worst[1]:+.1f} ({method.worst[0]})"
    yield "–" if method.over_own_single is None else f"{method.over_own_single:+.1f}"
    yield "–" if method.calibration is None else f"{100 * method.calibration:.1f}"
    yield f"{method.column.parameters}"
    if entry is None or entry.lr is None:
        yield from ("–",) * 7
        return
    yield f"{entry.lr:.3g}{ {'low': ' ↓', 'high': ' ↑'}.get(entry.edge or '', '') }"
    yield entry.optimiser or "–"
    yield str(len(entry.trials) or "–")
    yield f"{method.device_seconds:.0f}"
    yield f"{method.probe_seconds:.0f}" if method.probe_seconds else "–"
    yield f"{entry.search_seconds:.0f}"
    yield f"{memory[method.column.name]:.2f}" if method.column.name in memory else "–"


def _base_to_new(clip: str, found: list[tuple[Stage, dict[str, Any]]]) -> Iterator[str]:
    """Each half among its own classes; the harmonic mean of each seed."""
    ((_, columns),) = found
    if not columns:
        return
    yield f"## {clip}. Base to new: trained and tuned on the first half of the classes"
    lines = [_row(["Column", "base", "new", "harmonic mean", "all classes", "seeds"]), "|---|" + "--:|" * 5]
    plain: dict[str, list[float]] = {}
    for column, by_seed in columns.items():
        rows = [_halves(own["tasks"], "tuned") for own in by_seed.values() if "tasks" in own]
        plain |= {seed: _halves(own["tasks"], "plain") for seed, own in by_seed.items() if "tasks" in own}
        if rows:
            lines.append(_row([column, *map(_spread, zip(*rows, strict=True)), str(len(rows))]))
        else:
            reason = next(iter(by_seed.values())).get("refused", "")
            lines.append(_row([column, "refused", reason.replace("|", "/"), "", "", ""]))
    if plain:
        lines.append(_row(["zero_shot", *map(_spread, zip(*plain.values(), strict=True)), str(len(plain))]))
    yield "\n".join(lines)
    yield (
        "Methods bound to their classes (`zs_lp`, `clap`, `task_res`) equal zero-shot on new classes by "
        "construction. Nothing was chosen on new classes."
    )


def _halves(tasks: list[dict[str, Any]], side: str) -> list[float]:
    base, new, every = (mean(task[side][name] for task in tasks) for name in ("base", "new", "all"))
    return [base, new, 2 * base * new / (base + new) if base + new else 0.0, every]


def _left_out(clip: str, found: list[tuple[Stage, dict[str, Any]]]) -> Iterator[str]:
    """Columns by the task left out: the mean of the probabilities under the trained tasks' prompts."""
    columns = [*dict.fromkeys(column for _, own in found for column in own)]
    if not columns:
        return
    yield f"## {clip}. Leave one task out: trained and tuned on the other three"
    lines = [
        _row(["Column", *(stage.to or "" for stage, _ in found), "mean"]),
        "|---|" + "--:|" * (len(found) + 1),
    ]
    plain: list[list[float]] = []
    for column in columns:
        cells, means = [], []
        for place, (_, own) in enumerate(found):
            rows = [one["tasks"][0] for one in own.get(column, {}).values() if "tasks" in one]
            values = [row["tuned"]["accuracy"] for row in rows]
            while len(plain) <= place:
                plain.append([])
            plain[place] += [row["plain"]["accuracy"] for row in rows]
            cells.append(_spread(values) if values else "–")
            means += [mean(values)] if values else []
        whole = f"{100 * mean(means):.1f}" if len(means) == len(found) else "–"
        lines.append(_row([column, *cells, whole]))
    zero = [mean(own) if own else None for own in plain]
    shown = ["–" if value is None else f"{100 * value:.1f}" for value in zero]
    known = [value for value in zero if value is not None]
    lines.append(_row(["zero_shot", *shown, f"{100 * mean(known):.1f}" if len(known) == len(found) else "–"]))
    yield "\n".join(lines)
    yield "With four tasks three are left to group: what is said here is of methods, and not of grouping."


def _memory(stage: Stage, storage: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for file in sorted((storage / "profiles").glob(f"{stage.clip}-*.json")):
        profiles = json.loads(file.read_text())
        found |= {name: own["peak_gb"] for name, own in profiles.items() if "peak_gb" in own}
    return found


def _found(stage: Stage, storage: Path) -> Comparison | None:
    file = storage / "reports" / stage.report / "comparison.json"
    return Comparison.from_json(file.read_text()) if file.is_file() else None


def _spread(values: Iterable[float]) -> str:
    found = [*values]
    spread = f" ± {100 * stdev(found):.1f}" if len(found) > 1 else ""
    return f"{100 * summarize(found).mean:.1f}{spread}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
