"""Exporting on a cluster: as a Ray job, records on a real S3, the artefact there too.

uv run pytest -m slow tests/integration/test_export.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmap_model.backbone_spec import BackboneSpec
from orchestrator.exporting.publishing import working_folder
from orchestrator.ledger import StudyStore, TrialRecord
from orchestrator.study import StudyPlan, load_plan
from orchestrator.work.events import CellsKnown, Done, WorkEvent

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def train(plan: StudyPlan) -> None:
    """One complete trial, by the work of a worker in this process."""
    from orchestrator.execution.workbench import Workbench

    store = StudyStore(plan.study.storage, plan.study.name)
    store.save_study(plan.study.to_plain(), plan.inputs.to_dict())
    point = plan.space.replay(plan.space.preset())
    item, events = plan.work_item(point, item_id="trial-0", trial=0), list[WorkEvent]()
    bench = Workbench(item.dataset, item.backbone, item.storage, precision=item.precision)
    bench.run(item, events.append)
    assert isinstance(events[-1], Done) and events[-1].state == "complete", events[-1]
    (known,) = (event for event in events if isinstance(event, CellsKnown))
    cells: list[dict[str, Any]] = [
        {"key": cell.key, "split": cell.split, "seed": cell.seed, "partition": cell.partition}
        for cell in known.cells
    ]
    given = {"number": 0, "state": "complete", "point": point.to_dict(), "cells": cells}
    store.save_trial(TrialRecord.from_dict(given))


def test_a_job_exports_from_an_object_store_to_it(importable: None, tiny_study: Path, tmp_path: Path) -> None:
    from head import head_node
    from object_store import bucket

    import mmap_model

    with bucket(tmp_path) as uri, head_node(cpus=2, python_path=str(ROOT)) as head:
        plan = load_plan(str(tiny_study), [f"storage={uri}"])
        train(plan)
        target = uri.replace("/runs?", "/winner?")
        environment = {**head.environment(RAY_API_SERVER_ADDRESS=head.address), "RAY_AUTH_MODE": "token"}
        submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", str(ROOT)]
        command = ["python", "-m", "orchestrator", "export", plan.study.name, "--format", "classifier"]

        def run(*options: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*submit, "--", *command, *options], env=environment, capture_output=True, text=True
            )

        relative = run("--storage", uri, "--out", "winner")
        assert relative.returncode != 0 and "outlives the job" in relative.stdout + relative.stderr
        made = run("--storage", uri, "--out", target, "--check")
        said = made.stdout + made.stderr
        assert made.returncode == 0 and "Checked against the recorded predictions" in said, said[-3000:]
        with working_folder(target, again=True) as folder:
            assert json.loads((folder / "artefact.json").read_text())["source"]["study"] == plan.study.name
            backbone = BackboneSpec(plan.study.backbone.model, plan.study.backbone.pretrained)
            classifier = mmap_model.load(folder, backbone=backbone)
            assert len(classifier.tasks) == 2
