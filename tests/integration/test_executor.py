"""The executor with the real training loop: a killed process is resumed bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmap_model.cells import Point
from mmap_model.configuration import Grouping, Probe, Recipe, Seeds, Split
from mmap_model.methods import get_method
from mmap_model.methods.mmap import MmapSettings
from mmap_model.methods.zero_shot import ZeroShotSettings
from orchestrator.driver.weights import KeptWeights
from orchestrator.execution.executor import Executor
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.ledger.cells import WEIGHTS
from orchestrator.rows.scoring import finalists
from orchestrator.statistics.ranking import build_results
from orchestrator.work.events import CellScored, CellsKnown, EpochReached, WorkEvent
from orchestrator.work.item import WorkItem

RECIPE = Recipe(epochs=3, batch_size=4)
SHAPE = {"prompt_length": 2, "source_rows": 2, "source_cols": 16}

KILLED = """
import json, os, signal, sys
from orchestrator.work.events import EpochReached
from orchestrator.work.item import WorkItem
from orchestrator.execution.executor import Executor
item = WorkItem.from_dict(json.loads(sys.argv[1]))
def emit(event):
    if isinstance(event, EpochReached) and event.epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
Executor(item.dataset, item.backbone, item.storage, threads=1).run(item, emit)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two domains of two classes with twelve small images each."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for domain in ("clipart", "sketch"):
        for label, name in enumerate(("anchor", "star")):
            (root / domain / name).mkdir(parents=True)
            for number in range(12):
                pixels = noise.integers(0, 128, (32, 32, 3)) + 127 * label
                Image.fromarray(pixels.astype(np.uint8)).save(root / domain / name / f"{number:02d}.png")
    return str(root)


def item_at(storage: Path, images: str, point: Point | None = None, **fields: Any) -> WorkItem:
    probe = Probe(recipe=RECIPE, snapshot_every=1, **SHAPE)
    grouping = Grouping(mode="gradient", snapshot_every=1, objective="sum", groups=1, probe=probe)
    given = {
        "item_id": "i",
        "study": "demo",
        "splits": (Split(shots=2), Split(shots=4)),
        "seeds": (Seeds.both(1), Seeds.both(2)),
        "largest_shots": 4,
        "dataset": {"name": "folder", "root": images},
        "backbone": {"model": "symbols"},
        "storage": str(storage),
    }
    default = Point(method="mmap", settings=MmapSettings(**SHAPE), recipe=RECIPE, grouping=grouping)
    return WorkItem.of(**{"point": point or default, **given, **fields})


def run(item: WorkItem) -> list[WorkEvent]:
    events: list[WorkEvent] = []
    Executor(item.dataset, item.backbone, item.storage, threads=1).run(item, events.append)
    assert events[-1].state == "complete", events[-1]
    return events


def test_a_killed_trial_resumes_bit_for_bit_and_ends_as_a_result(tmp_path: Path, images: str) -> None:
    whole = item_at(tmp_path / "whole", images, trial=0)
    uninterrupted = run(whole)

    broken = item_at(tmp_path / "broken", images, trial=0)
    command = [sys.executable, "-c", KILLED, json.dumps(broken.to_dict())]
    killed = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL
    events = run(broken)

    cells = next(e.cells for e in events if isinstance(e, CellsKnown))
    assert {c.status for c in cells} == {"resumed"} and {c.epoch for c in cells} == {1}
    ledgers = Ledger(tmp_path / "whole"), Ledger(tmp_path / "broken")
    for cell in cells:
        for name in ("prompts.safetensors", "predictions.parquet"):
            first, second = (ledger.read_file(cell.key, name) for ledger in ledgers)
            assert first == second, f"{name} differs after resuming"
    means = [[e.mean for e in told if isinstance(e, EpochReached)] for told in (uninterrupted, events)]
    assert means[0] == means[1] and len(means[0]) == 3

    store = StudyStore(tmp_path / "broken", "demo")
    store.save_study({"name": "demo"})
    store.save_trial(
        TrialRecord(number=0, state="complete", point=broken.point, cells=[c.to_dict() for c in cells])
    )
    keys = tuple(cell.key for cell in cells)
    scored = run(broken.with_(purpose="confirm", cells=keys, reason="end of sweep"))
    assert len([e for e in scored if isinstance(e, CellScored)]) == 4
    row = build_results(store, ledgers[1])["trials"][0]
    assert row["val"]["mean"] == pytest.approx(means[0][-1]) and row["val"]["n"] == 2
    assert row["test"]["n"] == 2 and set(row["tasks"]) == {"clipart", "sketch"}


