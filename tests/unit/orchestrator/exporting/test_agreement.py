"""An artefact agrees with a record, or what differs is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmap_model.training.metrics import TaskPredictions
from orchestrator.exporting.agreement import TOLERANCE, Agreement, compare, joined

CLASSES = ("cat", "dog", "owl")


def recorded(probabilities: np.ndarray) -> TaskPredictions:
    order = np.argsort(-probabilities, axis=1)[:, :2]
    n = len(probabilities)
    taken = np.take_along_axis(probabilities, order, 1).astype(np.float32)
    return TaskPredictions(np.zeros(n, np.int64), order, taken, np.zeros(n))


def test_equal_predictions_agree() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    found = compare("art", ["a", "b"], recorded(p), p, CLASSES)
    assert found.holds and found.images == {"art": 2} and found.largest < 1e-7
    assert "every label agrees" in found.in_words()


def test_another_label_is_named_with_the_image() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    other = p.copy()
    other[1] = [0.1, 0.5, 0.4]
    found = compare("art", ["a", "b"], recorded(p), other, CLASSES)
    assert not found.holds and found.other_labels == 1 and found.beyond == 1
    assert found.largest == pytest.approx(0.2)
    assert "art/b: owl recorded, dog found" in found.in_words()


def test_a_near_tie_is_counted_and_agrees() -> None:
    p = np.array([[0.40001, 0.4, 0.19999]])
    other = np.array([[0.4, 0.40001, 0.19999]])
    found = compare("art", ["a"], recorded(p), other, CLASSES)
    assert found.holds and (found.near_ties, found.other_labels) == (1, 0)


def test_probabilities_that_are_off_with_equal_labels_do_not_agree() -> None:
    p = np.array([[0.7, 0.2, 0.1]])
    off = p + np.array([-2 * TOLERANCE, TOLERANCE, TOLERANCE])
    found = compare("art", ["a"], recorded(p), off, CLASSES)
    assert not found.holds and found.other_labels == 0 and found.beyond == 1


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_numbers_that_are_none_do_not_agree(broken: float) -> None:
    p = np.array([[0.7, 0.2, 0.1]])
    assert not compare("art", ["a"], recorded(p), np.array([[broken, 0.2, 0.1]]), CLASSES).holds


def test_tasks_join_and_survive_json() -> None:
    p = np.array([[0.7, 0.2, 0.1]])
    off = compare("art", ["a"], recorded(p), np.array([[0.2, 0.7, 0.1]]), CLASSES)
    whole = joined([off, compare("photo", ["b"], recorded(p), p, CLASSES)])
    assert whole.images == {"art": 1, "photo": 1} and not whole.holds and whole.worst == off.worst
    assert Agreement.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
