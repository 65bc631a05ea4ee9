"""MLflow's server on SQLite and on PostgreSQL, gone in the middle of what it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "tracking"
MODULES = ("databases", "run", "story")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """``benchmarks/tracking``; other benchmarks have modules of these names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:
        sys.modules.pop(name, None)
    import run

    yield run
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_all_arrives_once_although_the_server_was_gone(benchmark: ModuleType, database: str) -> None:
    if (lacking := benchmark.missing(database)) is not None:
        pytest.skip(lacking)
    found = benchmark.measure(database, trials=20, outage=5.0)
    assert (found["held"]["runs"], found["held"]["twice"]) == (80, 0), "measure has compared the rest"
    assert found["server_away_s"] >= 5.0
