"""Whatever the lists of the seeds, a fused cell gets what it gets alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.data.dataset import FixedParts
from mmap_model.data.draws import draw
from mmap_model.errors import DatasetError
from mmap_model.methods.mmap import MmapSettings
from mmap_model.testing import PatternDataset
from mmap_model.training import CellResult, EpochReport, FusedRun, fusable
from mmap_model.training.batches import EpochLength, TrainingBatches
from mmap_model.training.replicate import draw_tasks

TASKS = ("art", "photo")
CLASSES = {"mug": 9, "fan": 9, "tv": 9}
PARTITIONS = (((0, 1),), ((0,), (1,)))
Lists = Mapping[tuple[str, int], FixedParts]


class ListedDataset(PatternDataset):
    """Noise with fixed lists by task and seed."""

    def __init__(self, lists: Lists) -> None:
        super().__init__(dict.fromkeys(TASKS, ("warm", CLASSES)))
        self._lists = lists

    def fixed(self, task: str, split: Split, draw_seed: int) -> FixedParts | None:
        if (task, draw_seed) not in self._lists:
            raise DatasetError(f"no list of {task} for seed {draw_seed}", fix="write one")
        return self._lists[task, draw_seed]


@st.composite
def lists(draw_from: st.DrawFn, seeds: int) -> Lists:
    """Training, validation and test lists of every task and seed, of any length."""
    images = st.permutations(range(sum(CLASSES.values())))
    found = {}
    for task in TASKS:
        for seed in range(1, seeds + 1):
            order = np.array(draw_from(images))
            train, validation = draw_from(st.integers(1, 15)), draw_from(st.integers(1, 6))
            parts = np.split(order, [train, train + validation])
            found[task, seed] = FixedParts(*(np.sort(part) for part in parts))
    return found


def cell_of(seed: int, recipe: Recipe, **changes: Any) -> Cell:
    configuration = Configuration(
        method="mmap",
        settings=MmapSettings(prompt_length=2, source_rows=1, source_cols=8),
        recipe=recipe,
        partition=PARTITIONS[seed % 2],
    )
    fields: dict[str, Any] = {
        "configuration": configuration,
        "split": Split(shots=3),
        "seeds": Seeds.both(seed),
        "precision": "fp64",
        "dataset": "0" * 32,
        "backbone": "b",
        "test_images": "given",
    }
    return Cell(**(fields | changes))


def probe_of(cell: Cell) -> Cell:
    changed = replace(
        cell.configuration,
        partition=PARTITIONS[0],
        settings=replace(cell.configuration.settings, modules="group"),
    )
    return replace(cell, kind="probe", snapshot_every=2, configuration=changed)


def trained(
    cells: list[Cell], backbone: Backbone, dataset: PatternDataset
) -> tuple[list[EpochReport], dict[str, CellResult]]:
    run = FusedRun(cells, backbone, dataset)
    reports = list(run.epochs())
    return reports, run.finish()


@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_with_lists_of_any_length_fused_cells_equal_separate_ones(
    tiny_backbone_fp64: Backbone, data: st.DataObject
) -> None:
    seeds = data.draw(st.integers(2, 4), label="seeds")
    dataset = ListedDataset(data.draw(lists(seeds), label="lists"))
    recipe = Recipe(
        epochs=2,
        batch_size=data.draw(st.sampled_from([4, 8, 32]), label="batch size"),
        lr=0.05,
        warmup_epochs=data.draw(st.integers(0, 1), label="warm-up"),
        clip_norm=data.draw(st.sampled_from([None, 0.1]), label="clip"),
        augment=data.draw(st.booleans(), label="augment"),
    )
    split = data.draw(st.sampled_from([Split(shots=3), Split(percent=30)]), label="split")
    protocol = data.draw(st.sampled_from(["search", "paper"]), label="protocol")
    cells = [cell_of(seed, recipe, split=split, protocol=protocol) for seed in range(1, seeds + 1)]
    if data.draw(st.booleans(), label="probe"):
        cells = [probe_of(cell) for cell in cells]
    groups = fusable(cells, dataset)
    assert sorted(cell.seeds.draw for group in groups for cell in group) == list(range(1, seeds + 1))
    for group in groups:
        fused, results = trained(group, tiny_backbone_fp64, dataset)
        for cell in group:
            alone, separate = trained([cell], tiny_backbone_fp64, dataset)
            for one, together in zip(alone, fused, strict=True):
                for task, row in one.cells[cell.key]["tasks"].items():
                    assert together.cells[cell.key]["tasks"][task] == pytest.approx(row, abs=1e-9)
            name = "gram.safetensors" if cell.kind == "probe" else "prompts.safetensors"
            torch.testing.assert_close(
                *(load(of[cell.key].files[name]) for of in (results, separate)), rtol=1e-9, atol=1e-9
            )


def test_only_epochs_of_one_length_are_fused() -> None:
    order = np.arange(27)

    def parts(train: int) -> FixedParts:
        return FixedParts(order[:train], order[train : train + 2], order[20:])

    lengths = {1: 12, 2: 13, 3: 16, 4: 3, 5: 12}
    dataset = ListedDataset({(task, seed): parts(n) for seed, n in lengths.items() for task in TASKS})
    recipe = Recipe(batch_size=4)
    cells = [cell_of(seed, recipe) for seed in (*lengths, 6)]
    groups = [[cell.seeds.draw for cell in group] for group in fusable(cells, dataset)]
    assert groups == [[1, 2, 5], [3], [4], [6]], "seed 6 has no lists: it fails alone"
    draws = [draw_tasks(cell, dataset) for cell in cells[:3]]
    assert [EpochLength.of(own, recipe) for own in draws] == [EpochLength(n, 4) for n in (3, 3, 4)]


def test_a_batch_of_epochs_that_differ_in_length_is_refused(tiny_backbone_fp64: Backbone) -> None:
    order = np.arange(27)
    draws = [[FixedParts(order[:n], order[20:], None)] * 2 for n in (8, 12)]
    dataset = ListedDataset({})
    with pytest.raises(AssertionError, match="epochs of one length"):
        TrainingBatches(dataset, draws, (1, 2), Recipe(batch_size=4), tiny_backbone_fp64)  # type: ignore[arg-type]


def test_without_lists_all_seeds_are_one_batch(pattern_dataset: Any) -> None:
    dataset = pattern_dataset(dict.fromkeys(TASKS, ("warm", CLASSES)))
    cells = [cell_of(seed, Recipe(), test_images="drawn") for seed in (1, 2, 3)]
    assert fusable(cells, dataset) == [cells]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.one_of(
        st.builds(lambda n: Split(shots=n), st.integers(1, 12)),
        st.builds(lambda p: Split(percent=p), st.floats(1, 99)),
    ),
    st.sampled_from(["search", "paper"]),
)
def test_draws_give_every_seed_as_many_images(counts: list[int], split: Split, protocol: Any) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    names = [f"class {n}" for n in range(len(counts))]
    sizes = set()
    for seed in range(4):
        drawn = draw(
            labels, dataset="d", task="t", classes=names, split=split, draw_seed=seed, protocol=protocol
        )
        sizes.add((len(drawn.train), len(drawn.validation), len(drawn.test)))
    assert len(sizes) == 1
