"""Whole trainings: the cells of one trial as one batch, on any commit of this repository.

Run by ``run.py`` as a process of its own with the repository to measure on the path; trains once for every
line on standard input.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmap_model.backbone import Backbone, BackboneSpec, load_backbone, random_backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.data import Dataset, DatasetSpec, TaskInfo, open_dataset
from mmap_model.data.augment import Augmentation
from mmap_model.methods.mmap import MmapSettings
from mmap_model.training import FusedRun

OFFICE_HOME = {"tasks": 4, "classes": 65, "shots": 6}


class Noise(Dataset):
    """Images of noise, as many as a trial of Office-Home's size looks at."""

    name = "noise"
    manifest = "0" * 32

    def __init__(self, side: int, tasks: int, classes: int, per_class: int) -> None:
        self.image_size = side
        names = tuple(f"thing {c}" for c in range(classes))
        self.tasks = tuple(TaskInfo(f"task {t}", names) for t in range(tasks))
        self._labels = np.repeat(np.arange(classes), per_class)
        generator = torch.Generator().manual_seed(0)
        shape = (len(self._labels), 3, side, side)
        self._pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)

    def labels(self, task: str) -> Any:
        return self._labels

    def sample_ids(self, task: str) -> list[str]:
        return [f"{task}/{n}" for n in range(len(self._labels))]

    def images(self, task: str, indices: Any, size: int | None = None) -> torch.Tensor:
        return self._pixels[torch.from_numpy(np.asarray(indices))]

    def training_images(self, task: str, indices: Any, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images(task, indices), torch.full((len(indices), 2), self.image_size)

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation()


def main() -> None:
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    make = {"demo": demo, "office_home": office_home}[spec["what"]]
    cells, backbone, dataset = make(spec)
    print(json.dumps({"cells": len(cells)}), flush=True)
    for _ in sys.stdin:
        print(
            json.dumps(trained(lambda: FusedRun(cells, backbone, dataset, device=spec["device"]))), flush=True
        )


def trained(start: Callable[[], FusedRun]) -> dict[str, Any]:
    """Seconds of a training of all cells with an evaluation after each epoch, and the mean NLL at its end."""
    began = time.perf_counter()
    reports = list(start().epochs())
    seconds = time.perf_counter() - began
    last = reports[-1].cells.values()
    phases = [cell["seconds"] for report in reports for cell in report.cells.values()]
    return {
        "seconds": seconds,
        "value": float(np.mean([cell["nll"] for cell in last])),
        "training_seconds": sum(phase["train"] for phase in phases),
        "peak": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "added": 0,
    }


def demo(spec: dict[str, Any]) -> tuple[list[Cell], Backbone, Dataset]:
    """The first trial of the packaged study ``demo``: three seeds, three shots, five epochs."""
    settings = MmapSettings(prompt_length=4, source_rows=4, source_cols=32)
    cells = _cells(settings, Split(shots=3), largest_shots=12)
    return cells, load_backbone(BackboneSpec(model="symbols")), open_dataset(DatasetSpec(name="symbols"))


def office_home(spec: dict[str, Any]) -> tuple[list[Cell], Backbone, Dataset]:
    """A trial of Office-Home's size: three seeds, six shots, five epochs of 24 steps, a random ViT-B/16."""
    size = {"tasks": 2, "classes": 3, "shots": 2} if spec["tiny"] else OFFICE_HOME
    shape = {} if spec["tiny"] else spec["shape"]
    backbone = random_backbone(quick_gelu=True, device=spec["device"], **shape)
    dataset = Noise(backbone.image_size, size["tasks"], size["classes"], 2 * size["shots"] + 1)
    settings = MmapSettings(prompt_length=2, source_rows=2, source_cols=8) if spec["tiny"] else MmapSettings()
    tasks = tuple(range(size["tasks"]))
    half = len(tasks) // 2
    cells = _cells(
        settings,
        Split(shots=size["shots"]),
        partition=(tasks[:half], tasks[half:]),
        precision=spec["precision"],
    )
    return cells, backbone, dataset


def _cells(settings: MmapSettings, split: Split, **more: Any) -> list[Cell]:
    more = {"partition": ((0, 1), (2, 3)), **more}
    configuration = Configuration(
        method="mmap", settings=settings, recipe=Recipe(), partition=more.pop("partition")
    )
    return [
        Cell(
            configuration=configuration,
            split=split,
            seeds=Seeds.both(seed),
            dataset="0" * 32,
            backbone="b",
            **more,
        )
        for seed in (1, 2, 3)
    ]


if __name__ == "__main__":
    main()
