"""The documented notebook runs from its first cell to its last, as people run it."""

from __future__ import annotations

import ast
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest

import orchestrator
from mmap_model.data.generated import write_mini_domainnet
from orchestrator.cli.main import execute
from orchestrator.study import Study

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def read() -> Any:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


def assert_it_says_what_it_was_written_for(said: Sequence[str], folder: Path) -> None:
    """What cells with code print and show, in their order, and the artefact in ``folder``."""
    run, ranking, curves, wrong, exported, predicted = said
    assert "<study 'notebook'" in run and "complete" in run
    assert "zero_shot" in ranking and "trial 0" in ranking
    assert "zero_shot" in curves and "epoch" in curves
    assert "predicted" in wrong
    assert "Checked against the recorded predictions of validation images" in exported
    assert predicted.count("image ") == 3
    winner = json.loads((folder / "winner" / "artefact.json").read_text(encoding="utf-8"))
    assert winner["source"]["study"] == "notebook" and "best of 2" in winner["source"]["reason"]


# Quick: the next one; what differs is what test_compare, test_sweep and test_earlier_study run on a real Ray.
@pytest.mark.slow
def test_the_notebook_says_what_it_was_written_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    notebook = read()
    NotebookClient(
        notebook, timeout=540, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    said = [_texts(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert_it_says_what_it_was_written_for(said, tmp_path)


def _texts(cell: Any) -> str:
    found = []
    for output in cell.outputs:
        found.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(found)


@pytest.mark.usefixtures("importable", "in_process")
def test_its_cells_say_so_in_this_process_where_an_executor_of_its_own_trains(
    tmp_path: Path,
    database: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither a kernel nor Ray: one trial of one epoch on few images, by ``run`` in place of its own."""
    from told_study import ToldStudy

    uri, planned = database("own"), list[Study]()

    def run(study: Study) -> orchestrator.OpenStudy:
        planned.append(study)
        few = ("dataset={name: mini_domainnet, root: net, tasks: [clipart, sketch]}", "splits=[{shots: 1}]")
        few += ("largest_shots=1", "recipe.epochs=1", "recipe.warmup_epochs=0", "grouping.snapshot_every=2")
        told = ToldStudy(Path("runs"), uri, *few, name=study.name)
        told.train()
        told.search(1)
        told.finish()
        assert told.close().note is None
        return orchestrator.open(study.name)

    monkeypatch.chdir(tmp_path)
    write_mini_domainnet(Path("net"), tasks=("clipart", "sketch"), classes=("ant", "dog"), per_class=9)
    monkeypatch.setattr(orchestrator, "run", run)
    names: dict[str, Any] = {}
    cells = [cell.source for cell in read().cells if cell.cell_type == "code"]
    said = [_said(source, names, capfd) for source in cells]
    assert_it_says_what_it_was_written_for(said, tmp_path)
    assert [(study.search.trials, study.recipe.epochs) for study in planned] == [(3, 2)]


def _said(source: str, names: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> str:
    """What a cell prints, and its last expression as a notebook shows it."""
    if source.startswith("!orchestrator "):
        assert execute(shlex.split(source)[1:]) == 0
        return capfd.readouterr().out
    module = ast.parse(source)
    last = module.body.pop() if isinstance(module.body[-1], ast.Expr) else None
    exec(compile(module, "notebook", "exec"), names)
    shown = eval(compile(ast.Expression(last.value), "notebook", "eval"), names) if last else None
    return capfd.readouterr().out + ("" if shown is None else repr(shown))