def test_full_fine_tuning_keeps_the_weights_of_the_finalist_and_all_numbers(
    tmp_path: Path, images: str
) -> None:
    ledger, store = Ledger(tmp_path), StudyStore(tmp_path, "demo")
    store.save_study({"name": "demo"})
    weights, trials, items = KeptWeights(ledger, store, 1), [], []
    executor = Executor({"name": "folder", "root": images}, {"model": "symbols"}, str(tmp_path), threads=1)

    def told(item: WorkItem) -> list[WorkEvent]:
        events: list[WorkEvent] = []
        executor.run(item, events.append)
        return events

    for number, lr in enumerate((1e-4, 3e-3)):
        recipe = Recipe(epochs=2, batch_size=4, warmup_epochs=0, lr=lr)
        point = Point(method="full_ft", settings=get_method("full_ft").Settings(), recipe=recipe)
        small = {"splits": (Split(shots=2),), "seeds": (Seeds.both(1),)}
        items.append(item_at(tmp_path, images, point, trial=number, **small))
        events = told(items[-1])
        cells = [c.to_dict() for e in events if isinstance(e, CellsKnown) for c in e.cells]
        value = [e.mean for e in events if isinstance(e, EpochReached)][-1]
        trials.append(
            TrialRecord(number=number, state="complete", point=point.to_dict(), cells=cells, value=value)
        )
        store.save_trial(trials[-1])
    before = build_results(store, ledger)
    entries = {trial.number: weights_of(ledger, trial) for trial in trials}
    for trial in trials:
        weights.ended(trial)
    (winner,) = finalists(trials, 1)
    (other,) = [trial for trial in trials if trial is not winner]
    assert weights_of(ledger, winner) == entries[winner.number] and entries[winner.number]["bytes"] > 4e6
    assert weights_of(ledger, other) is None and not list(
        tmp_path.glob(f"cells/{other.keys[0]}/prompts.*safetensors")
    )
    assert build_results(store, ledger) == before
    assert all(ledger.get(key, verify=True) for trial in trials for key in trial.keys)

    confirm = items[other.number].with_(purpose="confirm", cells=tuple(other.keys))
    command = f"confirm demo --storage {tmp_path} --trial {other.number} --retrain"
    assert command in told(confirm)[-1].error
    assert told(confirm.with_(retrain=True))[-1].state == "complete"
    assert set(ledger.tests(other.keys)) == set(other.keys)
    assert weights_of(ledger, other) == entries[other.number], "trained again they are the same"


def weights_of(ledger: Ledger, trial: TrialRecord) -> dict[str, Any] | None:
    """Size and hash of what a trial's only cell trained, as far as it is there."""
    record = ledger.get(trial.keys[0], verify=True)
    assert record is not None
    return record["files"].get(WEIGHTS)  # type: ignore[no-any-return]


def test_reference_rows_with_the_real_model(tmp_path: Path, images: str) -> None:
    zero_shot = Point(method="zero_shot", settings=ZeroShotSettings(), recipe=RECIPE)
    events = run(item_at(tmp_path, images, zero_shot, purpose="baseline", test=True))
    assert len([e for e in events if isinstance(e, CellScored)]) == 4
    point = Point(
        method="mmap", settings=MmapSettings(**SHAPE), recipe=RECIPE, grouping=Grouping(mode="single")
    )
    events = run(item_at(tmp_path, images, point, purpose="baseline", untrained=True))
    assert [e.epoch for e in events if isinstance(e, EpochReached)] == [0]
    trained = run(item_at(tmp_path, images, point))
    assert [e.epoch for e in trained if isinstance(e, EpochReached)] == [1, 2, 3]
