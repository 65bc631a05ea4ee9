"""The benchmark for a GPU runs anywhere in small; what it cannot say without CUDA is listed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STAGES = {"correct", "trial", "step", "evaluate", "accuracy"}
RAY_NEEDS_CUDA = {"both_slots_work_on_the_gpu", "slots_keep_to_their_share_of_memory"}
NEEDS_CUDA = {
    "a_compiled_step_is_the_eager_one",
    "a_replayed_step_is_the_eager_one",
    "a_gpu_error_is_told_from_other_errors",
    "a_step_takes_the_memory_that_was_planned",
    "an_epoch_does_not_wait_for_the_device",
    "decoding_on_the_gpu_is_that_of_the_cpu",
    "steps_of_every_method_can_be_replayed",
    "memory_that_runs_out_halves_the_step_and_goes_on",
    "training_in_bf16_costs_no_accuracy",
    "two_processes_share_a_gpu",
}


BENCHMARKS = (ROOT / "benchmarks" / "gpu", ROOT / "benchmarks" / "step_speed")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script with its stages in this process, which has torch.

    Other benchmarks have modules of these names.
    """
    names = [path.stem for folder in BENCHMARKS for path in folder.glob("*.py")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS[0]), *sys.path])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    import run as script

    def start(options: Namespace, name: str, path: Path) -> int:
        return int(script.perform(Namespace(**{**vars(options), "stage": name})))

    monkeypatch.setattr(script, "start", start)
    yield script
    for name in names:
        sys.modules.pop(name, None)


def run(out: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, what was printed, and results by stage, each of which has a process of its own."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu" / "run.py"), "--device", "cpu", "--tiny"]
    done = subprocess.run(
        [*command, "--out", str(out), *options],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, results(out)


def results(out: Path) -> dict[str, Any]:
    return {path.stem.removeprefix("tiny-"): json.loads(path.read_text()) for path in out.glob("*.json")}


def test_every_stage_runs_in_small_without_a_gpu(
    here: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run.py", "--device", "cpu", "--tiny", "--skip", "ray", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    assert here.main() == 0, capsys.readouterr().out
    found = results(tmp_path)
    assert found.keys() == STAGES
    assert all(stage["complete"] for stage in found.values())
    checks = {
        name: check["result"] for stage in found.values() for name, check in stage.get("checks", {}).items()
    }
    assert {name for name, result in checks.items() if result != "passed"} == NEEDS_CUDA, checks
    assert found["trial"]["off"]["test_images_per_seed"] > 0
    assert found["step"]["fused_over_separate_at_batch_4"] > 0
    methods = found["step"]["methods"]
    assert not {name for name, figures in methods.items() if "error" in figures}, methods
    assert found["evaluate"]["encoder"]["features_over_encode_image"] > 0
    monkeypatch.setattr(sys, "argv", [*command, "--skip-done"])
    assert here.main() == 0
    said = capsys.readouterr().out
    assert all(f"{stage}: done before" in said for stage in STAGES), said


def test_a_stage_cut_off_keeps_what_it_had_and_runs_again(tmp_path: Path) -> None:
    (tmp_path / "tiny-evaluate.json").write_text(json.dumps({"complete": False, "checks": {}}))
    code, said, found = run(tmp_path, "--only", "evaluate", "--skip-done", "--scale-limits", "1e-6")
    assert code == 1, said
    assert "ended with exit code 124" in found["evaluate"]["error"]
    assert "complete" not in found["evaluate"] and isinstance(found["evaluate"]["said"], list)


def test_pytest_has_a_test_for_every_check(here: ModuleType) -> None:
    from checks import CHECKS
    from stage_correct import measure

    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", "-m", "gpu", "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert measure and len(CHECKS) > 15
    assert all(f"test_checks.py::test_check[{name}]" in done.stdout for name in CHECKS), done.stdout


def test_what_a_later_run_brings_stands_beside_what_is_there(
    here: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cost

    monkeypatch.setattr(cost, "HERE", tmp_path)
    for name, complete in {
        "first": {"step": True, "trial": True},
        "second": {"step": False, "ray": True},
    }.items():
        (tmp_path / name).mkdir()
        for stage, whole in complete.items():
            about = {"card": "NVIDIA H200", "complete": whole, "from": name}
            (tmp_path / name / f"{stage}.json").write_text(json.dumps(about))
        kept = json.loads(cost.take(tmp_path / name).read_text())
    assert {stage: about["from"] for stage, about in kept.items()} == {
        "step": "first",
        "trial": "first",
        "ray": "second",
    }


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_on_two_slots_loses_nothing_with_a_killed_worker(tmp_path: Path) -> None:
    code, said, found = run(tmp_path, "--only", "ray", "--scale-limits", "6")
    assert code == 0, said
    checks = {name: check["result"] for name, check in found["ray"]["checks"].items()}
    assert {name for name, result in checks.items() if result != "passed"} == RAY_NEEDS_CUDA, checks
    assert len(found["ray"]["results"]["trials"]) == 2
