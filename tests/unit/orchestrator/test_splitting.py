"""Splitting the last trials over slots that would idle."""

from __future__ import annotations

import heapq
import random
from collections import deque

import pytest

from orchestrator.driver import splitting


def test_while_trials_are_to_come_for_all_slots_each_has_one() -> None:
    assert {splitting.parts(slots=16, coming=n, in_work=15, cells=3) for n in range(9, 99)} == {1}


def test_the_last_trials_are_split_more_and_more() -> None:
    last = [splitting.parts(slots=16, coming=n, in_work=15, cells=5) for n in range(5, 0, -1)]
    assert last == [1, 2, 2, 4, 5]


def test_slots_that_are_free_are_shared_evenly() -> None:
    assert splitting.parts(slots=8, coming=3, in_work=0, cells=4) == 2
    assert splitting.parts(slots=8, coming=2, in_work=2, cells=4) == 3


def test_no_part_without_a_cell_and_no_trial_without_a_part() -> None:
    assert splitting.parts(slots=64, coming=1, in_work=0, cells=1) == 1
    assert splitting.parts(slots=0, coming=3, in_work=2, cells=3) == 1


def makespan(*, slots: int, trials: int, cells: int, shared: float, split: bool, seed: int) -> float:
    """Time of a study in units of a whole trial's; a cell takes ``shared`` plus its part of what is left."""
    noise = random.Random(seed)

    def seconds(size: int) -> float:
        return (shared + (1 - shared) * size) / (shared + (1 - shared) * cells) * noise.uniform(0.8, 1.2)

    queue: deque[tuple[int, int]] = deque()
    in_work: dict[int, int] = {}
    left: dict[int, int] = {}
    ends: list[tuple[float, int]] = []
    now, free, number = 0.0, slots, 0
    while True:
        while number < trials and len(in_work) < slots:
            coming, taken = trials - number, sum(in_work.values())
            count = splitting.parts(slots=slots, coming=coming, in_work=taken, cells=cells) if split else 1
            in_work[number] = left[number] = count
            queue.extend((number, cells // count + (part < cells % count)) for part in range(count))
            number += 1
        while free and queue:
            trial, size = queue.popleft()
            heapq.heappush(ends, (now + seconds(size), trial))
            free -= 1
        if not ends:
            return now
        now, trial = heapq.heappop(ends)
        free, left[trial] = free + 1, left[trial] - 1
        if not left[trial]:
            del in_work[trial]


@pytest.mark.parametrize("slots", [4, 16, 64])
@pytest.mark.parametrize(("shared", "least"), [(0.0, 0.1), (0.3, 0.05), (0.6, 0.0)])
def test_the_end_of_a_study_comes_earlier(slots: int, shared: float, least: float) -> None:
    """By at least this share of a trial's time, the more so the less the cells of a batch share."""

    def mean(split: bool) -> float:
        about = {"slots": slots, "trials": 3 * slots + slots // 3, "cells": 3, "shared": shared}
        return sum(makespan(**about, split=split, seed=seed) for seed in range(40)) / 40  # type: ignore[arg-type]

    assert mean(split=False) - mean(split=True) > least
