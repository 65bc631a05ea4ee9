"""What is said of new classes and of tasks left out: MmAP beside each method, paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages import TASKS, Stage
from tables import Scores, counted, halves, label, means

from orchestrator.compare.comparison import Column, Comparison
from orchestrator.reports.comparison.claims import NEWER, Claim
from orchestrator.reports.comparison.roles import gradient_grouped
from orchestrator.reports.comparison.sides import Side
from orchestrator.statistics.summary import paired_difference

ScoredTasks = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Measure:
    """Something that is scored after training.

    Attributes:
        kind: of the stages that score it.
        words: what a statement says of it.
        value: of one cell's tasks, by the ``tuned`` model or the ``plain`` CLIP (fraction).
    """

    kind: str
    words: str
    value: Callable[[ScoredTasks, str], float]


MEASURES = (
    Measure("base", "from base to new (harmonic mean)", lambda tasks, side: halves(tasks, side)[2]),
    Measure("base", "on new classes", lambda tasks, side: halves(tasks, side)[1]),
    Measure("without", "on a task left out", lambda tasks, side: tasks[0][side]["accuracy"]),
)


def unseen(
    found: Mapping[Stage, Comparison], scored: Mapping[Stage, Scores]
) -> Iterator[tuple[Stage, Claim]]:
    """MmAP beside zero-shot and beside every method in ``single`` and ``multi``, with a stage of its CLIP.

    Nothing is said of groups behind other methods, which ask for more seeds; of tasks left out nothing
    before each was; and of new classes nothing of methods that are zero-shot there.
    """
    for measure in MEASURES:
        for clip in dict.fromkeys(stage.clip for stage in found):
            own = {s: c for s, c in found.items() if (s.kind, s.clip) == (measure.kind, clip)}
            if own and (measure.kind != "without" or {stage.to for stage in own} == {*TASKS}):
                yield from ((next(iter(own)), claim) for claim in _claims(measure, own, scored))


def _claims(
    measure: Measure, found: Mapping[Stage, Comparison], scored: Mapping[Stage, Scores]
) -> Iterator[Claim]:
    first = next(iter(found.values()))
    framework = gradient_grouped(first)
    if framework is None:
        return
    mmap = _side(measure, framework, found, scored)
    zero_shot = Side(label="zero-shot", seeds=_zero_shot(measure, found, scored))
    others = [_side(measure, c, found, scored) for c in first.columns if _is_compared(c, framework)]
    for other in (zero_shot, *others):
        if other is zero_shot or not other.seeds or not other.seeds.items() <= zero_shot.seeds.items():
            yield _claim(measure, mmap, other, first)


def _is_compared(column: Column, framework: Column) -> bool:
    """One model for all tasks or one for each, what MmAP's groups share; no groups behind other methods."""
    if column.section == "ablation":
        return column.settings.get("modules") == "group"
    return column.name != framework.name and column.regime in ("single", "multi")


def _claim(measure: Measure, mmap: Side, other: Side, comparison: Comparison) -> Claim:
    difference = paired_difference(mmap.seeds, other.seeds)
    notes = [side.why for side in (mmap, other) if side.why]
    if difference is not None and difference.n < len(comparison.seeds):
        notes.append(f"{difference.n} of {len(comparison.seeds)} seeds")
    return Claim(
        topic=NEWER,
        statement=f"{mmap.label} beats {other.label} {measure.words}",
        split=comparison.splits[0],
        recipe="tuned",
        better=mmap,
        worse=other,
        difference=difference,
        paper={},
        notes=tuple(notes),
    )


def _side(
    measure: Measure, column: Column, found: Mapping[Stage, Comparison], scored: Mapping[Stage, Scores]
) -> Side:
    """A column's values by seed, the mean over the stages; no number where one of them has none."""
    name = label(column)
    values: list[dict[str, float]] = []
    failed: set[str] = set()
    for stage, comparison in found.items():
        entry = comparison.entry(column.name, comparison.splits[0], "tuned")
        if entry is not None and not comparison.is_ranked(entry):
            why = f"the best rate of {name} lies at an end of all that it could try"
            return Side(label=name, seeds={}, why=why)
        own = {} if entry is None else counted(entry, scored[stage])
        values.append(_by_seed(measure, own, "tuned"))
        failed |= set() if entry is None else {*entry.failed_starts}
    seeds = means(values)
    plural = "s" if len(failed) > 1 else ""
    why = f"a start of {name} failed under seed{plural} {', '.join(sorted(failed))}" if failed else ""
    return Side(
        label=name, seeds=seeds, why=why if seeds else f"{name} has no numbers here", failed=(*failed,)
    )


def _zero_shot(
    measure: Measure, found: Mapping[Stage, Comparison], scored: Mapping[Stage, Scores]
) -> dict[str, float]:
    """Of the plain CLIP by seed, which every column's scores say again."""
    values = []
    for stage in found:
        plain: dict[str, float] = {}
        for own in scored[stage].values():
            plain |= _by_seed(measure, own, "plain")
        values.append(plain)
    return means(values)


def _by_seed(measure: Measure, scores: Mapping[str, Any], side: str) -> dict[str, float]:
    return {seed: measure.value(one["tasks"], side) for seed, one in scores.items() if "tasks" in one}
