"""Modules of workers are compiled once where an installation has never run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from orchestrator.slots import bytecode

NAME = "never_imported_before"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bytecode that a package will have which was installed just now."""
    package = tmp_path / NAME
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(bytecode, "IN_ORDER", (NAME,))
    return package / "__pycache__" / f"__init__.{sys.implementation.cache_tag}.pyc"


def test_what_was_never_imported_is_compiled_and_then_left_alone(installed: Path) -> None:
    process = bytecode.compile_ahead()
    assert process is not None and process.wait(60) == 0
    assert installed.exists()
    assert bytecode.compile_ahead() is None


def test_nothing_is_compiled_where_no_bytecode_is_written(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert bytecode.compile_ahead() is None
    assert not installed.exists()


@pytest.mark.parametrize("name", bytecode.IN_ORDER)
def test_what_workers_import_exists(name: str) -> None:
    assert importlib.util.find_spec(name) is not None
