"""Step → loss and epoch → evaluation of short trainings as text: a change of the code leaves them alone.

After a change that is meant to alter training (then a `Revision` says for which cells), write them anew with

    MMAP_WRITE_GOLDEN=1 uv run pytest tests/golden
"""

import os
from pathlib import Path

import numpy as np
import pytest

from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.methods.mmap import MmapSettings
from mmap_model.training import FusedRun
from mmap_model.training.step import TrainingStep

LOSSES, EVALUATIONS = (Path(__file__).parent / name for name in ("losses", "evaluations"))
TASKS = ("art", "photo", "sketch")
METRICS = ("accuracy", "nll")
COLUMNS = [f"seed{seed}.{task}" for seed in (1, 2) for task in TASKS]

CASES = {
    "mmap": (
        "train",
        MmapSettings(prompt_length=4, source_rows=2, source_cols=8),
        Recipe(epochs=3, batch_size=4, lr=0.05),
        [((0, 1), (2,)), ((0,), (1,), (2,))],
    ),
    "mmap_clipped_mean": (
        "train",
        MmapSettings(prompt_length=2, source_rows=2, source_cols=16, scale_init=0.02, modules="task"),
        Recipe(epochs=3, batch_size=4, lr=0.5, clip_norm=0.05, loss_reduction="mean", augment=False),
        [((0, 1, 2),), ((0, 1, 2),)],
    ),
    "probe": (
        "probe",
        MmapSettings(prompt_length=4, source_rows=4, source_cols=8, modules="group", positions="assembled"),
        Recipe(epochs=3, batch_size=4, lr=0.05),
        [((0, 1, 2),), ((0, 1, 2),)],
    ),
}


@pytest.fixture(scope="module")
def dataset(pattern_dataset):
    classes = {"mug": 10, "fan": 10, "desk lamp": 10, "sea turtle": 10}
    return pattern_dataset(
        {"art": ("warm", classes), "photo": ("cold", classes), "sketch": ("grey", {"fan": 10, "tv": 10})}
    )


@pytest.mark.parametrize("case", sorted(CASES))
def test_losses_are_as_recorded(case, tiny_backbone_fp64, dataset, monkeypatch):
    kind, settings, recipe, partitions = CASES[case]
    cells = [
        Cell(
            kind=kind,
            configuration=Configuration(method="mmap", settings=settings, recipe=recipe, partition=partition),
            split=Split(shots=3),
            seeds=Seeds.both(seed),
            precision="fp64",
            dataset="0" * 32,
            backbone="b",
            snapshot_every=2 if kind == "probe" else None,
        )
        for seed, partition in enumerate(partitions, 1)
    ]
    seen = []
    take = TrainingStep.take

    def recording(self, *given):
        losses = take(self, *given)
        seen.append(losses.flatten().tolist())
        return losses

    monkeypatch.setattr(TrainingStep, "take", recording)
    reports = list(FusedRun(cells, tiny_backbone_fp64, dataset).epochs())
    as_recorded(LOSSES / f"{case}.txt", "step", COLUMNS, seen)
    scored = [
        [
            report.cells[cell.key]["tasks"][task][metric]
            for cell in cells
            for task in TASKS
            for metric in METRICS
        ]
        for report in reports
    ]
    columns = [f"{column}.{metric}" for column in COLUMNS for metric in METRICS]
    as_recorded(EVALUATIONS / f"{case}.txt", "epoch", columns, scored)


def as_recorded(path, counted, columns, rows):
    if os.environ.get("MMAP_WRITE_GOLDEN"):
        lines = [" ".join([f"# {counted}", *columns])]
        lines += [" ".join([str(n), *(f"{value:.10f}" for value in row)]) for n, row in enumerate(rows, 1)]
        path.write_text("\n".join(lines) + "\n")
    recorded = np.loadtxt(path, ndmin=2)
    assert recorded[:, 0].tolist() == list(range(1, len(rows) + 1))
    np.testing.assert_allclose(recorded[:, 1:], np.array(rows), rtol=1e-6)
