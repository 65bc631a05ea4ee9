"""The sentences around a method table: what it shows, what to bear in mind, what its marks mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from orchestrator.reports.comparison.method_table import MethodResult, MethodTable
from orchestrator.reports.comparison.roles import full_label
from orchestrator.statistics.significance import COCHRAN_LEVEL
from orchestrator.tables import words

LEGEND = {
    "spread": "± of Average: standard deviation of the seeds' averages over tasks; the paper prints the mean "
    "of the tasks' standard deviations.",
    "tied": "≈ not significantly different from the best, by Tukey's test at 95 % over the methods that have "
    "every seed, which accounts for selecting the best of them.",
    "left out": "? not compared with the best: seeds are missing, or the variance over the seeds is an "
    f"outlier (Cochran's test at {100 * COCHRAN_LEVEL:g} %).",
    "unranked": "unranked: its best rate lies at an end of all that it could try, so a better one may lie "
    "beyond; it takes no place and is compared with none.",
    "failed": "Failed starts: seeds whose training ended below half of zero-shot's validation accuracy; they "
    "are counted, and in no mean.",
    "calibration": "ECE: expected calibration error on test images in points, the mean over tasks and seeds.",
    "search": "Search: device time of the other rates that were tried.",
    "edge": "↓ ↑ the chosen rate is the lowest or highest tried: a better one may lie beyond it.",
    "device": "Device time: training and evaluation of all seeds at this rate, not at the others tried; "
    "where groups follow gradients, with the probes that measure them.",
    "own": "Δm own: mean over the tasks of the relative gain over the same method trained for each task "
    "alone.",
    "full": "Δm full FT: mean over the tasks of the relative gain over single-task full fine-tuning, for "
    "every method.",
    "worst": "Worst task: the gain in points over zero-shot of the task that gains least.",
    "pool": "Seeds draw from one finite pool of images: spreads and intervals over seeds do not cover other "
    "images.",
}
"""What marks and rows of a method table mean."""


def embedded(dataset: str) -> str:
    """What to bear in mind of a dataset that ships with this package."""
    return (
        f"`{dataset}` is an embedded benchmark that tests this software: drawn glyphs and a small CLIP "
        "trained on them. Its numbers are no evidence for or against the paper's results on its own "
        "benchmarks."
    )


def title(table: MethodTable) -> str:
    """``symbols, 6-shot: each method at its own rate, chosen on validation``."""
    what = {
        "shared": "shared recipe, as in the paper",
        "published": "each method by its authors' recipe, fixed beforehand",
        "tuned": "each method at its own learning rate, chosen on validation",
    }[table.recipe]
    return f"{table.comparison.dataset}, {table.split}: {what}"


def budget(table: MethodTable) -> str:
    """What is shown and how much was labelled for it."""
    n = max((m.average.n for m in table.methods if m.average), default=0)
    spread = f", mean ± standard deviation over {n} seeds" if n > 1 else ", one seed"
    text = f"Test accuracy in %{spread if n else ''}"
    if table.label_budget is not None:
        training, validation = table.label_budget
        text += f"; labelled images per class and task: {training} training + {validation} validation"
    if table.comparison.protocol == "clap":
        text += "; protocol clap: nothing was chosen, all settings were fixed beforehand"
    if table.comparison.protocol == "paper":
        text += "; protocol paper: all other images are test images"
    return text


def remarks(table: MethodTable) -> list[str]:
    """What this table in particular asks to bear in mind: rates, spreads, and what is missing and why."""
    return [*_cautions(table), *_spread(table), *_missing(table)]


def legend(table: MethodTable, topics: Iterable[str] = tuple(LEGEND)) -> list[str]:
    """The meaning of the marks and rows that occur in a table; ``topics`` restricts them."""
    return [LEGEND[topic] for topic in topics if any(map(OCCURS[topic], table.methods))]


def _has_spread(method: MethodResult) -> bool:
    return method.average is not None and method.average.std is not None


OCCURS: dict[str, Callable[[MethodResult], object]] = {
    "spread": _has_spread,
    "tied": lambda m: m.mark == "≈",
    "left out": lambda m: m.mark == "?",
    "unranked": lambda m: m.unranked,
    "failed": lambda m: m.failed,
    "calibration": lambda m: m.calibration is not None,
    "search": lambda m: m.entry and m.entry.search_seconds,
    "edge": lambda m: m.entry and m.entry.edge,
    "device": lambda m: m.device_seconds,
    "own": lambda m: m.over_own_single is not None,
    "full": lambda m: m.over_full_single is not None,
    "worst": lambda m: m.worst is not None,
    "pool": _has_spread,
}
"""Whether a method has what a topic of the legend explains."""


def _cautions(table: MethodTable) -> Iterator[str]:
    if table.recipe == "shared":
        tuned = "Claims rest on tuned results." if table.comparison.tunes else "No rate was tuned."
        yield f"Descriptive: a rate that suits one method starves another. {tuned}"
        yield from _other_rates(table)
        if table.reductions:
            yield f"Task losses: {words.enumeration(sorted(table.reductions))}."
    if table.recipe == "published":
        yield (
            "Recipes differ in how many images they see: methods as they are used, not equal amounts of "
            "training. Where authors gave no recipe, the study's stands."
        )
    around = table.comparison.around
    if table.recipe == "tuned" and around is not None:
        yield (
            f"Equal budgets: for every column {around.first} rates around its authors' own, with their "
            f"optimiser and schedule, by factors of {around.factor:.3g}; while the best lies at an end one "
            f"more beyond it, up to {around.most}. Epochs, batches and views are the same for all."
        )
    yield from _significance(table)


NOT_COMPARED = {
    "one seed": "One seed: no difference can be tested.",
    "no residual": "The methods differ equally at every seed: no difference can be tested.",
    "best apart": "No method can be called worse than the best, whose variance over the seeds is an outlier.",
    "best incomplete": "No method can be called worse than the best, which lacks seeds.",
}
"""Why a table has no marks."""


def _significance(table: MethodTable) -> Iterator[str]:
    """What differences from the best are judged by, or why they are not."""
    found = table.significance
    if found.reason in NOT_COMPARED:
        yield NOT_COMPARED[found.reason]
    if (by := found.criterion) is not None:
        yield (
            f"Methods more than {100 * by.threshold:.1f} points below the best are significantly worse "
            f"({found.rows} methods; residual s {100 * by.s:.1f} points, {by.nu} degrees of freedom)."
        )


def _other_rates(table: MethodTable) -> Iterator[str]:
    """Columns that do not train at the rate of most."""
    rates = {full_label(m.column): m.entry.lr for m in table.methods if m.entry and m.entry.lr}
    if len(set(rates.values())) < 2:
        return
    common, _ = Counter(rates.values()).most_common(1)[0]
    for rate in dict.fromkeys(rates.values()):
        labels = [label for label, lr in rates.items() if lr == rate]
        if rate != common:
            yield f"At a rate of their own, {words.rate(rate)}: {words.enumeration(labels)}."


def _spread(table: MethodTable) -> Iterator[str]:
    """Where the paper's ± would differ most from ours."""
    found = [
        (abs(m.mean_of_stds - m.average.std), full_label(m.column), m.average.std, m.mean_of_stds)
        for m in table.methods
        if m.mean_of_stds is not None and m.average is not None and m.average.std is not None
    ]
    if found:
        _, label, ours, theirs = max(found)
        ours, theirs = 100 * ours, 100 * theirs
        yield f"By the paper's rule ± of Average differs most for {label}: {theirs:.1f}, not {ours:.1f}."


