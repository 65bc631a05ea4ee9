"""The ranking of a study as people and programs get it."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from rich.console import Console

from orchestrator.reports.ranking import report
from orchestrator.tables.registry import formats
from orchestrator.tables.terminal import render

VALUES = {"prompt_length": 4, "source_rows": 2, "source_cols": 32, "scale_init": None, "lr": 0.02345}


def text(found: dict[str, Any], width: int = 100, **more: Any) -> str:
    target = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    target.print(render(report(found, **more), width))
    output = target.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in output.splitlines())
    return str(output).replace("\N{NO-BREAK SPACE}", " ")


def results(**changes: Any) -> dict[str, Any]:
    def trial(number: int, mean: float | None, separable: bool | None, **more: Any) -> dict[str, Any]:
        return {
            "number": number,
            "state": "complete" if mean is not None else "failed",
            "config": {"method": "mmap", **VALUES, "lr": 0.01 * (number + 1)},
            "parameters": 12_345,
            "share": 0.0086,
            "val": None if mean is None else {"mean": mean, "std": 0.012, "n": 3},
            "test": None,
            "tasks": {},
            "separable_from_best": separable,
            "device_seconds": 61.2,
            "error": None,
            **more,
        }

    return {
        "study": "demo",
        "storage": "runs",
        "winner": 2,
        "trials": [
            trial(2, 0.47, None, test={"mean": 0.45, "std": 0.02, "n": 3}),
            trial(0, 0.46, False),
            trial(1, 0.3, True),
            trial(3, None, None, error="ValueError: loss is NaN\nTraceback"),
        ],
        "baselines": [
            {
                "name": "zero_shot",
                "parameters": 0,
                "share": 0.0,
                "val": {"mean": 0.22, "std": None, "n": 1},
                "test": None,
            },
            {
                "name": "zero_step",
                "parameters": 9,
                "share": None,
                "val": {"mean": 0.2, "std": 0.01, "n": 3},
                "test": None,
            },
        ],
        "cells": {"finished": 9, "failed": 3, "trained_now": 9},
        "comparison": {
            "confidence": 0.95,
            "rows": 3,
            "blocks": 3,
            "s": 0.012,
            "nu": 4,
            "q": 5.04,
            "threshold": 0.0349,
            "reason": None,
        },
        "timing": {"start_up": 12.0, "training": 300.0, "total": 320.0, "per_trial_overhead": 0.21},
        "looks": [{}],
        "extended_after_look": False,
        **changes,
    }


@pytest.mark.parametrize("width", [80, 100, 140])
def test_ranking_is_legible_at_any_width_without_colour(width: int) -> None:
    shown = text(results(), width, footer=[("Runs", "here")])
    for part in (
        "47.0 ± 1.2",
        "45.0 ± 2.0",
        "46.0 ± 1.2",
        "zero-shot",
        "rank 1 before training",
        "22.0",
        "Runs:    here",
    ):
        assert part in shown
    assert "2≈" in shown and "not significantly different from rank 1" in shown
    assert "3≈" not in shown
    assert "12 345 (0.86 %)" in shown
    assert "trial 3: ValueError: loss is NaN" in shown
    assert "in all 5 min 20 s, until the first cell 12 s, training 5 min 00 s" in " ".join(shown.split())
    assert "9 finished, 3 failed, 9 trained in this run" in shown
    assert ("device" in shown) == (width >= 96)


def test_ranking_says_what_its_intervals_over_seeds_do_not_cover() -> None:
    gain = {"zero_shot": {"mean": 0.1, "low": 0.05, "high": 0.15, "n": 3}}
    assert "one finite pool of images" in text(results(test_gains=gain))
    assert "finite pool" not in text(results(test_gains={}))


def test_ranking_shows_only_what_varies() -> None:
    shown = text(results())
    assert "lr 0.03" in shown
    assert "b4" not in shown


def test_ranking_of_a_study_without_a_complete_trial() -> None:
    shown = text(results(trials=[], winner=None, baselines=[], looks=[]))
    assert "No trial is complete yet." in shown


def test_a_study_extended_after_a_test_evaluation_says_so() -> None:
    assert "added after a test-set evaluation" in text(results(extended_after_look=True))


def test_ranking_as_a_page_has_the_facts_and_as_records_all_trials() -> None:
    found = results()
    page = formats()["md"].write(report(found, footer=[("Runs", "here")]))
    assert "| **1** | **2** |" in page and "| **Runs:** | here |" in page
    rows = list(csv.DictReader(io.StringIO(formats()["csv"].write(report(found, limit=1, layout="records")))))
    assert [row["trial"] for row in rows] == ["2", "0", "1", "", ""]
    assert float(rows[0]["validation"]) == pytest.approx(47) and float(rows[0]["validation std"]) == 1.2
    assert rows[0]["size (of CLIP)"] == "12345" and rows[3]["validation std"] == ""
    floats = formats()["tex"].write(report(found, layout="paper"))
    assert floats.count(r"\begin{table*}") == 1 and "Runs" not in floats
