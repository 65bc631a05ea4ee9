"""One pass over images, in a process of its own; prints one JSON document. Started by ``run.py``."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import memory
import numpy as np
import torch
from torch import Tensor

from mmap_model.preprocessing import CLIP_RESIZE

SIZE = 224
TRAIN_BATCH, TEST_BATCH = 32, 256
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BACKBONE: Any = SimpleNamespace(
    image_size=SIZE,
    device=torch.device("cpu"),
    dtype=torch.float32,
    image_mean=MEAN,
    image_std=STD,
    resize=CLIP_RESIZE,
)


def plain(root: Path, workers: int, *, train: bool) -> dict[str, Any]:
    """`torchvision.datasets.ImageFolder` behind a `DataLoader`, as tutorials have it: two epochs."""
    from torchvision import datasets, transforms
    from torchvision.transforms import InterpolationMode

    bicubic = InterpolationMode.BICUBIC
    view = (
        [transforms.RandomResizedCrop(SIZE, interpolation=bicubic), transforms.RandomHorizontalFlip()]
        if train
        else [transforms.Resize(SIZE, interpolation=bicubic), transforms.CenterCrop(SIZE)]
    )
    chain = transforms.Compose([*view, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    clock = memory.Clock()
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(root / "photo"), chain),
        batch_size=TRAIN_BATCH if train else TEST_BATCH,
        shuffle=train,
        drop_last=train,
        num_workers=workers,
        persistent_workers=True,
    )
    for _ in range(2):
        images = sum(consume(pixels) for pixels, _ in loader)
        clock.lap()
    return {"images": images, "seconds": clock.laps()}


def stored(store: Path, workers: int) -> dict[str, Any]:
    """Training epochs and evaluations through a prepared store, as a worker has them: seconds of each."""
    from mmap_model.configuration import Recipe
    from mmap_model.data import Draw, open_dataset
    from mmap_model.data.dataset import DatasetSpec
    from mmap_model.host_memory import keep_freed_memory
    from mmap_model.training.batches import TrainingBatches
    from mmap_model.training.evaluation import Evaluation
    from mmap_model.training.pixels import Normalisation

    torch.set_num_threads(workers)
    keep_freed_memory()  # as a worker that trains
    clock = memory.Clock()
    dataset = open_dataset(DatasetSpec(name="folder", store=str(store)), os.environ["MMAP_CACHE_DIR"])
    everything = np.arange(len(dataset.labels("photo")))
    draws = [[Draw(everything, everything[:0], everything[:0])]]
    batches = TrainingBatches(dataset, draws, (1,), Recipe(batch_size=TRAIN_BATCH, epochs=3), BACKBONE)
    normalise = Normalisation(BACKBONE)
    for epoch in (1, 2, 3):
        images = sum(consume(normalise(pixels.flatten(0, 2))) for pixels, _ in batches.epoch(epoch))
        clock.lap()
    evaluating = memory.Clock()
    for _ in range(3):
        parts = Evaluation(dataset, [[everything]], BACKBONE)._batches(lambda: None)
        seen = sum(consume(normalise(pixels.flatten(0, 2))) for pixels, _ in parts)
        evaluating.lap()
    assert seen == len(everything)
    return {"images": images, "seconds": clock.laps(), "evaluation_seconds": evaluating.laps()}


def opened(store: Path, go: Path) -> dict[str, Any]:
    """A worker: what opening a store of miniDomainNet's size adds to it, class list and draws included."""
    from mmap_model.cells import Cell, Configuration
    from mmap_model.configuration import Recipe, Seeds, Split
    from mmap_model.data import open_dataset
    from mmap_model.data.dataset import DatasetSpec
    from mmap_model.methods import get_method
    from mmap_model.training.replicate import draw_tasks

    before = memory.private()
    print("ready", flush=True)
    while not go.exists():
        time.sleep(0.005)
    clock = memory.Clock()
    dataset = open_dataset(DatasetSpec(name="mini_domainnet", store=str(store)), os.environ["MMAP_CACHE_DIR"])
    classes = [task.classes for task in dataset.tasks]
    cell = Cell(
        configuration=Configuration(
            method="zero_shot", settings=get_method("zero_shot").Settings(), recipe=Recipe()
        ),
        split=Split(shots=6),
        seeds=Seeds.both(1),
        dataset=dataset.manifest,
        backbone="0" * 32,
    )
    drawn = draw_tasks(cell, dataset)
    clock.lap()
    added = memory.private() - before
    for task, own in zip(dataset.tasks, drawn, strict=True):
        dataset.images(task.name, own.validation)
    return {
        "seconds": clock.wall[0],
        "processor_seconds": clock.processor[0],
        "added_mb": added,
        "added_after_reading_mb": memory.private() - before,
        "images": sum(len(dataset.labels(task.name)) for task in dataset.tasks),
        "classes": len(classes[0]),
        "drawn": sum(len(d.train) for d in drawn),
    }


class Stub:
    """In place of a model: features are channel means."""

    constant_images = False

    def class_features(self) -> Tensor:
        return torch.eye(3).repeat(42, 1)[None, None]

    def image_features(self, pixels: Tensor) -> Tensor:
        return pixels.mean((-1, -2))

    def compare(self, images: Tensor, classes: Tensor) -> Tensor:
        return images @ classes.transpose(-1, -2)


def evaluated(store: Path, side: int, per_task: int) -> dict[str, Any]:
    """Score ``per_task`` images of every task (0: all) with a stub model; peak memory of this process."""
    import resource

    from mmap_model.data import open_dataset
    from mmap_model.data.dataset import DatasetSpec
    from mmap_model.host_memory import keep_freed_memory
    from mmap_model.training.evaluation import Evaluation
    from mmap_model.training.pixels import Normalisation

    spec = DatasetSpec(name="mini_domainnet", store=str(store))
    dataset = open_dataset(spec, os.environ["MMAP_CACHE_DIR"])
    backbone: Any = SimpleNamespace(**{**vars(BACKBONE), "image_size": side})
    assert dataset.ready(side), "the evaluation view is read, not made"
    keep_freed_memory()  # as a worker that trains
    labels = [dataset.labels(task.name) for task in dataset.tasks]
    indices = [np.arange(len(own))[: per_task or None] for own in labels]
    stub: Any = Stub()
    before = memory.of_process()
    with memory.Peak(os.getpid(), 0.05) as peak:
        started = time.perf_counter()
        found = Evaluation(dataset, [indices], backbone).run(stub, Normalisation(backbone))
        seconds = time.perf_counter() - started
    return {
        "images": sum(len(p.labels) for p in found[0]),
        "seconds": seconds,
        "anonymous_before_mb": before["Pss_Anon"],
        "peak_anonymous_mb": peak.megabytes["Pss_Anon"],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "results_mb": sum(a.nbytes for p in found[0] for a in (p.labels, p.classes, p.probabilities, p.nll))
        / 1e6,
    }


def consume(pixels: Tensor) -> int:
    """What stands in for a model: it reads every number once."""
    pixels.mean()
    return len(pixels)


if __name__ == "__main__":
    torch.set_num_threads(1)
    options = json.loads(sys.argv[2])
    given = {k: Path(v) if k in ("root", "store", "go") else v for k, v in options.items()}
    role = {f.__name__: f for f in (plain, stored, opened, evaluated)}[sys.argv[1]]
    print(json.dumps(role(**given)))