def _missing(table: MethodTable) -> Iterator[str]:
    """Columns without numbers, seeds that are missing, rates that failed; one sentence per reason."""
    reasons: dict[str, list[str]] = {}
    rates: dict[tuple[str, str], list[str]] = {}
    for method in table.methods:
        label = full_label(method.column)
        if method.entry is None:
            reasons.setdefault(method.error or "not measured", []).append(label)
            continue
        n = method.average.n if method.average else 0
        if method.failed:
            yield _failed(label, method)
        if n + len(method.failed) < len(table.comparison.seeds):
            yield f"{label}: {n} of {len(table.comparison.seeds)} seeds."
        for trial in method.entry.trials:
            if trial.error:
                first = trial.error.strip().splitlines()[0]
                rates.setdefault((label, first), []).append(words.rate(trial.lr))
    for reason, labels in reasons.items():
        yield f"No numbers for {words.enumeration(labels)}: {reason.rstrip('.')}."
    for (label, reason), tried in rates.items():
        yield f"{label} at {words.enumeration(tried)}: {reason.rstrip('.')}."


def _failed(label: str, method: MethodResult) -> str:
    """Which starts failed, and where they ended on test images."""
    assert method.entry is not None, "it has numbers"
    ends = {seed: sum(tasks.values()) / len(tasks) for seed, tasks in method.entry.failed_starts.items()}
    listed = words.enumeration([f"{seed} ({100 * ends[seed]:.1f} %)" for seed in method.failed])
    return f"{label}: the start failed under seed{'s' * (len(ends) != 1)} {listed}; means are of the rest."
