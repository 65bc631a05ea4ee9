"""What is searched for and demanded, and how it is measured."""

from __future__ import annotations

from typing import Any

import pytest

from mmap_model.errors import InputError
from orchestrator.statistics.objectives import (
    Aim,
    Constraint,
    Objective,
    by_cell,
    measure,
    parse_constraint,
    parse_objectives,
)


def test_a_name_alone_goes_in_its_natural_direction_and_a_sign_decides() -> None:
    assert parse_objectives(["accuracy", "-parameters"], "x") == (
        Objective("accuracy", True),
        Objective("parameters", False),
    )
    assert [each.label for each in parse_objectives(["nll", "worst_task", "+ece"], "x")] == [
        "-nll",
        "worst_task",
        "ece",
    ]


def test_records_of_earlier_versions_search_for_accuracy() -> None:
    aim = Aim.of_study({"search": {"sampler": "tpe"}})
    assert aim == Aim() and aim.is_plain and aim.directions == ["maximize"]
    assert not Aim.of(["accuracy"], ["parameters<=3"]).is_plain


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [("parameters<=20000", 25000.0, 5000.0), ("worst_task >= 0.3", 0.5, -0.2), ("nll<=1e0", 1.0, 0.0)],
)
def test_a_constraint_tells_by_how_much_it_is_violated(text: str, value: float, violation: float) -> None:
    assert parse_constraint(text, "x").violation(value) == pytest.approx(violation)


@pytest.mark.parametrize("text", ["parameters<20", "params<=3", "parameters<=1e", "parameters<=1e999", "3"])
def test_what_is_no_constraint_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_constraint(text, "search.constraints.0")
    assert caught.value.where == "search.constraints.0" and caught.value.fix


def test_a_constraint_has_one_label_however_it_is_written() -> None:
    assert parse_constraint(" parameters <= 2e4 ", "x") == Constraint("parameters", True, 20000.0)
    assert parse_constraint("parameters<=20000", "x").label == "parameters<=20000"
    assert parse_constraint("parameters<=4393729", "x").label == "parameters<=4393729"


def cells(*values: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    found = [{"key": f"k{i}", "split": f"{i % 2}-shot", "seed": str(i // 2)} for i in range(len(values))]
    records = {
        f"k{i}": {
            "metrics": {
                "accuracy": value,
                "nll": 1 - value,
                "tasks": {"a": {"accuracy": value - 0.1}, "b": {"accuracy": value + 0.1}},
            },
            "seconds": {"training": 3.0, "evaluation": 1.0},
        }
        for i, value in enumerate(values)
    }
    return found, records


def test_a_trial_is_measured_by_the_records_of_its_cells() -> None:
    of, records = cells(0.4, 0.5, 0.6, 0.7)
    names = ("accuracy", "worst_task", "nll", "parameters", "device_seconds", "ece")
    found = measure(names, of, records, 1200)
    assert found == {
        "accuracy": pytest.approx(0.55),
        "worst_task": pytest.approx(0.45),
        "nll": pytest.approx(0.45),
        "parameters": 1200.0,
        "device_seconds": pytest.approx(4.0),
        "ece": None,
    }
    assert by_cell("accuracy", of, records) == {
        ("0-shot", "0"): 0.4,
        ("1-shot", "0"): 0.5,
        ("0-shot", "1"): 0.6,
        ("1-shot", "1"): 0.7,
    }


def test_a_missing_cell_leaves_no_value() -> None:
    of, records = cells(0.4, 0.5)
    del records["k1"]
    assert measure(["accuracy", "parameters"], of, records, None) == {"accuracy": None, "parameters": None}
