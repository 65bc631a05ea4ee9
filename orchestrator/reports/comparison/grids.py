"""Method tables, ablations, partitions and affinities as grids of text."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.compare.comparison import Affinity, Comparison
from orchestrator.reports.comparison import notes, numbers
from orchestrator.reports.comparison.ablation import ORDER, Ablation, AblationRow
from orchestrator.reports.comparison.grid import Grid, Place, Value, row
from orchestrator.reports.comparison.method_table import AVERAGE, MethodResult, MethodTable
from orchestrator.reports.comparison.pairings import Pairings

REGIMES = {None: "–", "single": "single-task", "multi": "multi-task"}
TOKENS = "Tokens: prompts that each tower sees."
FROM_MMAP = (
    "From MmAP: paired difference over the seeds to MmAP with gradient grouping, with its 95 % t-interval. "
    "That row was named in advance; each interval stands by itself, uncorrected for their number."
)
RANDOM = "Random grouping: the mean of the other partitions of the same sizes, seed by seed."
MISSING = "none"
"""In place of a number that does not exist for a reason; the reason stands below the table."""

MARKS: dict[int, Place] = {1: 1, 2: 2}


def methods(table: MethodTable) -> Grid:
    """A method table with methods as rows, which pages of text hold better."""
    places = {name: table.places(name) for name in (*table.comparison.tasks, AVERAGE)}
    tuned = table.recipe == "tuned"

    def cells(method: MethodResult) -> tuple[Value, ...]:
        entry = method.entry
        trained = entry is not None and method.column.regime is not None

        def accuracy(name: str) -> Value:
            summary = table.summary(method, name)
            if summary is None:
                return Value(MISSING if method.error else numbers.NONE)
            return Value(numbers.percent(summary), MARKS.get(places[name].get(method.column.name, 0)))

        return row(
            method.column.label,
            REGIMES[method.column.regime],
            *(accuracy(task) for task in table.comparison.tasks),
            accuracy(AVERAGE),
            _from_best(method),
            numbers.exact_count(method.column.parameters),
            numbers.share(method.column.share),
            numbers.rate(entry.lr, entry.edge) if trained and entry else numbers.NONE,
            *(
                [str(len(entry.trials) or numbers.NONE) if trained and entry else numbers.NONE]
                if tuned
                else []
            ),
            entry.loss_reduction if trained and entry else numbers.NONE,
            _device(method),
            _relative(method.over_own_single),
            _relative(method.over_full_single),
            f"{numbers.signed(method.worst[1])} ({method.worst[0]})" if method.worst else numbers.NONE,
        )

    header = (
        *("Method", "Training", *table.comparison.tasks, AVERAGE, "From best", "Parameters", "Of CLIP"),
        *(
            "Rate",
            *(["Rates tried"] if tuned else []),
            "Losses",
            "Device",
            "Δm own",
            "Δm full FT",
            "Worst task",
        ),
    )
    return Grid(
        title=notes.title(table),
        header=header,
        rows=tuple(cells(method) for method in table.methods),
        align="ll" + "r" * (len(header) - 2),
        notes=(f"{notes.budget(table)}.", *notes.remarks(table)),
        legend=tuple(notes.legend([table])),
    )


def framework(found: Ablation, *, tasks: bool = True) -> Grid:
    """Table 3: which prompts, which groups; with a column per task, or as the paper without."""
    return _ablation(found, found.framework, "prompts and groups (Table 3)", tasks)


def generators(found: Ablation, *, tasks: bool = True) -> Grid:
    """Figure 4: what makes the prompts of both towers."""
    return _ablation(found, found.generators, "what makes the prompts of both towers (figure 4)", tasks)


def _ablation(found: Ablation, rows: Sequence[AblationRow], what: str, by_task: bool) -> Grid:
    tasks = found.comparison.tasks if by_task else ()
    best = max((r.average.mean for r in rows if r.average), default=None)

    def cells(line: AblationRow) -> tuple[Value, ...]:
        mean = line.average
        return row(
            line.label,
            str(line.tokens or numbers.NONE),
            numbers.exact_count(line.parameters),
            *(
                _mean(list(line.tasks[task].values())) if task in line.tasks else numbers.NONE
                for task in tasks
            ),
            Value(
                numbers.percent(mean) if mean else MISSING,
                1 if mean and mean.mean == best else None,
            ),
            numbers.signed(line.loss.mean) if line.loss else numbers.NONE,
            numbers.interval(line.loss),
            numbers.rate(line.entry.lr, line.entry.edge) if line.entry else numbers.NONE,
        )

    untuned = found.recipe == "shared" and not _has_tuned(found)
    missing = [
        f"No numbers for {line.label}: {line.error.rstrip('.')}." for line in rows if line.error is not None
    ]
    return Grid(
        title=f"{found.comparison.dataset}, {found.split}: {what}, {recipe_words(found.recipe)}",
        header=(
            *("Variant", "Tokens", "Parameters", *tasks, AVERAGE),
            *("From MmAP", "95 % interval", "Rate"),
        ),
        rows=tuple(cells(line) for line in rows),
        align="lrr" + "r" * (len(tasks) + 4),
        notes=(*(["No row of this ablation was tuned."] if untuned else []), *missing),
        legend=(
            TOKENS,
            FROM_MMAP,
            *([RANDOM] if any(line.order == ORDER["random"] for line in rows) else []),
        ),
    )


def partitions(found: Pairings, comparison: Comparison) -> Grid:
    """All partitions of the sizes that the gradients chose, by test accuracy."""
    seeds = list(dict.fromkeys(choice.seed for choice in found.choices))
    chosen = {choice.seed: choice.partition for choice in found.choices}

    def cell(partition: tuple[tuple[int, ...], ...], seed: str) -> str:
        value = found.accuracy[partition].get(seed)
        text = numbers.NONE if value is None else f"{100 * value:.1f}"
        return f"{text} ←" if chosen.get(seed) == partition else text

    lines = [
        row(
            str(place),
            numbers.groups(partition, comparison.tasks),
            *(cell(partition, seed) for seed in seeds),
            numbers.percent(mean),
        )
        for place, (partition, mean) in enumerate(found.ranked(), start=1)
    ]
    ranks = row(
        "", "rank of the choice", *(f"{c.rank} of {c.among}" for c in found.choices), f"{found.mean_rank:.1f}"
    )
    regrets = row(
        *("", "regret in points"),
        *(f"{100 * c.regret:.2f}" for c in found.choices),
        f"{100 * found.mean_regret:.2f}",
    )
    few = f"{len(found.accuracy)} of {found.possible} such partitions were measured."
    return Grid(
        title=f"{comparison.dataset}, {found.split}: every partition of the same sizes, "
        + recipe_words(found.recipe),
        header=("", "Partition", *(f"seed {seed}" for seed in seeds), "Mean"),
        rows=(*lines, ranks, regrets),
        align="rl" + "r" * (len(seeds) + 1),
        notes=() if found.complete else (few,),
        legend=(
            "← chosen by the gradients of that seed's probe. Rank and regret compare it with the others on "
            f"the same test images; a random choice has mean rank {found.chance_rank:.1f}.",
        ),
    )


def affinities(found: Sequence[Affinity], comparison: Comparison) -> Grid:
    """What each seed's gradients chose, how clearly and how steadily."""
    lines = [
        row(
            affinity.split,
            affinity.seed,
            numbers.groups(affinity.partition, comparison.tasks),
            numbers.groups(affinity.second, comparison.tasks),
            relative_margin(affinity),
            _share(affinity.agreement),
            _share(affinity.bootstrap),
        )
        for affinity in found
    ]
    said = dict.fromkeys(note for affinity in found for note in affinity.notes)
    return Grid(
        title=f"{comparison.dataset}: groups chosen from the gradients (eq. 8)",
        header=("Split", "Seed", "Chosen", "Second best", "Margin", "Snapshots", "Resamples"),
        rows=tuple(lines),
        align="llllrrr",
        notes=("Of the probe: " + "; ".join(said) + ".",) if said else (),
        legend=(
            "Margin: by how much the chosen partition's score exceeds the second best's. Snapshots and "
            "Resamples: the share of snapshots, and of bootstrap samples of them, with the same choice.",
        ),
    )


