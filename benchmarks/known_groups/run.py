"""Trains the probes of ten seeds on tasks whose groups are known, and MmAP on several partitions.

    python benchmarks/known_groups/run.py                              # both CLIPs, probes, then partitions
    python benchmarks/known_groups/run.py --only probe --seeds 1,2     # a part of it
    python benchmarks/known_groups/run.py --device cuda --fuse 10      # all seeds at once
    python benchmarks/known_groups/judge.py                            # judges what is there

Everything is kept under results/ as soon as it is there, by its cell's key: the same command goes on.
Needs of this repository `mmap_model` alone. What is trained stands in study.yaml.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from kept import Kept, plain

from mmap_model.backbone import Backbone, load_backbone
from mmap_model.backbone_spec import BackboneSpec
from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Partition, Recipe, Seeds, Split
from mmap_model.data import Dataset, DatasetSpec, open_dataset
from mmap_model.grouping import GramStack, probe_configuration, resolve_partition
from mmap_model.methods import get_method
from mmap_model.plain import from_plain
from mmap_model.symbols import CLIP_DIR, LONG_CLIP_DIR, known_partition
from mmap_model.training import FusedRun

HERE = Path(__file__).resolve().parent
CLIPS = {"symbols": CLIP_DIR, "symbols_long": LONG_CLIP_DIR}
PARTITIONS = ("true", "found", "random", "single", "alone")
"""What MmAP is trained on: the known groups; those found by the probe of the same seed; groups of the same
sizes drawn at random; all tasks in one group; every task in a group of its own."""


class Benchmark:
    """The study's cells on one CLIP, and where their results lie."""

    def __init__(self, clip: str, out: Path, device: str, *, tiny: bool) -> None:
        study = yaml.safe_load((HERE / "study.yaml").read_text(encoding="utf-8"))
        self.kept = Kept(out / f"{clip}.jsonl")
        self.device, self.tiny = device, tiny
        self.dataset: Dataset = open_dataset(DatasetSpec(**study["dataset"]))
        spec = BackboneSpec(model=f"local-dir:{CLIPS[clip]}")
        self.backbone: Backbone = load_backbone(spec, device=device)
        self.split = Split(**study["splits"][0])
        self.largest_shots = study["largest_shots"]
        self.settings = get_method("mmap").Settings(**study["settings"])
        self.recipe = Recipe(**study["recipe"])
        self.grouping = from_plain(Grouping, study["grouping"], "study.yaml: grouping")
        if tiny:
            self.split, self.recipe = Split(shots=1), replace(self.recipe, epochs=1, warmup_epochs=0)
            short = replace(self.grouping.probe.recipe, epochs=1, warmup_epochs=0)
            probe = replace(self.grouping.probe, recipe=short, snapshot_every=1)
            self.grouping = replace(self.grouping, probe=probe, snapshot_every=1)

    def probe(self, seed: int) -> Cell:
        point = Point(method="mmap", settings=self.settings, recipe=self.recipe, grouping=self.grouping)
        configuration = probe_configuration(self.grouping, point, tasks=len(self.dataset.tasks))
        every = self.grouping.probe.snapshot_every
        return replace(self._cell(configuration, seed), kind="probe", snapshot_every=every)

    def trained(self, on: str, seed: int) -> Cell:
        configuration = Configuration(
            method="mmap", settings=self.settings, recipe=self.recipe, partition=self._partition(on, seed)
        )
        return self._cell(configuration, seed)

    def _cell(self, configuration: Configuration, seed: int) -> Cell:
        return Cell(
            configuration=configuration,
            split=self.split,
            seeds=Seeds.both(seed),
            largest_shots=self.largest_shots,
            dataset=self.dataset.manifest,
            backbone=self.backbone.fingerprint,
        )

    def _partition(self, on: str, seed: int) -> Partition:
        tasks = len(self.dataset.tasks)
        truth = known_partition()
        match on:
            case "true":
                return truth
            case "found":
                grams = self.kept.grams(self.probe(seed))
                return resolve_partition(self.grouping, grams, tasks=tasks, train_seed=seed).partition
            case "random":
                drawn = Grouping(mode="random", groups=len(truth))
                return resolve_partition(drawn, None, tasks=tasks, train_seed=seed).partition
            case "single":
                return (tuple(range(tasks)),)
            case _:
                return tuple((task,) for task in range(tasks))

    def run(self, what: str, cells: Sequence[Cell], machine: dict[str, str]) -> None:
        """Train cells as one batch and keep what each leaves."""
        started = time.monotonic()
        run = FusedRun(cells, self.backbone, self.dataset, device=self.device)
        *_, last = run.epochs()
        results = run.finish()
        seconds = (time.monotonic() - started) / len(cells)
        for cell in cells:
            reported = last.cells[cell.key]
            record: dict[str, Any] = {
                "what": what,
                "seed": cell.seeds.train,
                "partition": cell.configuration.partition,
                "validation": {name: numbers["accuracy"] for name, numbers in reported["tasks"].items()},
                "train_loss": reported["train_loss"],
                "seconds": round(seconds, 1),
                **machine,
            }
            if cell.kind == "probe":
                grams = GramStack.from_bytes(results[cell.key].files["gram.safetensors"])
                record["grams"] = plain(grams)
            self.kept.add(cell, record)


def batches(cells: Sequence[Cell], size: int) -> Iterator[Sequence[Cell]]:
    for start in range(0, len(cells), size):
        yield cells[start : start + size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", action="append", choices=CLIPS)
    parser.add_argument("--only", action="append", choices=("probe", *PARTITIONS))
    parser.add_argument("--seeds", default="1,2,3,4,5,6,7,8,9,10")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fuse", type=int, default=2, help="seeds that train as one batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--tiny", action="store_true", help="one shot, one epoch: to try the script")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    on_gpu = options.device.startswith("cuda")
    name = torch.cuda.get_device_name() if on_gpu else f"{options.threads} threads, {platform.machine()}"
    machine = {"machine": name, "torch": torch.__version__}
    for clip in options.clip or CLIPS:
        benchmark = Benchmark(clip, options.out, options.device, tiny=options.tiny)
        for what in options.only or ("probe", *PARTITIONS):
            cells = [
                benchmark.probe(seed) if what == "probe" else benchmark.trained(what, seed) for seed in seeds
            ]
            todo = [cell for cell in cells if cell not in benchmark.kept]
            for batch in batches(todo, options.fuse):
                started = time.monotonic()
                benchmark.run(what, batch, machine)
                print(f"{clip} {what}: {len(batch)} seeds in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
