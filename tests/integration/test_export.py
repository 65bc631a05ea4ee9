"""Exporting on a cluster: as a Ray job, records on a real S3, the artefact there too.

uv run pytest -m slow tests/integration/test_export.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmap_model.backbone_spec import BackboneSpec
from orchestrator.exporting.publishing import working_folder
from orchestrator.study import load_plan

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def test_a_job_exports_from_an_object_store_to_it(importable: None, tiny_study: Path, tmp_path: Path) -> None:
    from head import head_node
    from object_store import bucket
    from trained_study import train

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
