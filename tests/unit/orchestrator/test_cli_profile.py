"""``orchestrator profile`` shows where a step's time goes; ``plan`` counts with what it measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmap_model.cells import Cell
from orchestrator.cli.main import execute
from orchestrator.execution.engine import ModelEngine

MEASURED = {
    "cells": 2,
    "steps": 24,
    "epochs": 5,
    "step_seconds": 0.5,
    "parts": {"text": 0.1, "image": 0.3, "prompts": 0.02, "optimiser": 0.01, "data": 0.1},
    "epoch_evaluation_seconds": 2.0,
    "multiply_adds": 10**9,
    "matmul_rate": 4e9,
    "images_at_a_time": 16,
    "peak_gb": 1.25,
    "cell_seconds": 36.0,
    "share_of_matmul": 0.5,
    "device": "cpu",
    "device_name": "x86_64",
    "threads": 1,
}


@pytest.fixture
def profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Cell]]:
    """The cells that were profiled; nothing is measured."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\nspace:\n  - name: scale_init\nsettings: {source_cols: 32}\nseeds: [1, 2]\n"
    )
    asked: list[Sequence[Cell]] = []

    def profile(self: ModelEngine, cells: Sequence[Cell]) -> dict[str, Any]:
        asked.append(cells)
        return MEASURED

    monkeypatch.setattr(ModelEngine, "profile", profile)
    return asked


def test_the_parts_of_a_step_and_the_cost_of_the_study(
    profiled: list[Sequence[Cell]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["profile", "tiny.yaml", "splits=[{shots: 6}, {shots: 1}]"]) == 0
    assert [[cell.split.shots for cell in cells] for cells in profiled] == [[6, 6], [1, 1]]
    assert [cell.seeds.train for cell in profiled[0]] == [1, 2]
    shown = " ".join(capsys.readouterr().out.split())
    assert "image tower 300.0 50 %" in shown
    assert "loss, the rest 70.0 12 %" in shown
    assert "4.0 GFLOP/s, 50 % of a large product on this machine (8.0)" in shown
    assert "8 cells (2 trials): about 4 min 48 s" in shown


def test_plan_counts_with_the_profile(
    profiled: list[Sequence[Cell]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["profile", "tiny.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"6-shot": MEASURED}
    assert execute(["plan", "tiny.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["device_hours_from"], found["device_hours"]) == ("profile", pytest.approx(4 * 36 / 3600))
    assert execute(["plan", "tiny.yaml", "recipe.batch_size=4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device_hours"] is None


def test_without_fusing_one_cell_is_profiled(profiled: list[Sequence[Cell]]) -> None:
    assert execute(["profile", "tiny.yaml", "fuse=off"]) == 0
    assert [len(cells) for cells in profiled] == [1]
