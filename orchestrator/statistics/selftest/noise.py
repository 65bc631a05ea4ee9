"""How the values of made-up configurations vary over the seeds: normally, or as one's own class says."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Protocol

from mmap_model.errors import ConfigurationError
from mmap_model.references import parse, resolve

EXAMPLE = "file.py:Noise"
PROBE = (40, 10)
"""Configurations and blocks whose residuals tell the standard deviation of a noise."""


class Noise(Protocol):
    """What ``--noise file.py:Noise`` names: a class that is called without arguments."""

    def residuals(self, rng: random.Random, configurations: int, blocks: int) -> Sequence[Sequence[float]]:
        """By configuration, one residual per block, of mean 0 and any spread.

        Args:
            rng: the only source of chance.
            configurations, blocks: 2 or more of each; blocks are seeds, those of one split after another.
        """


class Normal:
    """Independent, of variance 1: what the statistics assume."""

    def residuals(self, rng: random.Random, configurations: int, blocks: int) -> list[list[float]]:
        return [[rng.gauss(0, 1) for _ in range(blocks)] for _ in range(configurations)]


class Scaled:
    """A custom noise, in units of its own standard deviation.

    Args:
        noise: any; its residuals are checked whenever they are drawn.
        name: of it, for messages.

    Raises:
        ConfigurationError: it has no spread, or its residuals are not as `Noise` says.
    """

    def __init__(self, noise: Noise, name: str) -> None:
        self._noise, self._name = noise, name
        drawn = [value for row in self._draw(random.Random(0), *PROBE) for value in row]
        self._spread = math.sqrt(math.fsum(value**2 for value in drawn) / len(drawn))
        if not self._spread > 0:
            raise self._wrong("all residuals are 0")

    def residuals(self, rng: random.Random, configurations: int, blocks: int) -> list[list[float]]:
        return [[value / self._spread for value in row] for row in self._draw(rng, configurations, blocks)]

    def _draw(self, rng: random.Random, configurations: int, blocks: int) -> list[list[float]]:
        try:
            found = [[float(v) for v in row] for row in self._noise.residuals(rng, configurations, blocks)]
        except (TypeError, ValueError) as error:
            raise self._wrong(f"{type(error).__name__}: {error}") from error
        if len(found) != configurations or any(len(row) != blocks for row in found):
            raise self._wrong(f"asked for {configurations} rows of {blocks} residuals, it gave others")
        if not all(math.isfinite(value) for row in found for value in row):
            raise self._wrong("a residual is not finite")
        return found

    def _wrong(self, problem: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._name}: {problem}",
            where="--noise",
            fix="residuals(rng, configurations, blocks) returns one row of finite numbers per configuration",
        )


def get_noise(name: str | None) -> Noise:
    """Normal noise, or one's own by ``file.py:Noise``.

    Raises:
        ConfigurationError: there is no such class, or it is no noise.
    """
    if name is None:
        return Normal()
    reference = parse(name)
    found = None if reference is None else resolve(reference, where="--noise", example=EXAMPLE)
    if not isinstance(found, type) or not callable(getattr(found, "residuals", None)):
        raise ConfigurationError(
            f"{name!r} names no class with a method residuals",
            where="--noise",
            fix=f"give a class of yours, {EXAMPLE}; docs/statistics.md has an example",
        )
    try:
        return Scaled(found(), name)
    except TypeError as error:
        raise ConfigurationError(
            f"{name} cannot be made: {error}", where="--noise", fix="let it take no arguments"
        ) from error
