"""Which rows of a ranking are significantly worse than its first: Tukey's test on the pooled residual.

Rank 1 was selected by its mean, so the largest of k − 1 differences to it is expected to be large even if all
k rows are equal. The studentized range accounts for that: of k complete rows on the same n blocks
(seed × split) the additive model y = row + block + e has s² = Σe²/ν, ν = (k − 1)(n − 1), and the best and the
worst of k equal rows are more than q(.95; k, ν)·s/√n apart in one study of twenty (Tukey 1953). With two rows
this is the paired t-test.

It assumes errors that are independent, of equal variance and about normal. Rows whose variance over the seeds
is an outlier are left out (`.cochran`). The errors of one seed at several splits are not
independent: shots nest, and one order of images serves all. A difference over several splits must therefore
also be significant with the seeds as blocks, each the mean over its splits: the stricter of both criteria is
kept. A row that is better at one split than at another raises s² of the first.

Which rows could be the best is another question, which asks less: the truly best row is among those within
d·s·√(2/n) of rank 1, with d of Dunnett's one-sided test (`.dunnett`), in 95 studies of 100.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from orchestrator.statistics.cochran import ROUNDING, PooledResidual, outliers
from orchestrator.statistics.dunnett import quantile as lead_quantile
from orchestrator.statistics.studentized_range import quantile as range_quantile
from orchestrator.statistics.summary import CONFIDENCE, Summary, summarize

COCHRAN_LEVEL = 0.001
"""Of the test for outlying variances. A row left out by chance lowers s: at 1 % that alone would raise the
level of the whole procedure by half a point (5 rows, 3 seeds), at 0.1 % by less than a tenth."""

Block = Hashable
RowValues = Mapping[Any, float]
"""Values by block."""

Reason = Literal["one row", "one seed", "no residual", "best apart", "best incomplete"]
"""Why nothing can be marked: fewer than two rows or seeds, a residual of zero, or a first row left out."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One row of a ranking.

    Attributes:
        name: unique.
        values: by block.
        cells: by block, the key of the cell its value comes from: equal keys are one measurement.
    """

    name: Any
    values: RowValues
    cells: Mapping[Any, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What differences of two means are judged by.

    Attributes:
        unit: what a block is.
        blocks: n.
        s, nu: pooled residual standard deviation and its degrees of freedom.
        q: of the studentized range at `CONFIDENCE`.
        threshold: q·s/√n, the smallest significant difference.
        d: of Dunnett's one-sided test at `CONFIDENCE`.
        lead: d·s·√(2/n), how far behind rank 1 the truly best row may be.
    """

    unit: Literal["seed × split", "seed"]
    blocks: int
    s: float
    nu: int
    q: float
    threshold: float
    d: float
    lead: float


@dataclass(frozen=True, kw_only=True)
class Significance:
    """What is said of each row beside rank 1.

    Attributes:
        worse: True: significantly worse than rank 1; False: not significantly different. Rows that are not
            compared are missing.
        possible: whether a row, rank 1 included, could be the best of all: False where that is ruled out.
            Rows that are not compared are missing.
        rows: number of rows compared, rank 1 included; rows of equal cells count once.
        criterion: what they are judged by; None where nothing can be marked, for ``reason``.
        apart: rows left out because their variance is an outlier.
        incomplete: rows left out because they lack some of the blocks.
        same: rows that share all cells with another row, and that row.
    """

    worse: Mapping[Any, bool] = field(default_factory=dict)
    possible: Mapping[Any, bool] = field(default_factory=dict)
    rows: int
    criterion: Criterion | None = None
    apart: tuple[Any, ...] = ()
    incomplete: tuple[Any, ...] = ()
    same: Mapping[Any, Any] = field(default_factory=dict)
    reason: Reason | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the marks of the rows; the criterion's numbers are None where there is none."""
        names = [each.name for each in fields(Criterion)]
        return {
            "confidence": CONFIDENCE,
            "rows": self.rows,
            **(asdict(self.criterion) if self.criterion else dict.fromkeys(names)),
            "cochran_level": COCHRAN_LEVEL,
            "apart": list(self.apart),
            "incomplete": list(self.incomplete),
            "same_cells": [[name, other] for name, other in self.same.items()],
            "reason": self.reason,
        }


