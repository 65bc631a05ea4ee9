"""The checks of benchmarks/gpu on a CUDA device, one test each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"
for path in (FOLDER, FOLDER.parent / "step_speed"):
    sys.path.append(str(path))

from checks import Bench  # noqa: E402
from made import Size  # noqa: E402
from stage_correct import CHECKS  # noqa: E402  (what it imports fills them)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture(scope="module")
def bench() -> Any:
    return Bench("cuda", Size())


@pytest.mark.parametrize("name", CHECKS)
def test_check(name: str, bench: Any) -> None:
    CHECKS[name](bench)
