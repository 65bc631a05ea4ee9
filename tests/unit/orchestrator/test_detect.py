"""`plan --detect`: seeds that tell a difference apart, from what recorded studies varied by."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mmap_model.plain import to_plain
from orchestrator.cli.main import execute
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.statistics.power import POWER, power
from orchestrator.study import StudyPlan, load_plan
from orchestrator.study.detect import detect
from orchestrator.study.errors import StudyError


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyPlan:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text("name: tiny\nspace: [{name: learning_rate}]\nsettings: {source_cols: 32}\n")
    return load_plan("tiny.yaml")


def record(plan: StudyPlan, name: str, *, trials: int = 6, deviation: float = 0.012, **cell: Any) -> None:
    """A finished study of complete trials, on three seeds, of this plan's data and weights unless said."""
    store, ledger, rng = StudyStore(plan.study.storage, name), Ledger(plan.study.storage), random.Random(name)
    store.save_study({"name": name})
    seeds = [rng.gauss(0.5, 0.03) for _ in range(3)]
    for number in range(trials):
        cells = []
        for seed, level in enumerate(seeds, start=1):
            key = f"{name}-{number}-{seed}"
            given = {
                "kind": "train",
                "dataset": plan.data.manifest,
                "backbone": plan.fingerprint,
                "configuration": {"method": "mmap"},
                "split": to_plain(plan.study.splits[0]),
                **cell,
            }
            accuracy = level + rng.gauss(0, deviation)
            told = {"cell": given, "metrics": {"accuracy": accuracy}, "seconds": {"train": 30.0}, "epochs": 5}
            ledger.commit(key, told, {})
            cells.append({"key": key, "split": "6-shot", "seed": str(seed)})
        store.save_trial(TrialRecord(number=number, state="complete", cells=cells))


def test_seeds_follow_from_recorded_noise_at_its_upper_limit(plan: StudyPlan) -> None:
    record(plan, "first")
    record(plan, "second", trials=8)
    found = detect(plan, 1.0)
    assert found.studies == ("first", "second") and found.nu == 10 + 14
    assert 0.8 < found.noise < 1.6 and found.noise < found.noise_limit < 1.3 * found.noise
    assert found.seeds is not None and found.seeds_at_noise is not None and found.seeds > found.seeds_at_noise
    limit = found.noise_limit / 100
    assert power(0.01, limit, found.seeds) >= POWER > power(0.01, limit, found.seeds - 1)
    assert found.cells == 3 * found.seeds and found.device_hours == pytest.approx(found.cells * 30 / 3600)


def test_one_point_needs_about_25_seeds_where_the_residual_is_one_point_two(plan: StudyPlan) -> None:
    found = detect(plan, 1.0, assumed=1.2)
    assert found.seeds in range(23, 28) and found.seeds == found.seeds_at_noise
    assert found.nu is None and found.studies == () and found.device_hours is None
    assert found.shown is not None and found.shown > 4, "three seeds show little"


def test_studies_of_other_data_or_weights_do_not_count(plan: StudyPlan) -> None:
    record(plan, "elsewhere", dataset="other")
    record(plan, "heavier", backbone="other")
    with pytest.raises(StudyError, match="two complete trials on two seeds"):
        detect(plan, 1.0)
    record(plan, "alike")
    assert detect(plan, 1.0).studies == ("alike",)


@pytest.mark.parametrize(
    ("points", "assumed", "where"),
    [
        (0, 1.2, "--detect"),
        (float("nan"), 1.2, "--detect"),
        (-1, None, "--detect"),
        (1, 0, "--noise"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    plan: StudyPlan, points: float, assumed: float | None, where: str
) -> None:
    with pytest.raises(StudyError) as caught:
        detect(plan, points, assumed)
    assert caught.value.where == where and caught.value.fix


def test_the_command_says_what_it_takes_and_what_it_rests_on(
    plan: StudyPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["plan", "tiny.yaml", "--detect", "1"]) == 2
    assert "--noise 1.2" in " ".join(capsys.readouterr().err.split())
    assert execute(["plan", "tiny.yaml", "--detect", "1", "--noise", "1.2"]) == 0
    said = " ".join(capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ").split())
    assert "paired t-test, 5 % two-sided, 80 % power" in said and "as assumed" in said
    assert "3 finalists × 1 split ×" in said
    record(plan, "first")
    assert execute(["plan", "tiny.yaml", "--detect", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["detect"]
    assert found["studies"] == ["first"] and found["points"] == 2 and found["gpu_hours"] == 0
    assert execute(["plan", "tiny.yaml", "--noise", "1"]) == 2


def test_a_difference_that_needs_too_many_seeds_is_said_to(
    plan: StudyPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    found = detect(plan, 0.001, assumed=5)
    assert found.seeds is None and found.cells is None
    assert execute(["plan", "tiny.yaml", "--detect", "0.001", "--noise", "5"]) == 0
    assert "more than 10 000" in capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
