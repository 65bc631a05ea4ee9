"""The documented notebook runs from its first cell to its last, as people run it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def test_the_notebook_says_what_it_was_written_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(
        notebook, timeout=540, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    said = [_texts(cell) for cell in notebook.cells if cell.cell_type == "code"]
    run, ranking, curves, wrong, exported, predicted = said
    assert "<study 'notebook'" in run and "complete" in run
    assert "zero_shot" in ranking and "trial 0" in ranking
    assert "zero_shot" in curves and "epoch" in curves
    assert "predicted" in wrong
    assert "Checked against the recorded predictions of validation images" in exported
    assert predicted.count("image ") == 3
    winner = json.loads((tmp_path / "winner" / "artefact.json").read_text(encoding="utf-8"))
    assert winner["source"]["study"] == "notebook" and "best of 2" in winner["source"]["reason"]


def _texts(cell: Any) -> str:
    found = []
    for output in cell.outputs:
        found.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(found)
