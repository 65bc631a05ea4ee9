"""The benchmark for a GPU runs anywhere in small; what it cannot say without CUDA is listed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDS_CUDA = {
    "a_compiled_step_is_the_eager_one",
    "a_gpu_error_is_told_from_other_errors",
    "an_epoch_does_not_wait_for_the_device",
    "memory_that_runs_out_halves_the_step_and_goes_on",
    "two_processes_share_a_gpu",
}


def test_every_stage_runs_in_small_without_a_gpu(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu" / "run.py"), "--device", "cpu", "--tiny"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path), "--scale-limits", "6"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {
        path.stem.removeprefix("tiny-"): json.loads(path.read_text()) for path in tmp_path.glob("*.json")
    }
    assert found.keys() == {"correct", "trial", "step"}
    results = {name: check["result"] for name, check in found["correct"]["checks"].items()}
    assert {name for name, result in results.items() if result != "passed"} == NEEDS_CUDA, results
    assert found["trial"]["off"]["test_images_per_seed"] > 0
    assert found["step"]["fused_over_separate_at_batch_4"] > 0
    methods = found["step"]["methods"]
    assert not {name for name, figures in methods.items() if "error" in figures}, methods
