"""How long a search will still take, from the trials that ended in this run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.statistics.summary import student_quantile

LEVEL = 0.95
"""Quantile of Student's t on either side: the interval covers nine of ten ends if trials go on as before."""


@dataclass(frozen=True, kw_only=True)
class Left:
    """Seconds to the end of the last trial.

    Attributes:
        seconds: the estimate.
        low, high: a 90 % interval; None while a single trial has ended.
    """

    seconds: float
    low: float | None = None
    high: float | None = None


class Pace:
    """Durations of trials, counted in constant memory.

    What is left are the durations of the trials that have not ended, less the seconds that those in work have
    behind them, divided by the trials that were in work at a time on average. The interval treats durations
    as independent draws of one distribution: its variance is that of so many further draws, and that of the
    mean of those seen. Trials that stop early are among them, as they will be among the others.
    """

    def __init__(self) -> None:
        self._number = 0
        self._mean = self._squares = 0.0
        self._first: float | None = None

    def to_dict(self, now: float) -> dict[str, float | None]:
        """For records; the start as seconds before ``now``."""
        age = None if self._first is None else now - self._first
        return {"number": self._number, "mean": self._mean, "squares": self._squares, "age": age}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], now: float) -> Pace:
        """What ``to_dict`` gave, by another clock."""
        pace = cls()
        pace._number, pace._mean, pace._squares = data["number"], data["mean"], data["squares"]
        pace._first = None if data["age"] is None else now - data["age"]
        return pace

    def started(self, now: float) -> None:
        """A trial got a slot."""
        self._first = now if self._first is None else self._first

    def ended(self, seconds: float) -> None:
        """A trial that started in this run ended, ``seconds`` after."""
        self._number += 1
        change = seconds - self._mean
        self._mean += change / self._number
        self._squares += change * (seconds - self._mean)

    def left(self, trials: int, in_work: Sequence[float], now: float) -> Left | None:
        """What is left of ``trials``; None before any has ended.

        Args:
            trials: that have not ended, those in work included.
            in_work: seconds behind each of those in work.
            now: by the clock of ``started``.
        """
        number, mean = self._number, self._mean
        if not number or self._first is None or now <= self._first:
            return None
        at_a_time = max(1e-9, (number * mean + sum(in_work)) / (now - self._first))
        behind = sum(min(seconds, mean) for seconds in in_work)
        seconds = max(0.0, trials * mean - behind) / at_a_time
        if number < 2:
            return Left(seconds=seconds)
        spread = math.sqrt(self._squares / (number - 1) * (trials + trials**2 / number))
        half = student_quantile(LEVEL, number - 1) * spread / at_a_time
        return Left(seconds=seconds, low=max(0.0, seconds - half), high=seconds + half)
