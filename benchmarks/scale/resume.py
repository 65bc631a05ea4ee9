"""How long does a resume take to decide what is left, on a file system that answers slowly?

    python benchmarks/scale/resume.py --cells 10000 --latency 0.005

Every call on the file system, to open, look at, read, list, write or rename something, waits for that long;
listing a folder counts once per thousand entries. What is timed is all that ``run_study`` does before it
starts Ray or finds that nothing is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Seeds
from mmap_model.revisions import revisions_of
from orchestrator.driver.draws import keep_draws
from orchestrator.driver.invocation import Options, run_invocation
from orchestrator.driver.todo import Todo, find_todo
from orchestrator.driver.unchanged import require_same_inputs
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.ledger.storage import LocalStorage
from orchestrator.ledger.storage_interface import StorageEntry
from orchestrator.study import load_plan

ENTRIES_PER_CALL = 1000


class SlowStorage(LocalStorage):
    """A folder behind a network: every call of the operating system that would cross it waits."""

    def __init__(self, root: Path, latency: float) -> None:
        super().__init__(root)
        self._latency = latency
        self._lock = threading.Lock()
        self.calls = 0

    def read(self, path: str) -> bytes | None:
        self._wait(3)  # open, fstat, read
        return super().read(path)

    def write(self, path: str, data: bytes) -> None:
        self._wait(3)  # create, write, rename
        super().write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        self._wait(4)
        return super().create(path, data)

    def delete(self, path: str) -> None:
        self._wait(2)
        super().delete(path)

    def move(self, path: str, target: str) -> None:
        self._wait(2)
        super().move(path, target)

    def names(self, folder: str) -> list[str]:
        found = super().names(folder)
        self._wait(1 + len(found) // ENTRIES_PER_CALL)
        return found

    def _scan(self, folder: str, *, hidden: bool, stat: bool) -> tuple[list[str], list[StorageEntry]]:
        folders, files = super()._scan(folder, hidden=hidden, stat=stat)
        self._wait(1 + (len(folders) + len(files)) // ENTRIES_PER_CALL + (len(files) if stat else 0))
        return folders, files

    def _wait(self, calls: int) -> None:
        with self._lock:
            self.calls += calls
        time.sleep(calls * self._latency)


def fill(root: Path, cells: int, per_trial: int = 3) -> Any:
    """A study with so many finished cells, of which some are damaged, and whose last trial still runs."""
    trials = -(-cells // per_trial)
    plan = load_plan("demo", [f"storage={root}", f"search.trials={trials + 10}"])
    store, ledger = StudyStore(root, plan.study.name), Ledger(root)
    store.save_study(plan.study.to_plain(), plan.inputs.to_dict())
    point, split = plan.study.point, plan.study.splits[0]
    partition = [[0, 1], [2, 3]]
    keys: list[str] = []
    for number in range(trials):
        recipe = replace(point.recipe, lr=0.003 + number * 1e-5)
        configuration = Configuration(
            method=point.method, settings=point.settings, recipe=recipe, partition=((0, 1), (2, 3))
        )
        named = [
            plan.cell(configuration, split, Seeds.both(seed))
            for seed in range(1, 1 + min(per_trial, cells - len(keys)))
        ]
        described = [
            {"key": cell.key, "split": split.label, "seed": cell.seeds.label, "partition": partition}
            for cell in named
        ]
        epochs = [{"epoch": e, "mean": 0.5, "values": [0.5] * per_trial} for e in range(1, 6)]
        store.save_trial(
            TrialRecord(
                number=number,
                state="complete" if number < trials - 1 else "running",
                point=replace(point, recipe=recipe).to_dict(),
                cells=[{**cell, "parameters": 10} for cell in described],
                epochs=epochs,
                value=0.5,
            )
        )
        for cell in named:
            keys.append(cell.key)
            ledger.commit(cell.key, _record(cell), {})
    for number in _torn(cells):
        _tear(root / "cells" / keys[number] / "record.json")
    for number in _lost(cells):
        _tear(root / "cells" / keys[number] / "record.copy.json")
    return plan


def _torn(cells: int) -> range:
    """Cells whose record is torn."""
    return range(0, cells - 3, 500)


def _lost(cells: int) -> range:
    """Those of them whose copy is torn too: they are trained again."""
    return _torn(cells)[::2]


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _record(cell: Cell) -> dict[str, Any]:
    """As large as that of a real cell on four tasks of 65 classes."""
    numbers = {"accuracy": 0.5, "nll": 1.5, "ece": 0.1, "macro_f1": 0.4, "per_class": [0.123456] * 65}
    tasks = dict.fromkeys(("clipart", "painting", "photo", "sketch"), numbers)
    return {
        "cell": cell.to_dict(),
        "metrics": {"accuracy": 0.5, "tasks": tasks},
        "epochs": 5,
        "seconds": {"train": 1.0, "evaluate": 1.0},
        "grouping": None,
        "revisions": revisions_of(cell),
        "provenance": {f"package_{i}": "1.2.3" for i in range(10)},
    }


def _nothing(*_: Any) -> Any:
    raise AssertionError("it was decided what is to be done, and nothing more")


def measure(root: Path, cells: int, latency: float) -> dict[str, Any]:
    """Seconds to decide, and what was decided."""
    plan = fill(root, cells)
    storage = SlowStorage(root, latency)
    store = StudyStore(storage, plan.study.name)
    found: list[Todo] = []

    def find(ledger: Ledger) -> Todo:
        require_same_inputs(plan, store)
        found.append(find_todo(plan, store, ledger, reason="", retry_failed=False))
        keep_draws(store, plan.study, plan.dataset)
        store.adopt(found[0].records)
        raise _DecidedError

    started = time.perf_counter()
    with contextlib.suppress(_DecidedError):
        run_invocation(plan, store, find, _nothing, lambda event: None, Options(tracked=False))
    seconds = time.perf_counter() - started
    (todo,) = found
    lost, torn = len(_lost(cells)), len(_torn(cells))
    assert len(todo.again) == lost + 1 and todo.new == 10, "lost cells and the running trial are seen"
    aside = len(list((root / "quarantine").iterdir()))
    assert aside == torn, "what is torn is put aside, restored from its copy where there is one"
    return {
        "cells": cells,
        "trials": len(todo.records),
        "latency_s": latency,
        "seconds": round(seconds, 2),
        "calls": storage.calls,
        "seconds_one_after_the_other": round(storage.calls * latency, 1),
        "trials_again": len(todo.again),
        "restored": torn - lost,
    }


class _DecidedError(Exception):
    """Ends ``run_invocation`` before Ray would start."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=0.005)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        json.dump(measure(Path(folder), arguments.cells, arguments.latency), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
