"""``orchestrator run`` in this process, with an engine that only pretends to train."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmap_model.cells import Cell
from mmap_model.configuration import canonical_partition
from orchestrator.cli.main import execute
from orchestrator.ledger import Ledger
from orchestrator.ledger.cell_records import COPY, RECORD
from orchestrator.study import load_plan
from orchestrator.work.inputs import Inputs

Run = Callable[..., tuple[int, dict[str, Any]]]


class Engine:
    """Trains nothing; a cell's accuracy follows from its key."""

    device, tasks, loads = "cpu", 4, None
    batches = 0

    def __init__(self, manifest: str, fingerprint: str) -> None:
        self.manifest, self.fingerprint = manifest, fingerprint
        self.inputs = Inputs(manifest=manifest, fingerprint=fingerprint)

    def start(self, cells: Sequence[Cell]) -> Batch:
        Engine.batches += 1
        return Batch(cells)

    def is_interruption(self, error: Exception) -> bool:
        return False

    def fuses(self, point: Any) -> bool:
        return True

    def fusable(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        return [cells]

    def count(self, cell: Cell) -> int:
        return 10

    def resolve(self, grouping: Any, gram: bytes | None, train_seed: int) -> Any:
        groups = grouping.partition or [[0, train_seed], [3 - train_seed, 3]]
        return canonical_partition(groups), {}


class Batch:
    """Cells in pretended training."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._values = {cell.key: int(cell.key[:4], 16) / 16**4 for cell in cells}
        self._last = cells[0].configuration.recipe.epochs
        self.active = tuple(self._values)
        self.failed: dict[str, str] = {}
        self.epoch = 0
        self.position = None

    def epochs(self, should_stop: Callable[[], bool]) -> Iterator[tuple[int, dict[str, Any]]]:
        while self.epoch < self._last:
            self.epoch += 1
            yield (
                self.epoch,
                {key: {"accuracy": v, "tasks": {}, "seconds": {}} for key, v in self._values.items()},
            )

    def state(self) -> bytes:
        return b""

    def finish(self) -> dict[str, dict[str, Any]]:
        common = {"parameters": 10, "seconds": {"train": 0.1}, "versions": {}, "files": {}}
        return {key: {"metrics": {"accuracy": v}, **common} for key, v in self._values.items()}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "name: tiny\nseeds: [1, 2]\nspace:\n  - name: scale_init\nsettings: {source_cols: 32}\n"
        "recipe: {epochs: 2}\ngrouping: {mode: random}\n"
    )
    return path


@pytest.fixture
def run(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command on the study; its exit code and JSON."""
    plan = load_plan(str(file))
    monkeypatch.setattr(
        "orchestrator.execution.executor.ModelEngine",
        lambda *_, **__: Engine(plan.data.manifest, plan.fingerprint),
    )

    def execute_run(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = execute(["run", str(file), *arguments, "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    return execute_run


def test_it_trains_the_first_point_and_keeps_its_cells(run: Run) -> None:
    code, found = run()
    assert (code, found["state"]) == (0, "complete")
    assert set(found["cells"]) == Ledger("runs").finished()
    assert len(found["cells"]) == 2


def test_a_second_run_trains_nothing_and_tells_the_same(run: Run) -> None:
    _, first = run()
    batches = Engine.batches
    code, second = run()
    assert code == 0
    assert Engine.batches == batches
    accuracies = [
        {k: c["metrics"]["accuracy"] for k, c in found["cells"].items()} for found in (first, second)
    ]
    assert accuracies[0] == accuracies[1]


def test_set_chooses_another_point(run: Run) -> None:
    _, first = run("--set", "scale_init=null")
    _, other = run("--set", "scale_init=0.02")
    assert not set(first["cells"]) & set(other["cells"])


def test_a_cell_is_trained_again_apart_from_its_record(run: Run) -> None:
    _, first = run()
    key = min(first["cells"])
    before = Ledger("runs").get(key)
    code, again = run("--cell", key[:8])
    assert code == 0
    assert list(again["cells"]) == [key]
    assert again["cells"][key]["same_as_recorded"] is True
    assert Ledger("runs").get(key) == before


def test_lines_are_for_people(run: Run, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["run", str(file)]) == 0
    captured = capsys.readouterr()
    assert "epoch 2:" in captured.err and "seed 1" in captured.err
    assert captured.out.count("validation") == 2


def test_a_damaged_cell_is_named_and_trained_again(
    run: Run, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, first = run()
    key, batches = min(first["cells"]), Engine.batches
    for name in (RECORD, COPY):
        Path(f"runs/cells/{key}/{name}").write_text("torn")
    assert execute(["run", str(file)]) == 0
    said = capsys.readouterr().err
    assert said.count("Damaged record: ") == 1 and key in said and Engine.batches > batches


def test_cell_and_set_exclude_each_other(run: Run, file: Path) -> None:
    assert execute(["run", str(file), "--cell", "ab", "--set", "scale_init=null"]) == 2
