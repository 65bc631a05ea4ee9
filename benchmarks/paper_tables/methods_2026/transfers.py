"""The chosen cells of a comparison on classes or a task that they were not trained on."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages import Stage

from mmap_model.errors import InputError
from orchestrator.compare.comparison import Comparison
from orchestrator.ledger import Ledger, StudyStore


def transfer(stage: Stage, storage: Path, found: Comparison, processes: int) -> None:
    """Score what is not scored yet; a file for every column and seed under ``storage/transfers``.

    Every evaluation is recorded with the comparison, as the transfer command records its own: before it is
    made, so that one cut off is recorded rather once too often.
    """
    missing = [
        (column, seed, key)
        for column, seed, key in _cells(found)
        if not _file(storage, stage, column, seed).is_file()
    ]
    if not missing:
        return
    print(f"{stage.name}: {len(missing)} cells to score on {stage.to}", flush=True)
    StudyStore(str(storage), stage.plan(storage).base.study.name).record_test_evaluation(
        reason=f"by benchmarks/paper_tables/methods_2026, on {stage.to}", keys=[key for _, _, key in missing]
    )
    folder = storage / "transfers" / stage.report
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(missing)), mp_context=context) as pool:
        waiting = {pool.submit(score, stage, storage, key): (column, seed) for column, seed, key in missing}
        for done in as_completed(waiting):
            column, seed = waiting[done]
            file = _file(storage, stage, column, seed)
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(done.result(), indent=1))
            partial.replace(file)
            print(f"  {column}, seed {seed}", flush=True)


def scores(stage: Stage, storage: Path) -> dict[str, dict[str, Any]]:
    """What was scored, by column and seed."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((storage / "transfers" / stage.report).glob("*.json")):
        column, seed = file.stem.split("@")
        found.setdefault(column, {})[seed] = json.loads(file.read_text())
    return found


def score(stage: Stage, storage: Path, key: str) -> dict[str, Any]:
    """One cell, in a process of its own: by task accuracies of the tuned model and of the plain CLIP."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    from orchestrator.exporting.choice import Chosen
    from orchestrator.exporting.transfer import Transfer, target_of
    from orchestrator.face.stored import Stored

    torch.set_num_threads(1)
    plan = stage.plan(storage)
    ledger = Ledger(str(storage))
    store = StudyStore(str(storage), plan.base.study.name)
    record = ledger.get_many([key])[key]
    cell = record["cell"]
    seed = str(cell["seeds"]["draw"])
    about = {"trial": 0, "key": key, "split": "", "seed": seed, "reason": "", "over_seeds": None}
    chosen = Chosen(record=record, **about)
    stored = Stored(plan.base.study, store, ledger)
    assert stage.to is not None, "only such stages are scored"
    target = target_of(stored, stage.to, lambda: replace(plan.base.study.dataset, tasks=None))
    try:
        found = Transfer(stored, [chosen], target).scores()
    except InputError as error:
        return {"refused": str(error)}
    return {
        "tasks": [
            {"task": one.task, "tuned": dict(one.tuned), "plain": dict(one.plain), "images": one.images}
            for one in found[seed]
        ]
    }


def _cells(found: Comparison) -> Iterator[tuple[str, str, str]]:
    """Columns with numbers, the seeds whose start did not fail, and their cells."""
    for entry in found.entries:
        if entry.recipe == "tuned" and entry.lr is not None:
            for seed, key in entry.cells.items():
                if seed not in entry.failed_starts:
                    yield entry.column, seed, key


def _file(storage: Path, stage: Stage, column: str, seed: str) -> Path:
    return storage / "transfers" / stage.report / f"{column}@{seed}.json"
