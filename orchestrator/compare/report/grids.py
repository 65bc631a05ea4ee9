"""Everything but the terminal's method tables as grids of text, for every format."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.compare.comparison import Affinity, Comparison
from orchestrator.compare.report import notes, numbers
from orchestrator.compare.report.ablation import ORDER, Ablation, AblationRow
from orchestrator.compare.report.claims import Claim, Side
from orchestrator.compare.report.grid import Grid, Place, Value, row
from orchestrator.compare.report.method_table import AVERAGE, MethodResult, MethodTable
from orchestrator.compare.report.pairings import Pairings
from orchestrator.compare.report.paper import Beside, Printed, paper_split

REGIMES = {None: "–", "single": "single-task", "multi": "multi-task"}
RANDOM = "Random grouping: the mean of the other partitions of the same sizes, seed by seed."
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
                return Value("failed" if method.error else numbers.NONE)
            return Value(numbers.percent(summary, " ± "), MARKS.get(places[name].get(method.column.name, 0)))

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
        notes=(f"{notes.budget(table)}.", *notes.explanations(table), *notes.troubles(table)),
    )


def framework(found: Ablation) -> Grid:
    """Table 3: which prompts, which groups."""
    return _ablation(found, found.framework, "prompts and groups (Table 3)")


def generators(found: Ablation) -> Grid:
    """Figure 4: what makes the prompts of both towers."""
    return _ablation(found, found.generators, "what makes the prompts of both towers (figure 4)")


def _ablation(found: Ablation, rows: Sequence[AblationRow], what: str) -> Grid:
    tasks = found.comparison.tasks
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
                numbers.percent(mean, " ± ") if mean else line.error or numbers.NONE,
                1 if mean and mean.mean == best else None,
            ),
            numbers.signed(line.loss.mean) if line.loss else numbers.NONE,
            numbers.interval(line.loss),
            numbers.rate(line.entry.lr, line.entry.edge) if line.entry else numbers.NONE,
        )

    untuned = " No row of an ablation was tuned here." if found.recipe == "shared" else ""
    return Grid(
        title=f"{found.comparison.dataset}, {found.split}: {what}, {recipe_words(found.recipe)}",
        header=(
            *("Variant", "Tokens", "Parameters", *tasks, AVERAGE),
            *("From MmAP", "95 % interval", "Rate"),
        ),
        rows=tuple(cells(line) for line in rows),
        align="lrr" + "r" * (len(tasks) + 4),
        notes=(
            "Tokens: prompts that each tower sees. From MmAP: paired difference over the seeds to MmAP with "
            "gradient grouping, with its t-interval." + (untuned if not _has_tuned(found) else ""),
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
            numbers.percent(mean, " ± "),
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
    missing = (
        "" if found.complete else f" {len(found.accuracy)} of {found.possible} such partitions were measured."
    )
    return Grid(
        title=f"{comparison.dataset}, {found.split}: every partition of the same sizes, "
        + recipe_words(found.recipe),
        header=("", "Partition", *(f"seed {seed}" for seed in seeds), "Mean"),
        rows=(*lines, ranks, regrets),
        align="rl" + "r" * (len(seeds) + 1),
        notes=(
            "← chosen by the gradients of that seed's probe. Rank and regret compare it with the others on "
            f"the same test images; a random choice has mean rank {found.chance_rank:.1f}.{missing}",
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
        notes=(
            "Margin: by how much the chosen partition's score exceeds the second best's. Snapshots and "
            "Resamples: the share of snapshots, and of bootstrap samples of them, with the same choice.",
            *(["Of the probe: " + "; ".join(said) + "."] if said else []),
        ),
    )


def relative_margin(affinity: Affinity) -> str:
    """The margin in per cent of the chosen score's size, or as it is where that is unknown."""
    if affinity.margin is None:
        return numbers.NONE
    if not affinity.score:
        return f"{affinity.margin:.2g}"
    return f"{100 * affinity.margin / abs(affinity.score):.0f}%"


def claims(found: Sequence[Claim], comparison: Comparison) -> Grid:
    """One line per claim and split."""

    def side(side: Side) -> str:
        return numbers.rate(side.lr, side.edge)

    def cells(claim: Claim) -> tuple[Value, ...]:
        difference = claim.difference
        return row(
            claim.statement,
            claim.split,
            Value(claim.words, 1 if claim.verdict in ("holds", "reversed") else None),
            numbers.signed(difference.mean) if difference else numbers.NONE,
            numbers.interval(difference),
            str(difference.n) if difference else numbers.NONE,
            f"{side(claim.better)} / {side(claim.worse)}",
            claim.recipe or numbers.NONE,
            paper_range(claim),
            "; ".join(claim.notes),
        )

    return Grid(
        title=f"{comparison.dataset}: the paper's claims",
        header=(
            *("Claim", "Split", "Verdict", "Difference", "95 % interval", "n", "Rates", "Recipe"),
            *("In the paper", "Notes"),
        ),
        rows=tuple(cells(claim) for claim in found),
        align="lllrrrllll",
    )


def paper_range(claim: Claim) -> str:
    """The paper's own differences on its benchmarks: ``+0.8 to +1.4``."""
    values = sorted(claim.paper.values())
    if not values:
        return numbers.NONE
    low, high = numbers.signed(values[0]), numbers.signed(values[-1])
    return low if low == high else f"{low} to {high}"


def beside(found: Sequence[Beside], table: MethodTable) -> Grid:
    """Ours, the paper's and the difference; averages only where a line per task would be too long."""
    rows = tuple(
        row(
            pair.column.label,
            REGIMES[pair.column.regime],
            pair.task,
            numbers.percent(pair.ours, " ± "),
            printed(pair.printed),
            numbers.signed(pair.difference),
        )
        for pair in found
    )
    known = dict.fromkeys(
        f"{pair.column.label}, {pair.task}: {pair.printed.note}." for pair in found if pair.printed.note
    )
    split = paper_split(table.comparison.dataset, table.split)
    protocol = (
        ""
        if table.comparison.protocol == "paper"
        else " Ours keeps validation images apart and tests on the same images for every split; the paper "
        "tests on all that is not trained on (protocol paper)."
    )
    return Grid(
        title=f"{table.comparison.dataset}, {table.split}: beside the paper's {split} split, "
        + recipe_words(table.recipe),
        header=("Method", "Training", "Task", "Ours", "Paper", "Difference"),
        rows=rows,
        align="lllrrr",
        notes=(
            "Averages: ± is the standard deviation of the seeds' averages in ours and the mean of the tasks' "
            f"deviations in the paper.{protocol}",
            *known,
        ),
    )


def printed(number: Printed) -> str:
    """``85.5 ± 0.4``, with the corrected value where the print is wrong."""
    text = f"{number.value:.1f}"
    text += "" if number.spread is None else f" ± {number.spread:.1f}"
    return text if number.corrected_mean is None else f"{text} (printed {number.mean:.1f})"


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
    return numbers.signed(method.from_best.mean) + (" ≈" if method.separable is False else "")


def _device(method: MethodResult) -> str:
    text = numbers.seconds(method.device_seconds)
    return f"{text} (probe {numbers.seconds(method.probe_seconds)})" if method.probe_seconds else text


def _relative(value: float | None) -> str:
    return numbers.NONE if value is None else numbers.signed(value / 100) + "%"


def _mean(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f}"


def _share(value: float | None) -> str:
    return numbers.NONE if value is None else f"{100 * value:.0f}%"