def compare_with_best(
    ranking: Sequence[Candidate], blocks: Iterable[Block], seed_of: Callable[[Any], Hashable] = lambda b: b
) -> Significance:
    """Mark the rows of a ranking, best first, that are significantly worse than the first.

    Rows that share all their cells are one row. Of rows that share some cells each is compared, and the
    first of them enters the pooled residual: the same measurement is not counted twice.

    Args:
        ranking: complete rows, best first.
        blocks: those that every row should have; rows that lack one are not compared.
        seed_of: the seed of a block; by default a block is a seed.
    """
    wanted = tuple(blocks)
    by_seed: dict[Hashable, list[Block]] = {}
    for block in wanted:
        by_seed.setdefault(seed_of(block), []).append(block)
    full = [row for row in ranking if all(block in row.values for block in wanted)]
    known = {row.name for row in full}
    rows, same = _distinct(full, wanted)
    best = ranking[0].name if ranking else None
    found = Significance(
        rows=len(rows),
        incomplete=tuple(row.name for row in ranking if row.name not in known),
        same=same,
        worse={name: False for name, other in same.items() if other == best},
    )
    if len(ranking) < 2:
        return replace(found, reason="one row")
    if best not in known:
        return replace(found, reason="best incomplete")
    if len(by_seed) < 2:
        return replace(found, reason="one seed")
    seeds = {
        row.name: [_mean([row.values[b] for b in members]) for members in by_seed.values()] for row in rows
    }
    independent = _independent(rows)
    apart = _apart(seeds, independent)
    compared = [name for name in seeds if name not in apart]
    pooled = [name for name in independent if name not in apart]
    found = replace(
        found, rows=len(compared), apart=(*apart, *(name for name, other in same.items() if other in apart))
    )
    if best in apart:
        return replace(found, reason="best apart")
    if len(compared) < 2:
        return replace(found, reason="one row")
    criteria = [_criterion("seed", [seeds[name] for name in pooled], len(compared))]
    if len(wanted) > len(by_seed):
        values = {row.name: [row.values[block] for block in wanted] for row in rows}
        criteria.append(_criterion("seed × split", [values[name] for name in pooled], len(compared)))
    stricter = (
        None if None in criteria else max(filter(None, criteria), key=lambda criterion: criterion.threshold)
    )
    if stricter is None:
        return replace(found, reason="no residual")
    means = {row.name: _mean([row.values[block] for block in wanted]) for row in rows}
    worse = {name: means[best] - means[name] > stricter.threshold for name in compared if name != best}
    possible = {name: means[best] - means[name] <= stricter.lead for name in compared}
    twins = {name: other for name, other in same.items() if other not in apart}
    worse |= {name: worse.get(other, False) for name, other in twins.items()}
    possible |= {name: possible[other] for name, other in twins.items()}
    return replace(found, worse=worse, possible=possible, criterion=stricter)


def selected_difference(a: RowValues, b: RowValues, among: Sequence[RowValues]) -> Summary | None:
    """Summary of a − b where b was selected as the best of ``among`` by the numbers compared.

    The interval is Tukey's for all pairs of a and ``among``: mean ± q·s/√n on the blocks that all have. It
    is None where there is no residual to judge by, and the summary is None where there is no such block.
    """
    blocks = [block for block in a if all(block in row for row in (b, *among))]
    if not blocks:
        return None
    difference = summarize([a[block] - b[block] for block in blocks])
    criterion = _criterion("seed", [[row[block] for block in blocks] for row in (a, *among)], len(among) + 1)
    if criterion is None:
        return replace(difference, low=None, high=None)
    return replace(
        difference, low=difference.mean - criterion.threshold, high=difference.mean + criterion.threshold
    )


def _criterion(
    unit: Literal["seed × split", "seed"], rows: Sequence[Sequence[float]], k: int
) -> Criterion | None:
    """Of k rows by the residual of these; None if it is zero."""
    n = len(rows[0])
    nu, s = (len(rows) - 1) * (n - 1), PooledResidual(rows).deviation(n - 1)
    if s < ROUNDING:
        return None
    q, d = range_quantile(CONFIDENCE, k, nu), lead_quantile(CONFIDENCE, k, nu)
    return Criterion(
        unit=unit,
        blocks=n,
        s=s,
        nu=nu,
        q=q,
        threshold=q * s / math.sqrt(n),
        d=d,
        lead=d * s * math.sqrt(2 / n),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _distinct(rows: Sequence[Candidate], blocks: Sequence[Any]) -> tuple[list[Candidate], dict[Any, Any]]:
    """Rows without those that share all cells with an earlier one, and the names of both of these."""
    first: dict[Any, Candidate] = {}
    same = {}
    for row in rows:
        keys = tuple(row.cells.get(block) for block in blocks)
        identity = row.name if not keys or None in keys else keys
        other = first.setdefault(identity, row)
        if other is not row:
            same[row.name] = other.name
    return list(first.values()), same


def _independent(rows: Iterable[Candidate]) -> list[Any]:
    """Names of the rows that share no cell, directly or through others, with an earlier one."""
    parent: dict[Any, Any] = {}

    def root(item: Any) -> Any:
        while parent.setdefault(item, item) != item:
            parent[item] = item = parent[parent[item]]
        return item

    names = []
    for row in rows:
        names.append(row.name)
        for key in row.cells.values():
            parent[root(("cell", key))] = root(("row", row.name))
    first: dict[Any, Any] = {}
    for name in names:
        first.setdefault(root(("row", name)), name)
    return list(first.values())


def _apart(values: Mapping[Any, Sequence[float]], independent: Sequence[Any]) -> list[Any]:
    """Rows of outlying variance: independent ones by Cochran's test, others against those that pass."""
    outlying = {independent[i] for i in outliers([values[name] for name in independent], COCHRAN_LEVEL)}
    pool = PooledResidual(values[name] for name in independent if name not in outlying)
    dependent = values.keys() - set(independent)
    outlying |= {name for name in dependent if pool.tail(values[name]) * (pool.size + 1) < COCHRAN_LEVEL}
    return [name for name in values if name in outlying]
