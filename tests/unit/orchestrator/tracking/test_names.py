"""Names of runs and metrics: one to one, and as MLflow takes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.tracking.metrics import epoch_metrics, mean_metrics
from orchestrator.tracking.names import distinct_names, metric_name, stated, trial_name


def test_run_names(news: Any) -> None:
    partitions = [[[0, 1], [2, 3]], [[0, 2], [1, 3]]]
    assert trial_name(3, news.POINT, partitions) == "trial 3 · b=4 m=2 n=16 · G=2 · lr 0.0035"
    assert trial_name("zero_shot", {"method": "zero_shot", "settings": {}}) == "zero-shot"
    assert trial_name(0, {"method": "coop", "recipe": {"lr": 0.002}}) == "trial 0 · coop · lr 0.002"
    assert metric_name("val_accuracy/10%") == "val_accuracy/10pct"


@pytest.mark.parametrize("order", [1, -1])
def test_tasks_whose_names_look_alike_to_mlflow_have_curves_of_their_own(order: int, news: Any) -> None:
    tasks = ["R&D", "R+D", "R_D", "Real World", "10%"][::order]
    names = distinct_names(tasks)
    assert len(set(names.values())) == 5
    assert (names["R_D"], names["Real World"], names["10%"]) == ("R_D", "Real World", "10pct")
    assert names["R&D"].startswith("R_D-") and names["R+D"].startswith("R_D-")
    tags = stated(tasks)
    assert tags[f"metric_name/{names['R&D']}"] == "R&D" and "metric_name/R_D" not in tags
    report = {
        "epoch": 1,
        "at": news.AT,
        "accuracy": 0.5,
        "tasks": {t: {"accuracy": i} for i, t in enumerate(tasks)},
    }
    curves = {name: value for name, value, _, _ in epoch_metrics(report)}
    assert [curves[f"val_accuracy/{names[task]}"] for task in tasks] == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=300), max_size=8, unique=True), st.randoms())
def test_names_are_one_to_one_in_any_order_and_mlflow_takes_them(originals: list[str], draw: Any) -> None:
    from mlflow.utils.validation import _validate_metric_name

    names = distinct_names(originals)
    assert len(set(names.values())) == len(originals)
    shuffled = list(originals)
    draw.shuffle(shuffled)
    assert distinct_names(shuffled) == names
    for name in names.values():
        _validate_metric_name(f"val_accuracy/{name}")


def test_a_mean_per_split_where_there_are_several() -> None:
    rows = [{"split": s, "seed": x} for s in ("3-shot", "6-shot") for x in ("1", "2")]
    metrics = {name: value for name, value, _, _ in mean_metrics(rows, [0.2, 0.4, 0.6, 0.8], 1, 0)}
    assert metrics["val_accuracy_mean"] == pytest.approx(0.5) and metrics["val_accuracy_n"] == 2
    assert metrics["val_accuracy_mean/6-shot"] == pytest.approx(0.7)
