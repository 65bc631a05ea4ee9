"""Table 1 (or 2) of one split under one recipe, as numbers: tasks by methods, with what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.compare.comparison import Column, ColumnResult, Comparison, RecipeChoice
from orchestrator.reports.comparison.roles import failure, find, measured, table_columns
from orchestrator.statistics.significance import Candidate, Significance, compare_with_best
from orchestrator.statistics.summary import Summary, delta_m, paired_difference, summarize, worst_task_gain

AVERAGE = "Average"


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """One method's numbers in one table.

    Attributes:
        column, entry, error: whose they are; an error where there is no entry but a reason.
        tasks: test accuracy by task (fraction), over seeds.
        average: of the seeds' averages over tasks; its std is theirs.
        mean_of_stds: the mean of the tasks' stds, which the paper prints beside its averages.
        from_best: paired difference to the best average; None for the best itself.
        worse: whether it is significantly worse than the best, which was selected among all methods; None
            for the best and where it is not compared.
        unranked: the best of its rates lies at an end of all that it could try: it is not compared.
        failed: seeds whose start failed; they are in no mean.
        calibration: expected calibration error on test images, the mean over tasks and seeds.
        left_out: it has numbers and is not compared: its variance is an outlier, or seeds are missing.
        over_own_single: Δm in per cent over the same method trained per task.
        over_full_single: Δm in per cent over single-task full fine-tuning.
        worst: the task that gains least over zero-shot, and the gain (fraction).
    """

    column: Column
    entry: ColumnResult | None = None
    error: str | None = None
    tasks: Mapping[str, Summary]
    average: Summary | None = None
    mean_of_stds: float | None = None
    from_best: Summary | None = None
    worse: bool | None = None
    left_out: bool = False
    unranked: bool = False
    failed: tuple[str, ...] = ()
    calibration: float | None = None
    over_own_single: float | None = None
    over_full_single: float | None = None
    worst: tuple[str, float] | None = None

    @property
    def mark(self) -> str:
        """``≈`` not significantly different from the best, ``?`` not compared with it, else nothing."""
        return "?" if self.left_out else "≈" if self.worse is False else ""

    @property
    def device_seconds(self) -> float:
        """Training and evaluation of all seeds, with the grouping probes where groups follow gradients."""
        return 0.0 if self.entry is None else self.entry.seconds + self.probe_seconds

    @property
    def probe_seconds(self) -> float:
        charged = self.entry is not None and self.column.grouping == "gradient"
        return self.entry.probe_seconds if charged and self.entry else 0.0


@dataclass(frozen=True, kw_only=True)
class MethodTable:
    """All methods at one split under one recipe, by regime as in the paper."""

    comparison: Comparison
    split: str
    recipe: RecipeChoice
    methods: tuple[MethodResult, ...]
    significance: Significance
    """What the methods' marks rest on, by column name."""

    def summary(self, method: MethodResult, row: str) -> Summary | None:
        """A method's number in the row of a task or of `AVERAGE`."""
        return method.average if row == AVERAGE else method.tasks.get(row)

    def places(self, row: str) -> dict[str, int]:
        """1 for the best and 2 for the second-best mean of a row, by column name; equal means share one."""
        means = {
            m.column.name: s.mean
            for m in self.methods
            if not m.unranked and (s := self.summary(m, row)) is not None
        }
        values = sorted(set(means.values()), reverse=True)[:2]
        return {name: values.index(mean) + 1 for name, mean in means.items() if mean in values}

    @property
    def label_budget(self) -> tuple[int, int] | None:
        """Labelled images per class and task: training, validation."""
        return self.comparison.label_budget.get(self.split)

    @property
    def reductions(self) -> set[str]:
        """How the trained methods reduce the tasks' losses."""
        return {m.entry.loss_reduction for m in self.methods if m.entry and m.column.regime is not None}


