"""The sentences below a method table: what its rows mean, what failed, what to bear in mind."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.compare.report import numbers
from orchestrator.compare.report.method_table import MethodResult, MethodTable
from orchestrator.compare.report.roles import full_label

SYMBOLS = (
    "`symbols` is an embedded benchmark that tests this software: drawn glyphs and a small CLIP trained on "
    "them. Its numbers are no evidence for or against the paper's results on its own benchmarks."
)


def title(table: MethodTable) -> str:
    """``symbols, 6-shot: each method at its own rate, chosen on validation``."""
    what = {
        "shared": "one learning rate for all methods, as in the paper",
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
    if table.comparison.protocol == "paper":
        text += "; protocol paper: all other images are test images"
    return text


def explanations(table: MethodTable) -> list[str]:
    """What the marks and rows mean, as far as they occur."""
    return list(_explanations(table))


def troubles(table: MethodTable) -> list[str]:
    """Columns without numbers and why, seeds that are missing, rates that failed."""
    return list(_troubles(table))


def _explanations(table: MethodTable) -> Iterator[str]:
    methods = table.methods
    if table.recipe == "shared":
        yield "Descriptive: a rate that suits one method starves another. Claims are tested on tuned results."
    spreads = [
        (abs(m.mean_of_stds - m.average.std), m)
        for m in methods
        if m.mean_of_stds is not None and m.average is not None and m.average.std is not None
    ]
    if spreads:
        _, widest = max(spreads, key=lambda pair: pair[0])
        assert widest.average is not None and widest.mean_of_stds is not None
        yield (
            "± of Average: standard deviation of the seeds' averages over tasks. The paper prints the mean "
            f"of the tasks' deviations; they differ most for {_label(widest)}, "
            f"{numbers.percent(widest.average).partition('±')[2]} against {100 * widest.mean_of_stds:.1f}."
        )
    if any(m.separable is False for m in methods):
        yield "≈ not separable from the best: the paired 95 % t-interval over the seeds contains zero."
    elif any(m.from_best is not None and m.separable is None for m in methods):
        yield "One seed: nothing can be told apart."
    if any(m.entry and m.entry.edge for m in methods):
        yield "↓ ↑ the chosen rate is the lowest or highest tried: a better one may lie beyond it."
    if table.recipe == "shared" and table.reductions:
        yield f"Losses of the tasks: {numbers.enumeration(sorted(table.reductions))}."
    if any(m.device_seconds for m in methods):
        text = "Device time: training and evaluation of all seeds at this rate"
        charged = [full_label(m.column) for m in methods if m.probe_seconds]
        yield text + (f"; {numbers.enumeration(charged)} with its grouping probes." if charged else ".")
    if any(m.over_own_single is not None for m in methods):
        yield "Δm own: mean relative gain over the same method trained for each task alone."
    if any(m.over_full_single is not None for m in methods):
        yield "Δm full FT: mean relative gain over single-task full fine-tuning, for every method."
    if any(m.worst is not None for m in methods):
        yield "Worst task: the gain in points over zero-shot of the task that gains least."


def _troubles(table: MethodTable) -> Iterator[str]:
    for method in table.methods:
        label = _label(method)
        if method.error:
            yield f"{label} failed: {method.error}"
        elif method.entry is None:
            yield f"{label} was not measured."
        else:
            n = method.average.n if method.average else 0
            if n < len(table.comparison.seeds):
                yield f"{label}: {n} of {len(table.comparison.seeds)} seeds."
            for trial in method.entry.trials:
                if trial.error:
                    yield f"{label}, rate {numbers.rate(trial.lr)} failed: {trial.error.splitlines()[0]}"


def _label(method: MethodResult) -> str:
    regime = {"single": " (single-task)", "multi": " (multi-task)", None: ""}[method.column.regime]
    return method.column.label + regime
