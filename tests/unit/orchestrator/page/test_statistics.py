"""Numbers behind the figures of a page."""

from __future__ import annotations

import math
import random

import pytest

from orchestrator.statistics.calibration import reliability
from orchestrator.statistics.foresight import foresight
from orchestrator.statistics.front import FrontRow, front
from orchestrator.statistics.importance import FEWEST, Observed, importances
from orchestrator.statistics.mistakes import Guess, class_scores, confident_mistakes, confusions
from orchestrator.statistics.occupancy import SlotWork, occupancy


def guess(label: str, predicted: str, confidence: float = 0.5, sample: str = "a", **more: str) -> Guess:
    given = {"cell": "c", "task": "photo", **more}
    return Guess(**given, sample=sample, label=label, predicted=predicted, confidence=confidence, nll=1.0)


def test_the_calibration_error_is_that_of_its_definition() -> None:
    draw = random.Random(1)
    confidence = [draw.random() for _ in range(500)] + [0.0, 1.0]
    right = [draw.random() < c for c in confidence]
    found = reliability(confidence, right, bins=15)
    expected = 0.0
    for i in range(15):
        inside = [
            (c, r)
            for c, r in zip(confidence, right, strict=True)
            if i / 15 < c <= (i + 1) / 15 or (i == 0 and c == 0)
        ]
        if inside:
            gap = sum(r for _, r in inside) / len(inside) - sum(c for c, _ in inside) / len(inside)
            expected += abs(gap) * len(inside) / len(confidence)
    assert found.ece == pytest.approx(expected, abs=1e-12)
    assert sum(each.count for each in found.bins) == found.count == 502


def test_sure_and_always_right_has_no_calibration_error_and_sure_and_wrong_the_largest() -> None:
    assert reliability([1.0] * 5, [True] * 5).ece == 0
    assert reliability([1.0] * 5, [False] * 5).ece == 1


def test_confusions_are_counted_by_task_and_ordered_by_number() -> None:
    guesses = [guess("cat", "dog")] * 3 + [guess("dog", "cat")] + [guess("cat", "cat")] * 2
    guesses += [guess("cat", "dog", task="sketch")] * 2
    found = confusions(guesses, most=10)
    assert [(c.task, c.label, c.predicted, c.count, c.of) for c in found] == [
        ("photo", "cat", "dog", 3, 5),
        ("sketch", "cat", "dog", 2, 2),
        ("photo", "dog", "cat", 1, 1),
    ]
    assert confusions(guesses, most=1) == found[:1]


def test_classes_are_ordered_from_the_worst() -> None:
    guesses = [guess("cat", "cat"), guess("cat", "dog"), guess("dog", "dog"), guess("elk", "cat")]
    assert [(s.name, s.accuracy) for s in class_scores(guesses)] == [("elk", 0), ("cat", 0.5), ("dog", 1)]


def test_an_image_is_shown_once_though_several_seeds_mistook_it() -> None:
    guesses = [
        guess("cat", "dog", 0.9, "x", cell="1"),
        guess("cat", "dog", 0.8, "x", cell="2"),
        guess("cat", "elk", 0.7, "y"),
        guess("cat", "cat", 1.0, "z"),
    ]
    found = confident_mistakes(guesses, most=5)
    assert [(g.sample, g.confidence) for g in found] == [("x", 0.9), ("y", 0.7)]


def test_rankings_that_agree_correlate_and_reversed_ones_against() -> None:
    curves = [{1: -value, 2: 1.0, 3: value} for value in (0.1, 0.2, 0.3, 0.4)]
    found = foresight(curves)
    assert [each.epoch for each in found] == [1, 2, 3]
    assert found[0].correlation == pytest.approx(-1) and found[0].place == 4
    assert found[1].correlation is None, "equal trials have no ranking"
    assert found[2].correlation == pytest.approx(1) and found[2].place == 1


def test_trials_that_were_stopped_early_have_no_place_in_foresight() -> None:
    whole = [{1: v, 2: v} for v in (0.1, 0.2, 0.3, 0.4)]
    assert [each.trials for each in foresight([*whole, {1: 0.9}])] == [4, 4]
    assert foresight(whole[:3]) == []
    assert foresight([*whole[:3], {1: 0.4, 2: math.nan}]) == []


def test_the_front_has_what_nothing_beats_in_both() -> None:
    rows = [
        FrontRow("a", 10, 0.5),
        FrontRow("b", 20, 0.4),
        FrontRow("c", 30, 0.6),
        FrontRow("d", 30, 0.7),
    ]
    assert front(rows) == ["a", "d"]
    assert front([FrontRow("one", 1, 0.5), FrontRow("two", 1, 0.5)]) == ["one"]


def test_the_setting_that_decides_is_the_most_important_and_its_interval_says_so() -> None:
    draw = random.Random(5)
    trials = []
    for _ in range(4 * FEWEST):
        lr, b = 10 ** draw.uniform(-3, -1), draw.choice([2, 4])
        trials.append(
            Observed({"lr": lr, "b": b, "fixed": 1}, -abs(math.log10(lr) + 2) + draw.gauss(0, 0.05))
        )
    found = importances(trials, frozenset({"lr"}))
    assert [each.name for each in found] == ["lr", "b"], "what does not vary is left out"
    assert found[0].low > found[1].high and found[0].low <= found[0].value <= found[0].high
    assert sum(each.value for each in found) == pytest.approx(1)
    assert found == importances(trials, frozenset({"lr"}))


def test_idle_time_is_what_no_work_of_a_slot_covers() -> None:
    def work(slot: str, start: float, end: float) -> SlotWork:
        return SlotWork(record="r", label="w", kind="complete", slot=slot, start=start, end=end)

    found = occupancy([work("0", 0, 4), work("1", 2, 10), work("0", 3, 6)])
    assert [lane.name for lane in found.lanes] == ["slot 0", "slot 1"]
    assert (found.busy, found.idle) == (14, 6) and found.share == pytest.approx(0.7)


def test_work_without_a_slot_is_packed_into_as_few_lanes_as_hold_it() -> None:
    pieces = [(0, 3), (1, 2), (2, 4), (3, 5)]
    found = occupancy(
        SlotWork(record=str(i), label="w", kind="k", start=a, end=b) for i, (a, b) in enumerate(pieces)
    )
    assert [[w.record for w in lane.work] for lane in found.lanes] == [["0", "3"], ["1", "2"]]
