"""A pool whose clock stands still; lets the tests beside it import the modules beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.slots.pool import Pool

sys.path.insert(0, str(Path(__file__).parent))

from pool_words import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(clock: Clock) -> Pool:
    return Pool(clock=clock, patience=60.0, deaths=3)