def relative_margin(affinity: Affinity) -> str:
    """The margin in per cent of the chosen score's size, or as it is where that is unknown."""
    if affinity.margin is None:
        return numbers.NONE
    if not affinity.score:
        return f"{affinity.margin:.2g}"
    return f"{100 * affinity.margin / abs(affinity.score):.0f}%"


def recipe_words(recipe: str) -> str:
    """A recipe as an end of a title."""
    return {"shared": "shared learning rate", "tuned": "tuned learning rates"}[recipe]


def _has_tuned(found: Ablation) -> bool:
    names = {c.name for c in found.comparison.columns if c.section == "ablation"}
    return any(e.recipe == "tuned" and e.column in names for e in found.comparison.entries)


def _from_best(method: MethodResult) -> str:
    if method.average is None:
        return numbers.NONE
    if method.from_best is None:
        return "best"
    return numbers.signed(method.from_best.mean) + (f" {method.mark}" if method.mark else "")


def _device(method: MethodResult) -> str:
    text = numbers.seconds(method.device_seconds)
    return f"{text} (probe {numbers.seconds(method.probe_seconds)})" if method.probe_seconds else text


def _relative(value: float | None) -> str:
    return numbers.NONE if value is None else numbers.signed(value / 100) + "%"


def _mean(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f}"


def _share(value: float | None) -> str:
    return numbers.NONE if value is None else f"{100 * value:.0f}%"
