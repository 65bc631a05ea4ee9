"""Trials of a study of one's own; lets the tests beside it import the modules beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.study import load_plan

sys.path.insert(0, str(Path(__file__).parent))

from trial_harness import Harness


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Harness]:
    def make(trials: int = 4, name: str = "unit", **options: Any) -> Harness:
        overrides = [f"storage={tmp_path / 'runs'}", f"search.trials={trials}", f"name={name}"]
        return Harness(load_plan("demo", overrides), **options)

    return make
