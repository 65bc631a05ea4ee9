"""Metrics against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmap_model.training.metrics import (
    TaskPredictions,
    calibration_error,
    macro_f1,
    mean_over_tasks,
    per_class_accuracy,
    summarise,
)
from mmap_model.training.predictions import read_predictions, write_predictions


def predictions(labels, guesses, confidence=None, classes=3):
    labels, guesses = np.array(labels), np.array(guesses)
    confidence = np.full(len(labels), 0.8) if confidence is None else np.array(confidence)
    others = (guesses[:, None] + np.arange(1, classes)) % classes
    rest = np.repeat((1 - confidence)[:, None] / (classes - 1), classes - 1, axis=1)
    return TaskPredictions(
        labels,
        np.concatenate([guesses[:, None], others], axis=1),
        np.concatenate([confidence[:, None], rest], axis=1),
        np.linspace(0.1, 2, len(labels)),
    )


def test_summary_by_hand():
    found = summarise(predictions([0, 0, 1, 2], [0, 1, 1, 1]))
    assert found["accuracy"] == 0.5
    assert found["nll"] == pytest.approx(np.linspace(0.1, 2, 4).mean())
    assert found["ece"] == pytest.approx(0.3)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)


def test_per_class_accuracy_of_absent_classes_is_none():
    assert per_class_accuracy(predictions([0, 0, 2], [0, 1, 2], classes=4), 4) == [0.5, None, 1.0, None]


def test_means_over_tasks_are_unweighted():
    assert mean_over_tasks([{"accuracy": 1.0}, {"accuracy": 0.5}]) == {"accuracy": 0.75}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_its_definition(pairs):
    confidence, right = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(confidence, right) == pytest.approx(total, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_macro_f1_is_its_definition(pairs):
    labels, guess = np.array(pairs).T
    scores = []
    for c in set(labels.tolist()):
        hits = ((labels == c) & (guess == c)).sum()
        scores.append(2 * hits / ((labels == c).sum() + (guess == c).sum()))
    assert macro_f1(labels, guess) == pytest.approx(np.mean(scores))


def test_predictions_survive_the_file():
    tasks = {
        "sketch": (["a", "b", "c", "d"], predictions([0, 0, 1, 2], [0, 1, 1, 1])),
        "photo": (["e", "f"], predictions([1, 0], [1, 1], classes=2)),
    }
    data = write_predictions(tasks)
    assert data == write_predictions(tasks)
    found = read_predictions(data)
    assert list(found) == list(tasks)
    for task, (samples, expected) in tasks.items():
        assert found[task][0] == samples
        for name in ("labels", "classes", "probabilities", "nll"):
            assert np.allclose(getattr(found[task][1], name), getattr(expected, name), atol=1e-6)
        assert summarise(found[task][1]) == pytest.approx(summarise(expected), abs=1e-6)