def method_table(comparison: Comparison, split: str, recipe: RecipeChoice) -> MethodTable:
    """All table columns at one split under one recipe; failed and missing ones without numbers."""
    columns = table_columns(comparison)
    entries = {c.name: measured(comparison, c, split, recipe) for c in columns}
    averages = {name: entry.seed_means() for name, entry in entries.items() if entry is not None}
    unranked = {
        name for name, entry in entries.items() if entry is not None and not comparison.is_ranked(entry)
    }
    ranking = sorted(
        averages.keys() - unranked, key=lambda name: (-summarize(list(averages[name].values())).mean, name)
    )
    best = ranking[0] if ranking else None
    found = compare_with_best(
        [
            Candidate(name=name, values=averages[name], cells=entry.cells)
            for name in ranking
            if (entry := entries[name]) is not None
        ],
        comparison.seeds,
    )

    def reference(method: str, regime: str | None) -> ColumnResult | None:
        column = find(comparison, method, regime)
        return None if column is None else entries[column.name]

    def result(column: Column) -> MethodResult:
        entry = entries[column.name]
        if entry is None:
            reason = failure(comparison, column, split, recipe)
            return MethodResult(
                column=column, tasks={}, error=reason, failed=_failed(comparison, column, split, recipe)
            )
        tasks = {task: summarize(list(seeds.values())) for task, seeds in entry.tasks.items()}
        stds = [summary.std for summary in tasks.values() if summary.std is not None]
        seeds = averages[column.name]
        compared = best is not None and best != column.name and column.name not in unranked
        from_best = paired_difference(seeds, averages[best]) if compared and best else None
        full_single = reference("full_ft", "single")
        own_single = None if column.regime == "single" else reference(column.method, "single")
        return MethodResult(
            column=column,
            entry=entry,
            tasks=tasks,
            average=summarize(list(seeds.values())),
            mean_of_stds=sum(stds) / len(stds) if len(stds) == len(tasks) else None,
            from_best=from_best,
            worse=found.worse.get(column.name),
            left_out=column.name in (*found.apart, *found.incomplete),
            unranked=column.name in unranked,
            failed=tuple(entry.failed_starts),
            calibration=_mean(entry.calibration.values()),
            over_own_single=_relative_gain(entry, own_single),
            over_full_single=_relative_gain(entry, full_single),
            worst=_worst(entry, reference("zero_shot", None)),
        )

    return MethodTable(
        comparison=comparison,
        split=split,
        recipe=recipe,
        methods=tuple(result(c) for c in columns),
        significance=found,
    )


def _failed(comparison: Comparison, column: Column, split: str, recipe: RecipeChoice) -> tuple[str, ...]:
    """Seeds of an entry without numbers that failed from the start."""
    where = (column.name, split, recipe)
    found = (e.failed_starts for e in comparison.entries if (e.column, e.split, e.recipe) == where)
    return tuple(seed for starts in found for seed in starts)


def _mean(values: Iterable[float]) -> float | None:
    found = [*values]
    return sum(found) / len(found) if found else None


def _relative_gain(entry: ColumnResult, reference: ColumnResult | None) -> float | None:
    """Δm over the seeds both have; None without a reference, over itself, or over a task at zero."""
    if reference is None or reference is entry:
        return None
    mine, theirs = _task_means(entry, reference)
    if not mine or any(value <= 0 for value in theirs.values()):
        return None
    return delta_m(mine, theirs)


def _worst(entry: ColumnResult, reference: ColumnResult | None) -> tuple[str, float] | None:
    if reference is None or reference is entry:
        return None
    mine, theirs = _task_means(entry, reference)
    return worst_task_gain(mine, theirs) if mine else None


def _task_means(a: ColumnResult, b: ColumnResult) -> tuple[dict[str, float], dict[str, float]]:
    """Means by task of both, over the seeds they share; empty if their tasks differ or they share none."""
    shared = [seed for seed in a.seed_means() if seed in b.seed_means()]
    if not shared or a.tasks.keys() != b.tasks.keys():
        return {}, {}

    def means(entry: ColumnResult) -> dict[str, float]:
        return {t: sum(seeds[s] for s in shared) / len(shared) for t, seeds in entry.tasks.items()}

    return means(a), means(b)
