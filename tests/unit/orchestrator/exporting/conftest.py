"""Studies on made photographs: trained for real, by the work of a worker in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from orchestrator.execution.executor import Executor
from orchestrator.face.stored import Stored, find_stored
from orchestrator.ledger import StudyStore, TrialRecord
from orchestrator.study import load_plan
from orchestrator.work.events import CellsKnown, Done, WorkEvent

TASKS, CLASSES, IMAGES = ("photo", "sketch"), ("anchor", "bell", "key"), 7

Train = Callable[..., Stored]


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of 40 to 600 pixels a side, ``<task>/<class>/<image>``."""
    root = tmp_path_factory.mktemp("photographs")
    for t, task in enumerate(TASKS):
        for c, name in enumerate(CLASSES):
            folder = root / task / name
            folder.mkdir(parents=True)
            for number in range(IMAGES):
                rng = np.random.Generator(np.random.PCG64([t, c, number]))
                height, width = rng.integers(40, 600, 2)
                coarse = rng.integers(0, 160, (9 + c, 7 + 3 * t, 3), dtype=np.uint8)
                image = Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.NEAREST)
                image.save(folder / f"{number}.jpg", quality=92)
    return root


@pytest.fixture(scope="session")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """A study of one complete trial with two seeds, by method, settings and further keys of its file."""

    def train(method: str = "mmap", settings: Mapping[str, Any] | None = None, **keys: Any) -> Stored:
        folder = tmp_path_factory.mktemp(f"study-{method}")
        grouping = {"grouping": {"mode": "fixed", "partition": [[0, 1]]}} if method in GROUPED else {}
        study = {
            "name": "made",
            "dataset": {"name": "folder", "root": str(photographs)},
            "storage": str(folder / "runs"),
            "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
            "splits": [{"shots": 2}],
            "seeds": [1, 2],
            "method": method,
            "settings": dict(settings or SETTINGS.get(method, {})),
            "recipe": {"epochs": 2, "batch_size": 2, "lr": 0.02},
            "space": [],
            "slots": {"count": 1},
            **grouping,
            **keys,
        }
        path = folder / "made.yaml"
        path.write_text(yaml.safe_dump(study), encoding="utf-8")
        plan = load_plan(str(path))
        store = StudyStore(plan.study.storage, "made")
        store.save_study(plan.study.to_plain(), plan.inputs.to_dict())
        point = plan.space.replay(plan.space.preset())
        item = plan.work_item(point, item_id="trial-0", trial=0)
        events: list[WorkEvent] = []
        Executor(item.dataset, item.backbone, item.storage, precision=item.precision).run(item, events.append)
        done = events[-1]
        assert isinstance(done, Done) and done.state == "complete", done
        (known,) = (event for event in events if isinstance(event, CellsKnown))
        cells = [
            {name: getattr(cell, name) for name in ("key", "split", "seed", "partition", "parameters")}
            for cell in known.cells
        ]
        given = {"number": 0, "state": "complete", "point": point.to_dict(), "cells": cells}
        store.save_trial(TrialRecord.from_dict(given))
        return find_stored(str(path), None)

    return train


GROUPED = ("mmap", "mlp", "joint")
SETTINGS: dict[str, dict[str, Any]] = {
    "mmap": {"prompt_length": 2, "source_rows": 2, "source_cols": 8},
    # The small CLIP has four layers and none of the words of CLIP's own templates.
    "promptsrc": {"depth": 2, "anchors": "a photo of a {}."},
}
