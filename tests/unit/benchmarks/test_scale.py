"""What benchmarks/scale replaces of the software, and what it times, is there under that name."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark's module; others may have some of the same names."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "scale"))
    names = ("sweep", "meters")
    for name in names:
        sys.modules.pop(name, None)
    import sweep

    yield sweep
    for name in names:
        sys.modules.pop(name, None)


def test_what_it_times_is_there(sweep: ModuleType) -> None:
    from orchestrator.driver.session import Session

    for owner, method, _ in sweep.watched():
        assert callable(getattr(owner, method, None)), f"{owner.__name__}.{method}"
    assert callable(Session._take_one)  # it listens there


def test_its_slots_have_all_that_a_crew_asks_of_slots(sweep: ModuleType) -> None:
    from orchestrator.driver import crew

    tree = ast.parse(Path(crew.__file__).read_text(encoding="utf-8"))
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("slots", "self._slots")
    }
    assert "open" in asked
    assert [name for name in sorted(asked) if not hasattr(sweep.StubSlots, name)] == []
    assert crew.ResidentSlots.__name__ == "ResidentSlots"
