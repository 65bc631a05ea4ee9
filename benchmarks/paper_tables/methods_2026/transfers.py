"""The chosen cells of a comparison on classes or a task that they were not trained on."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stages import SEVERAL, Stage

from mmap_model.errors import InputError
from orchestrator.compare.comparison import Comparison
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.reports.comparison.roles import measured


def transfer(stage: Stage, storage: Path, found: Comparison, processes: int) -> None:
    """Score what is not scored yet; a file for every column and seed under ``storage/transfers``.

    Every evaluation is recorded with the comparison, as the transfer command records its own: before it is
    made, so that one cut off is recorded rather once too often.
    """
    missing = [
        (column, seed, key)
        for column, seed, key in _cells(found)
        if not _is_scored(_file(storage, stage, column, seed), key)
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
        waiting = {
            pool.submit(score, stage, storage, key, _ways(stage, column)): (column, seed)
            for column, seed, key in missing
        }
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


def score(
    stage: Stage, storage: Path, key: str, ways: Mapping[str, str] = MappingProxyType({"tasks": "mean"})
) -> dict[str, Any]:
    """One cell, in a process of its own: by task accuracies of the tuned model and of the plain CLIP.

    Args:
        ways: whose prompts classify a task left out, as of ``transfer --prompts``, by the name of the scores.
    """
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
    scored: dict[str, Any] = {"key": key}
    for name, prompts in ways.items():
        try:
            found = Transfer(stored, [chosen], target, prompts).scores()
        except InputError as error:
            return {"key": key, "refused": str(error)}
        scored[name] = [
            {
                "task": one.task,
                "tuned": dict(one.tuned),
                "plain": dict(one.plain),
                "prompts": list(one.prompts),
                "images": one.images,
            }
            for one in found[seed]
        ]
    return scored


def _cells(found: Comparison) -> Iterator[tuple[str, str, str]]:
    """Columns with numbers, the seeds whose start did not fail, and their cells."""
    for column in found.columns:
        entry = measured(found, column, found.splits[0], "tuned")
        if entry is not None and column.method != "zero_shot":
            for seed, key in entry.cells.items():
                if seed not in entry.failed_starts:
                    yield entry.column, seed, key


def _ways(stage: Stage, column: str) -> dict[str, str]:
    several = stage.kind == "without" and column in SEVERAL
    return {"tasks": "mean"} | ({"nearest": "nearest"} if several else {})


def _is_scored(file: Path, key: str) -> bool:
    """Whether a file has the scores of this cell; what was refused is tried again."""
    if not file.is_file():
        return False
    known = json.loads(file.read_text())
    return "refused" not in known and known.get("key", key) == key


def _file(storage: Path, stage: Stage, column: str, seed: str) -> Path:
    return storage / "transfers" / stage.report / f"{column}@{seed}.json"
