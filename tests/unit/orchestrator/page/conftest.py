"""A study that nobody trained, with all that a page can show, and names that would break a careless page."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.reports.page.evidence import Evidence, PageOptions
from orchestrator.reports.page.make import make_page

TASKS = ("photo & film", "<script>alert('task')</script>")
CLASSES = ("cat", "<script>alert(1)</script>", 'dog "&" co', "a,b\nc")
SEEDS = ("1", "2", "3")
START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class MadeStudy:
    """Records in a folder."""

    store: StudyStore
    ledger: Ledger

    def page(self, **wanted: Any) -> str:
        """The page, as ``orchestrator report`` writes it."""
        pair, made = [(self.store, self.ledger)], "2026-05-04 13:00 UTC"
        return make_page(pair, PageOptions(**wanted), made=made, thumbnails=grey).html

    def evidence(self, **wanted: Any) -> Evidence:
        return Evidence(self.store, self.ledger, PageOptions(**wanted))

    def open(self, name: str, storage: str) -> tuple[StudyStore, Ledger]:
        """The records as a check opens them: anew."""
        return StudyStore(storage, name), Ledger(storage)


def grey(evidence: Evidence, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """In place of opening the images."""
    return {
        (task, sample): f"data:image/webp;base64,{number}aa" for number, (task, sample) in enumerate(wanted)
    }


Make = Callable[..., MadeStudy]


@pytest.fixture
def make_study(tmp_path: Path) -> Make:
    """Makes studies; ``trials`` of them, of which every third is stopped early."""

    def make(
        trials: int = 7, *, name: str = "made", root: Path = tmp_path / "runs", **more: Any
    ) -> MadeStudy:
        return build(root, name, trials, **more)

    return make


@pytest.fixture
def made(make_study: Make) -> MadeStudy:
    """One of seven trials."""
    return make_study()


def build(
    root: Path, name: str, trials: int, *, epochs: int = 4, looked: bool = True, predicted: bool = True
) -> MadeStudy:
    """A study with its cells, all of them made up, the same for the same arguments."""
    store, ledger = StudyStore(root, name), Ledger(root)
    draw = random.Random(7)
    store.save_study(
        {
            "name": name,
            "description": "made <b>up</b> & never trained",
            "dataset": {"name": "folder", "root": "/data/R&D"},
            "backbone": {"model": "ViT-B-16-quickgelu", "pretrained": "openai"},
            "method": "mmap",
            "splits": [{"shots": 3, "percent": None}],
            "seeds": [{"draw": int(seed), "train": int(seed)} for seed in SEEDS],
            "protocol": "search",
            "precision": "fp32",
            "storage": str(root),
            "search": {"trials": trials, "hours": 2.0, "gpu_hours": None},
            "tracking": {"uri": "https://user:secret@mlflow.example", "backend": None},
        },
        {"manifest": "0f" * 16, "fingerprint": "ab" * 16},
    )
    for seed in SEEDS:
        parts = {
            task: {
                "train": [f"{task}/{i}" for i in range(6)],
                "validation": [f"{task}/v{i}" for i in range(4)],
                "test": {"images": 20, "sha256": "c0ffee" * 10},
            }
            for task in TASKS
        }
        store.save_draw(f"3-shot_seed{seed}", {"dataset": "0f" * 16, "tasks": parts})
    clock = START
    for number in range(trials):
        level = 0.5 + 0.2 * draw.random()
        point = _point(draw, number)
        stopped = number % 3 == 2
        reached = epochs // 2 if stopped else epochs
        cells, curves = [], []
        for seed in SEEDS:
            values = [level - 0.1 / (e + 1) + draw.gauss(0, 0.01) for e in range(reached)]
            key = f"{name}{number:05d}{seed}"
            cells.append(_cell(key, seed, draw))
            curves.append(values)
            if not stopped:
                _commit(ledger, key, seed, values, draw, predicted)
        means = [sum(column) / len(column) for column in zip(*curves, strict=True)]
        begun, clock = clock, clock + timedelta(seconds=10)
        store.save_trial(
            TrialRecord(
                number=number,
                state="pruned" if stopped else "complete",
                params={"lr": point["recipe"]["lr"]},
                distributions={"lr": LOG},
                point=point,
                cells=cells,
                epochs=[
                    {"epoch": e + 1, "mean": mean, "values": [curve[e] for curve in curves]}
                    for e, mean in enumerate(means)
                ],
                value=None if stopped else means[-1],
                parameters=1000 * (1 + number % 4),
                share=0.0001 * (1 + number % 4),
                device_seconds=9.5,
                attempts=1,
                created_at=_stamp(begun),
                started_at=_stamp(begun),
                ended_at=_stamp(clock),
                attributes={
                    "held": [{"slot": str(number % 2), "start": _stamp(begun), "end": _stamp(clock)}]
                },
            )
        )
    _references(store, ledger, name, draw)
    if looked:
        for number in (n for n in range(trials) if n % 3 != 2):
            _look(store, ledger, [f"{name}{number:05d}{seed}" for seed in SEEDS], draw)
        _look(store, ledger, [f"{name}-zero-{seed}" for seed in SEEDS], draw)
    store.save_invocation(
        Invocation(
            id="20260504120000-0a1b",
            command="orchestrator sweep made.yaml 'name=<script>alert(2)</script>'",
            started_at=_stamp(START),
            ended_at=_stamp(clock),
            outcome="complete",
            trained=["a", "b"],
            timing={"total": 75.0, "start_up": 4.5, "training": 50.0, "evaluation": 12.0},
            provenance={"python": "3.11.7", "versions": {"torch": "2.13.0"}, "commit": "0123abc"},
            held=[
                {
                    "item": "probe-1",
                    "slot": "0",
                    "start": _stamp(START),
                    "end": _stamp(START + timedelta(seconds=3)),
                }
            ],
        )
    )
    store.save_spending("20260504120000-0a1b", {"seconds": 75.0, "device_seconds": 66.5, "gpu_seconds": 36.0})
    return MadeStudy(store, ledger)


LOG = json.dumps(
    {"name": "FloatDistribution", "attributes": {"step": None, "low": 0.001, "high": 0.1, "log": True}}
)


def _point(draw: random.Random, number: int) -> dict[str, Any]:
    return {
        "method": "mmap",
        "settings": {"prompt_length": 2 + 2 * (number % 3), "scale_init": None if number % 2 else 0.02},
        "recipe": {"lr": 10 ** draw.uniform(-3, -1), "epochs": 4},
        "grouping": {"similarity": draw.choice(["dot", "cosine"])},
    }


def _cell(key: str, seed: str, draw: random.Random) -> dict[str, Any]:
    partition = draw.choice([[[0], [1]], [[0, 1]]])
    return {"key": key, "split": "3-shot", "seed": seed, "partition": partition, "parameters": 1000}


def _commit(
    ledger: Ledger, key: str, seed: str, values: list[float], draw: random.Random, predicted: bool
) -> None:
    history = [
        {
            "epoch": e + 1,
            "accuracy": value,
            "tasks": _by_task(value),
            "seconds": {"train": 1.0, "evaluate": 0.5},
        }
        for e, value in enumerate(values)
    ]
    files = {"history.json": _document({"epochs": history})}
    if predicted:
        tasks = [{"name": task, "classes": list(CLASSES)} for task in TASKS]
        files["prompts.json"] = json.dumps({"tasks": tasks}).encode()
        files["predictions.parquet"] = predictions(draw)
    record = {
        "metrics": {"accuracy": values[-1], "tasks": _by_task(values[-1])},
        "cell": {
            "seeds": {"draw": int(seed), "train": int(seed)},
            "dataset": "0f" * 16,
            "backbone": "ab" * 16,
        },
        "seconds": {"train": 4.0, "evaluate": 2.0},
        "grouping": {
            "partition": [[0], [1]],
            "score": 2.5,
            "second": [[0, 1]],
            "margin": 0.5 + draw.random(),
            "similarity": [[1.5, draw.random()], [draw.random(), 2.5]],
            "snapshots": 3,
            "agreement": 2 / 3,
            "bootstrap": 0.9,
            "notes": ["the number of groups was <b>set</b>"],
        },
        "provenance": {"device": "cpu", "device_name": "x86_64", "threads": 1},
    }
    ledger.commit(key, record, files)


def _by_task(value: float) -> dict[str, dict[str, float]]:
    return {task: {"accuracy": value + (0.05 if i else -0.05)} for i, task in enumerate(TASKS)}


def _document(content: dict[str, Any]) -> bytes:
    from orchestrator.ledger.documents import encode

    return encode(content)


def predictions(draw: random.Random, images: int = 12) -> bytes:
    """Per-image predictions of all tasks, in the columns of ``mmap_model.training.predictions``."""
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for task in TASKS:
        for i in range(images):
            label, guess = i % len(CLASSES), draw.randrange(len(CLASSES))
            if draw.random() < 0.5:
                guess = label
            sure = 0.3 + 0.69 * draw.random()
            rest = [c for c in range(len(CLASSES)) if c != guess]
            rows["task"].append(task)
            rows["sample"].append(f"{task}/v{i}<.png")
            rows["label"].append(label)
            rows["top_classes"].append([guess, *rest])
            rows["top_probabilities"].append([sure, *[(1 - sure) / len(rest)] * len(rest)])
            rows["nll"].append(0.1 if guess == label else 2.0)
    sink = io.BytesIO()
    pq.write_table(pa.table(rows, schema=SCHEMA), sink)
    return sink.getvalue()


SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("sample", pa.string()),
        ("label", pa.int32()),
        ("top_classes", pa.list_(pa.int32())),
        ("top_probabilities", pa.list_(pa.float32())),
        ("nll", pa.float32()),
    ]
)


def _references(store: StudyStore, ledger: Ledger, name: str, draw: random.Random) -> None:
    cells = []
    for seed in SEEDS:
        key, value = f"{name}-zero-{seed}", 0.4 + draw.gauss(0, 0.01)
        cells.append({"key": key, "split": "3-shot", "seed": seed, "partition": None, "parameters": 0})
        ledger.commit(key, {"metrics": {"accuracy": value, "tasks": _by_task(value)}}, {})
    row = {"state": "complete", "point": {"method": "zero_shot"}, "cells": cells, "parameters": 0}
    store.save_baseline("zero_shot", {**row, "share": 0.0, "device_seconds": 1.5})


def _look(store: StudyStore, ledger: Ledger, keys: list[str], draw: random.Random) -> None:
    for key in keys:
        value = 0.5 + 0.1 * draw.random()
        ledger.commit_test(key, {"metrics": {"accuracy": value, "tasks": _by_task(value)}}, {})
    store.record_test_evaluation(reason="the end of <i>the sweep</i>", keys=keys)


def _stamp(moment: datetime) -> str:
    return moment.isoformat()
