"""Fused cells with the real training loop: what befalls one seed, or is asked by it, changes no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from PIL import Image

from mmap_model.cells import Point
from mmap_model.configuration import Grouping, Recipe, Seeds, Split
from mmap_model.methods.mmap import MmapSettings
from mmap_model.methods.mmap.module import MmapModel
from mmap_model.training import FusedRun
from orchestrator.execution.executor import Executor
from orchestrator.ledger import InFlight, Ledger
from orchestrator.work.events import CellFailure, CellsKnown, WorkEvent
from orchestrator.work.item import WorkItem

T = TypeVar("T")


EPOCHS, TASKS, CLASSES = 4, ("clipart", "sketch"), ("anchor", "star")


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two domains of two classes with twelve small images each."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for task in TASKS:
        for label, name in enumerate(CLASSES):
            (root / task / name).mkdir(parents=True)
            for number in range(12):
                pixels = noise.integers(0, 128, (32, 32, 3)) + 127 * label
                Image.fromarray(pixels.astype(np.uint8)).save(root / task / name / f"{number:02d}.png")
    return str(root)


def write_lists(folder: Path, shots: dict[int, int]) -> str:
    """Lists of some seeds: as many training images of each class as ``shots`` says, the same test images."""
    for task in TASKS:
        (folder / task).mkdir(parents=True)
        for seed, count in shots.items():
            parts = {"train": range(count), "validation": (7, 8), "test": range(9, 12)}
            for part, numbers in parts.items():
                lines = [
                    f"{task}/{c}/{n:02d}.png {label}\n" for label, c in enumerate(CLASSES) for n in numbers
                ]
                (folder / task / f"{part}_2-shot_seed{seed}.txt").write_text("".join(lines))
    return str(folder)


def item_at(storage: Path, dataset: dict[str, Any], **fields: Any) -> WorkItem:
    point = Point(
        method="mmap",
        settings=MmapSettings(prompt_length=2, source_rows=2, source_cols=16),
        recipe=Recipe(epochs=EPOCHS, batch_size=4, lr=0.05),
        grouping=Grouping(mode="random", groups=1),
    )
    given: dict[str, Any] = {
        "item_id": "i",
        "study": "demo",
        "splits": (Split(shots=2),),
        "seeds": tuple(Seeds.both(seed) for seed in (1, 2, 3)),
        "dataset": {"name": "folder", **dataset},
        "backbone": {"model": "symbols"},
        "storage": str(storage),
    }
    return WorkItem.of(point, **(given | fields))


def run(item: WorkItem) -> list[WorkEvent]:
    events: list[WorkEvent] = []
    executor = Executor(item.dataset, item.backbone, item.storage, threads=1, precision=item.precision)
    executor.run(item, events.append)
    return events


def told(events: list[WorkEvent], kind: type[T]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


def test_a_kill_after_a_seed_diverged_costs_at_most_one_epoch(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, save = FusedRun._train, Ledger.save_inflight
    trained: list[int] = []

    def poisoned(self: FusedRun, sgd: Any, epoch: int, should_stop: Callable[[], bool]) -> Any:
        if epoch == 2:
            with torch.no_grad():
                next(iter(self._model.parameters()))[1] = float("nan")
        trained.append(epoch)
        return train(self, sgd, epoch, should_stop)

    def killed(self: Ledger, state: InFlight) -> str:
        if state.epoch == 4:
            raise Killed
        return save(self, state)

    monkeypatch.setattr(FusedRun, "_train", poisoned)
    monkeypatch.setattr(Ledger, "save_inflight", killed)
    item = item_at(tmp_path / "runs", {"root": images})
    with pytest.raises(Killed):
        run(item)
    monkeypatch.setattr(Ledger, "save_inflight", save)
    events = run(item)
    cells = told(events, CellsKnown)[0].cells
    assert [(cell.status, cell.epoch) for cell in cells] == [
        ("resumed", 3),
        ("failed", 0),
        ("resumed", 3),
    ]
    assert trained == [1, 2, 3, 4, 4]
    assert [event.failure for event in told(events, CellFailure)] == ["nan"]
    ledger = Ledger(item.storage)
    assert ledger.finished() == {cells[0].key, cells[2].key}
    assert ledger.failed() == {cells[1].key} and ledger.inflight_batches() == []


@pytest.mark.parametrize("protocol", ["search", "paper"])
def test_divergence_that_only_logits_show_ends_its_seed_alone(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    compare = MmapModel.compare

    def broken(model: MmapModel, *features: torch.Tensor) -> torch.Tensor:
        logits = compare(model, *features)
        if not model.training and model.replicates > 1:
            logits[1, 0, 0, 0] = float("nan")
        return logits

    monkeypatch.setattr(MmapModel, "compare", broken)
    item = item_at(tmp_path / "runs", {"root": images}, protocol=protocol)
    events = run(item)
    keys = [cell.key for cell in told(events, CellsKnown)[0].cells]
    assert [(e.key, e.failure) for e in told(events, CellFailure)] == [(keys[1], "nan")]
    assert Ledger(item.storage).finished() == {keys[0], keys[2]}
    monkeypatch.setattr(FusedRun, "_train", None)
    again = run(item)
    assert [c.status for c in told(again, CellsKnown)[0].cells] == ["finished", "failed", "finished"]


def test_seeds_with_lists_of_other_lengths_get_what_they_get_alone(tmp_path: Path, images: str) -> None:
    """Seed 4 has no lists at all: it fails, and nobody else does."""
    lists = write_lists(tmp_path / "lists", {1: 2, 2: 5, 3: 2})
    found = {}
    for fuse in ("auto", "off"):
        dataset = {"root": images, "lists": lists}
        seeds = tuple(Seeds.both(seed) for seed in (1, 2, 3, 4))
        fields: dict[str, Any] = {"precision": "fp64", "test_images": "given", "fuse": fuse, "seeds": seeds}
        item = item_at(tmp_path / fuse, dataset, **fields)
        events = run(item)
        keys = [cell.key for cell in told(events, CellsKnown)[0].cells]
        assert [(e.key, e.failure) for e in told(events, CellFailure)] == [(keys[3], "data")]
        found[fuse] = Ledger(item.storage).get_many(keys)
        assert list(found[fuse]) == keys[:3]
    beside = [record["fused_with"] for record in found["auto"].values()]
    assert beside == [[keys[2]], [], [keys[0]]]
    for key in keys[:3]:
        fused, alone = (found[fuse][key]["metrics"] for fuse in ("auto", "off"))
        for metric in ("nll", "accuracy", "train_loss"):
            assert fused[metric] == pytest.approx(alone[metric], abs=1e-9)
