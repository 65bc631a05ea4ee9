"""Which configurations are on the Pareto front, and how likely each is, for several objectives.

Every noisy objective follows the additive model of ``.shrinkage`` by itself: y = block + a_c + e, with its
own pooled residual and its own τ/σ. The residuals of one configuration at one block are correlated between
objectives, so the noise of its levels is drawn with the correlation of the pooled residuals; with ν degrees
of freedom and d objectives it counts ν/(ν + d + 1) of what is measured, as if d + 1 residuals more had shown
none.
Exact objectives (`EXACT`) carry no noise, nor do those that do not vary over the seeds.

A configuration is on the front if no other is at least as good in all objectives and better in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.statistics.noise import pooled_noise
from orchestrator.statistics.objectives import EXACT, Objective
from orchestrator.statistics.posterior import Posterior

if TYPE_CHECKING:
    from numpy import bool_, float64
    from numpy.random import Generator
    from numpy.typing import NDArray

    Array = NDArray[float64]

SEED = 8
DRAWS, LEAST = 4000, 200
"""Of all levels: the standard error of a probability is at most 0.8 points, or 3.5 where there are thousands
of configurations."""

COMPARED = 4e8
"""Pairs of configurations compared in all draws together, at most about."""

Reason = Literal["one configuration", "one seed"]
"""Why no probability is known: there is nothing to compare, or no noise is known."""


@dataclass(frozen=True, kw_only=True)
class FrontCandidate:
    """A complete configuration.

    Attributes:
        name: unique.
        values: by objective, as measured: mean over splits of the mean over seeds.
        blocks: by noisy objective, its values by block.
    """

    name: Any
    values: Mapping[str, float]
    blocks: Mapping[str, Mapping[Any, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Front:
    """What is known of the front.

    Attributes:
        measured: names of the candidates that are on the front by their means.
        probability: by name, that a candidate is on the front; of those that were compared.
        draws: of the levels, that this rests on.
        noisy: objectives that vary over the seeds.
        incomplete: candidates that lack a block of the others, and are not compared.
        reason: why there are no probabilities.
    """

    measured: tuple[Any, ...] = ()
    probability: Mapping[Any, float] = field(default_factory=dict)
    draws: int = 0
    noisy: tuple[str, ...] = ()
    incomplete: tuple[Any, ...] = ()
    reason: Reason | None = None


def find_front(
    candidates: Sequence[FrontCandidate], objectives: Sequence[Objective], seed: int = SEED
) -> Front:
    """The front of some configurations. The same values give the same numbers.

    Args:
        candidates: complete ones that meet every constraint.
        objectives: two or more.
        seed: of the draws.
    """
    import numpy as np

    if not candidates:
        return Front()
    values = np.array([_gains(each, objectives) for each in candidates])
    on = on_front(values[None])[0]
    measured = tuple(each.name for each, there in zip(candidates, on, strict=True) if there)
    if len(candidates) == 1:
        return Front(measured=measured, reason="one configuration")
    measured_by = [each for each in objectives if each.name not in EXACT]
    blocks = _shared_blocks(candidates, measured_by)
    whole = [one for one in candidates if all(b in one.blocks[o.name] for o in measured_by for b in blocks)]
    incomplete = tuple(each.name for each in candidates if each not in whole)
    tables = {
        each: {one.name: {b: one.blocks[each.name][b] for b in blocks} for one in whole}
        for each in measured_by
    }
    noises = {each: pooled_noise(table) for each, table in tables.items()}
    if len(whole) < 2 or None in noises.values():
        return Front(measured=measured, incomplete=incomplete, reason="one seed")
    noisy = [each for each, noise in noises.items() if noise is not None and not noise.is_zero]
    draws = int(min(DRAWS, max(LEAST, COMPARED / (len(whole) ** 2 * len(objectives)))))
    drawn = np.repeat(np.array([_gains(each, objectives) for each in whole])[None], draws, axis=0)
    rng = np.random.default_rng(seed)
    if noisy:
        root = _correlation_root([tables[each] for each in noisy])
        normal = rng.standard_normal((draws, len(whole), len(noisy))) @ root.T
        for index, each in enumerate(noisy):
            sign = 1.0 if each.maximize else -1.0
            place = list(objectives).index(each)
            drawn[:, :, place] = sign * draw_levels(Posterior(tables[each], None), normal[:, :, index], rng)
    share = on_front(drawn).mean(0)
    return Front(
        measured=measured,
        probability={each.name: float(p) for each, p in zip(whole, share, strict=True)},
        draws=draws,
        noisy=tuple(each.name for each in noisy),
        incomplete=incomplete,
    )


def draw_levels(model: Posterior, normal: Array, rng: Generator) -> Array:
    """Effects [n, k] of all configurations in n draws from the posterior, up to what all share.

    Args:
        model: of one objective.
        normal: [n, k] standard normal values, the noise of each level.
        rng: of everything else.
    """
    import numpy as np

    nodes = rng.choice(len(model.weight), size=len(normal), p=model.weight)
    found = np.empty_like(normal)
    for node in np.unique(nodes):
        mine = np.flatnonzero(nodes == node)
        sigma = np.sqrt(model.squares[node] / rng.chisquare(model.nu, size=len(mine)))[:, None]
        root, g = np.linalg.cholesky(model.inverse[node]), model.g[node]
        beta = model.levels[node] + sigma * (rng.standard_normal((len(mine), len(root))) @ root.T)
        found[mine] = g * (model.sums - beta @ model.mask.T) + sigma * np.sqrt(g) * normal[mine]
    return found


def on_front(values: Array) -> NDArray[bool_]:
    """Which of k points [n, k] are on the front, in each of n draws.

    Args:
        values: [n, k, d], of which more is better.
    """
    import numpy as np

    n, k, _ = values.shape
    found = np.ones((n, k), dtype=np.bool_)
    size = max(1, int(2e7 / (k * k)))
    for start in range(0, n, size):
        part = values[start : start + size]
        no_worse = np.ones((len(part), k, k), dtype=np.bool_)
        better = np.zeros((len(part), k, k), dtype=np.bool_)
        for axis in range(part.shape[2]):
            other, own = part[:, :, None, axis], part[:, None, :, axis]
            no_worse &= other >= own
            better |= other > own
        found[start : start + size] = ~(no_worse & better).any(1)
    return found


def _correlation_root(tables: Sequence[Mapping[Any, Mapping[Any, float]]]) -> Array:
    """A root [d, d] of the correlation of the residuals between objectives."""
    import numpy as np

    blocks = list(next(iter(tables[0].values())))
    values = np.array([[[row[b] for b in blocks] for row in table.values()] for table in tables])
    residuals = values - values.mean(2, keepdims=True) - values.mean(1, keepdims=True)
    residuals += values.mean((1, 2), keepdims=True)
    flat = residuals.reshape(len(tables), -1)
    products = flat @ flat.T
    scale = np.sqrt(np.diag(products))
    d, nu = len(tables), (values.shape[1] - 1) * (values.shape[2] - 1)
    measured = products / np.outer(scale, scale) * nu / (nu + d + 1)
    np.fill_diagonal(measured, 1.0)
    root: Array = np.linalg.cholesky(measured)
    return root


def _shared_blocks(candidates: Sequence[FrontCandidate], measured: Sequence[Objective]) -> list[Any]:
    """The blocks that most candidates have."""
    if not measured:
        return []
    kinds = [frozenset(each.blocks[measured[0].name]) for each in candidates]
    most = max(kinds, key=lambda kind: (kinds.count(kind), len(kind)))
    return [b for b in candidates[kinds.index(most)].blocks[measured[0].name] if b in most]


def _gains(candidate: FrontCandidate, objectives: Sequence[Objective]) -> list[float]:
    return [candidate.values[each.name] * (1 if each.maximize else -1) for each in objectives]
