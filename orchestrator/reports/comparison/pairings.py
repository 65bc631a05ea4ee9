"""How good the partition chosen from the gradients is among all partitions of the same sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import factorial, prod

from mmap_model.configuration import Partition
from orchestrator.compare.comparison import Comparison, RecipeChoice
from orchestrator.reports.comparison.roles import gradient_grouped, measured
from orchestrator.statistics.summary import Summary, summarize


@dataclass(frozen=True, kw_only=True)
class ChosenPairing:
    """What the gradients of one seed chose.

    Attributes:
        seed, partition: which.
        rank, among: its place by test accuracy among the measured partitions, 1 the best.
        regret: accuracy (fraction) of the best of them minus its own, >= 0.
    """

    seed: str
    partition: Partition
    rank: int
    among: int
    regret: float


@dataclass(frozen=True, kw_only=True)
class Pairings:
    """Test accuracy of all measured partitions of the same group sizes at one split under one recipe.

    Attributes:
        split, recipe: which.
        accuracy: by partition and seed, averaged over tasks (fraction).
        names: of the columns they come from.
        choices: of the seeds whose chosen partition and another were measured.
        possible: how many partitions of these sizes there are.
    """

    split: str
    recipe: RecipeChoice
    accuracy: Mapping[Partition, Mapping[str, float]]
    names: tuple[str, ...]
    choices: tuple[ChosenPairing, ...]
    possible: int

    @property
    def complete(self) -> bool:
        return len(self.accuracy) == self.possible

    @property
    def mean_rank(self) -> float:
        return sum(choice.rank for choice in self.choices) / len(self.choices)

    @property
    def mean_regret(self) -> float:
        return sum(choice.regret for choice in self.choices) / len(self.choices)

    @property
    def chance_rank(self) -> float:
        """The mean rank of a partition drawn at random."""
        return (len(self.accuracy) + 1) / 2

    def ranked(self) -> list[tuple[Partition, Summary]]:
        """Partitions by mean accuracy, best first."""
        summaries = [(p, summarize(list(seeds.values()))) for p, seeds in self.accuracy.items()]
        return sorted(summaries, key=lambda pair: -pair[1].mean)

    def others(self) -> dict[str, float]:
        """By seed, the mean accuracy of the partitions that were not chosen: what random grouping expects."""
        means = {}
        for choice in self.choices:
            rest = [
                seeds[choice.seed]
                for partition, seeds in self.accuracy.items()
                if partition != choice.partition and choice.seed in seeds
            ]
            if rest:
                means[choice.seed] = sum(rest) / len(rest)
        return means


def pairings(comparison: Comparison, split: str, recipe: RecipeChoice) -> Pairings | None:
    """Partitions of the sizes chosen by the gradients; None if no seed can compare its own with another.

    The accuracy of a partition is that of its ``fixed`` column; where one was not run, seeds that chose it
    contribute their own.
    """
    gradient = gradient_grouped(comparison)
    chosen = None if gradient is None else measured(comparison, gradient, split, recipe)
    if gradient is None or chosen is None or not chosen.partitions:
        return None
    sizes = _sizes(next(iter(chosen.partitions.values())))
    accuracy: dict[Partition, dict[str, float]] = {}
    names = []
    for column in comparison.columns:
        alike = (column.method, column.grouping) == (gradient.method, "fixed")
        if not alike or column.partition is None or _sizes(column.partition) != sizes:
            continue
        if column.settings != gradient.settings:
            continue
        entry = measured(comparison, column, split, recipe)
        if entry is not None:
            accuracy[column.partition] = entry.seed_means()
            names.append(column.name)
    own = chosen.seed_means()
    for seed, partition in chosen.partitions.items():
        if seed in own and _sizes(partition) == sizes:
            accuracy.setdefault(partition, {}).setdefault(seed, own[seed])
    choices = [
        _choice(seed, partition, accuracy)
        for seed, partition in chosen.partitions.items()
        if seed in accuracy.get(partition, {})
    ]
    choices = [choice for choice in choices if choice.among > 1]
    if not choices:
        return None
    return Pairings(
        split=split,
        recipe=recipe,
        accuracy=accuracy,
        names=tuple(names),
        choices=tuple(choices),
        possible=_possible(sizes),
    )


def _choice(
    seed: str, partition: Partition, accuracy: Mapping[Partition, Mapping[str, float]]
) -> ChosenPairing:
    values = {p: seeds[seed] for p, seeds in accuracy.items() if seed in seeds}
    own = values[partition]
    return ChosenPairing(
        seed=seed,
        partition=partition,
        rank=1 + sum(value > own for value in values.values()),
        among=len(values),
        regret=max(values.values()) - own,
    )


def _sizes(partition: Partition) -> tuple[int, ...]:
    return tuple(sorted(map(len, partition)))


def _possible(sizes: tuple[int, ...]) -> int:
    """Partitions of a set into groups of these sizes: n! / (∏ s! · ∏ multiplicity!)."""
    equal = prod(factorial(sizes.count(size)) for size in set(sizes))
    return factorial(sum(sizes)) // (prod(map(factorial, sizes)) * equal)
